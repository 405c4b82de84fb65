// When to floss: how many flossing steps come before a training step, and when flossing ends permanently.
#pragma once

#include "core/choices.hpp"
#include "train/training_state.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

namespace spikefloss {

struct Band {
    double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
    bool contains(double x) const { return low <= x && x <= high; }
};

struct FlossingScheduleOptions {
    std::int64_t before = 0;          // flossing steps before training
    std::vector<std::int64_t> at;     // training steps before which to floss ...
    std::int64_t at_steps = 0;        // ... for this many flossing steps
    std::int64_t every = 0;           // training steps between flossing steps, or between joint steps; 0: none
    double joint_weight = 0.0;        // > 0: `every` adds the penalty with this weight to the task's loss instead
    std::int64_t adaptive_every = 0;  // training steps between measurements; 0: never
    std::int64_t adaptive_steps = 0;  // most flossing steps after one measurement
    AdaptiveQuantity adaptive_quantity = AdaptiveQuantity::exponent;
    Band adaptive_band;
    double adaptive_progress =
        0.0;  // no bout when the running loss fell by more than this fraction since the last decision; 0: off
    std::int64_t stop_step = 0;  // no flossing from this training step on; 0: never
    double stop_accuracy = 0.0;  // no flossing while the running accuracy exceeds this; 0: off
    bool has_stop_band = false;
    Band stop_band;  // flossing ends permanently when lambda_1 is inside
};

class FlossingSchedule {
public:
    explicit FlossingSchedule(FlossingScheduleOptions options) : options_(std::move(options)) {}

    bool enabled() const;
    // Decides which flossing steps come before the next training step (progress.step are done). Sets floss_pending,
    // adaptive_pending and adaptive_loss. `measure` returns the adaptive quantity. It is called at most once, on all
    // ranks or on none.
    void decide(Progress& progress, const std::function<double()>& measure) const;
    // Whether the next training step has the penalty as a second loss.
    bool joint(const Progress& progress) const;
    // Whether the adaptive quantity is back in its band, so that the rest of an adaptive bout is skipped.
    bool settled(double quantity) const { return options_.adaptive_band.contains(quantity); }
    // Whether a stop rule ends flossing permanently.
    bool over(double lambda_1) const { return options_.has_stop_band && options_.stop_band.contains(lambda_1); }
    const FlossingScheduleOptions& options() const { return options_; }

private:
    bool paused(const Progress& progress) const;
    bool learning(const Progress& progress) const;
    FlossingScheduleOptions options_;
};

}  // namespace spikefloss
