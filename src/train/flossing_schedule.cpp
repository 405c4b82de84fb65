#include "train/flossing_schedule.hpp"

#include <algorithm>

namespace spikefloss {

bool FlossingSchedule::enabled() const {
    return options_.before > 0 || !options_.at.empty() || options_.every > 0 || options_.adaptive_every > 0;
}

bool FlossingSchedule::paused(const Progress& progress) const {
    return progress.flossing_over || (options_.stop_step > 0 && progress.step >= options_.stop_step) ||
           (options_.stop_accuracy > 0.0 && progress.running_accuracy > options_.stop_accuracy);
}

// Whether the task's loss has fallen since the last decision of the adaptive schedule; false before the first training
// step.
bool FlossingSchedule::learning(const Progress& progress) const {
    return options_.adaptive_progress > 0.0 &&
           progress.running_loss < (1.0 - options_.adaptive_progress) * progress.adaptive_loss;
}

void FlossingSchedule::decide(Progress& progress, const std::function<double()>& measure) const {
    progress.floss_pending = progress.adaptive_pending = 0;
    if (paused(progress)) return;
    // Several schedules may be on at once; their steps add up.
    if (progress.step == 0) progress.floss_pending += std::max<std::int64_t>(0, options_.before - progress.floss_steps);
    if (std::find(options_.at.begin(), options_.at.end(), progress.step) != options_.at.end())
        progress.floss_pending += options_.at_steps;
    if (options_.every > 0 && options_.joint_weight == 0.0 && progress.step % options_.every == 0)
        progress.floss_pending += 1;
    if (options_.adaptive_every > 0 && progress.step % options_.adaptive_every == 0) {
        if (!learning(progress) && !settled(measure())) progress.adaptive_pending = options_.adaptive_steps;
        progress.adaptive_loss = progress.running_loss;
    }
}

bool FlossingSchedule::joint(const Progress& progress) const {
    return !paused(progress) && options_.every > 0 && options_.joint_weight > 0.0 &&
           progress.step % options_.every == 0;
}

}  // namespace spikefloss
