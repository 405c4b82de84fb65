// Tasks by name, and what all tasks have in common.
#include "tasks/factories.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {

namespace {

struct Entry {
    TaskKind name;
    TaskSteps* steps;
    TaskFactory* make;
};

constexpr Entry tasks[] = {
    {TaskKind::delayed_copy, delayed_bits_steps, make_delayed_bits},
    {TaskKind::delayed_xor, delayed_bits_steps, make_delayed_bits},
    {TaskKind::cue_recall, cue_recall_steps, make_cue_recall},
    {TaskKind::images, images_steps, make_images},
    {TaskKind::sequences, sequences_steps, nullptr},
};

const Entry& entry_of(TaskKind name) {
    for (const Entry& entry : tasks)
        if (entry.name == name) return entry;
    throw Error(Exit::internal, fmt::format("task {} has no row", name_of(name)));
}

}  // namespace

Index Batch::terms(Index counted) const {
    if (takes_labels(loss)) return counted;
    Index marked = 0;
    for (Index t = 0; t < steps; ++t)
        for (Index s = 0; s < counted; ++s) marked += mask[static_cast<std::size_t>(t * sequences + s)] != 0.0f;
    return marked * outputs;
}

LossKind chosen_loss(LossKind wanted, LossKind own, const std::string& where) {
    if (wanted == LossKind::automatic) return own;
    require(takes_labels(wanted) == takes_labels(own), Exit::usage,
            fmt::format("{} {} needs {}, but the data have {}", where, name_of(wanted),
                        takes_labels(wanted) ? "labels" : "targets", takes_labels(own) ? "labels" : "targets"),
            takes_labels(own) ? "choose auto or a cross_entropy loss"
                              : "choose auto, binary_cross_entropy or mean_squared_error");
    return wanted;
}

Index task_steps(const TaskSettings& settings) { return entry_of(settings.name).steps(settings); }

std::unique_ptr<Task> make_task(const TaskSettings& settings) {
    task_steps(settings);
    const Entry& entry = entry_of(settings.name);
    require(entry.make, Exit::internal, fmt::format("task {} is made by open_task", name_of(settings.name)));
    return entry.make(settings);
}

Index whole_steps(double time, double dt, const std::string& key) {
    const double ratio = time / dt, steps = std::round(ratio);
    require(ratio <= 2147483647.0, Exit::usage,
            fmt::format("{} = {} ms is more than 2^31 steps of network.dt = {} ms", key, time, dt),
            "choose a shorter time or a larger network.dt");
    // 0.3 / 0.1 is not exactly 3 in floating point, so a difference of a few units in the last place is accepted.
    require(std::abs(ratio - steps) <= 1e-9 * std::max(1.0, ratio), Exit::usage,
            fmt::format("{} = {} ms is not a whole number of steps of network.dt = {} ms", key, time, dt),
            fmt::format("choose for example {}", std::max(1.0, steps) * dt));
    return static_cast<Index>(steps);
}

void require_different_rates(const TaskSettings& s) {
    require(s.rate_active != s.rate_silent, Exit::usage,
            fmt::format("task.rate_active and task.rate_silent are both {}, so the input has no information",
                        s.rate_active),
            "choose different rates");
}

}  // namespace spikefloss
