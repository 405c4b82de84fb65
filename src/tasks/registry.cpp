// Tasks by name, and what all tasks have in common.
#include "tasks/factories.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {

namespace {

struct Entry {
    const char* name;
    TaskFactory* make;
};

constexpr Entry tasks[] = {
    {"delayed_copy", make_delayed_copy},
    {"delayed_xor", make_delayed_xor},
    {"cue_recall", make_cue_recall},
    {"images", make_images},
};

}  // namespace

Index Batch::terms_per_sequence() const {
    if (loss == LossKind::softmax_cross_entropy) return 1;
    return static_cast<Index>(std::count_if(mask.begin(), mask.end(), [](float m) { return m != 0; })) * outputs;
}

std::unique_ptr<Task> make_task(const TaskSettings& settings) {
    std::string names;
    for (const Entry& entry : tasks) {
        if (settings.name == entry.name) return entry.make(settings);
        names += (names.empty() ? "" : ", ") + std::string(entry.name);
    }
    throw Error(Exit::usage, fmt::format("task.name = \"{}\" is not a task", settings.name), "choose one of " + names);
}

}  // namespace spikefloss
