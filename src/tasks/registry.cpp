// Tasks by name, and what all tasks have in common.
#include "tasks/factories.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {

namespace {

struct Entry {
    TaskKind name;
    TaskFactory* make;
};

constexpr Entry tasks[] = {
    {TaskKind::delayed_copy, make_delayed_copy},
    {TaskKind::delayed_xor, make_delayed_xor},
    {TaskKind::cue_recall, make_cue_recall},
    {TaskKind::images, make_images},
};

}  // namespace

Index Batch::terms_per_sequence() const {
    if (loss == LossKind::softmax_cross_entropy) return 1;
    return static_cast<Index>(std::count_if(mask.begin(), mask.end(), [](float m) { return m != 0; })) * outputs;
}

std::unique_ptr<Task> make_task(const TaskSettings& settings) {
    for (const Entry& entry : tasks)
        if (settings.name == entry.name) return entry.make(settings);
    throw Error(Exit::internal, fmt::format("task {} has no factory", name_of(settings.name)));
}

}  // namespace spikefloss
