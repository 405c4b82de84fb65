// Everything that a run needs to go on where it stopped, in host memory. A checkpoint holds it.
#pragma once

#include "network/parameters.hpp"

#include <cstdint>
#include <vector>

namespace spikefloss {

// First and second moments, laid out as the parameters (SGD uses only the first, as its velocity).
struct OptimiserState {
    std::vector<float> first, second;  // [layout.size()]
    std::int64_t updates = 0;
};

struct Progress {
    std::int64_t step = 0;              // training steps done
    std::int64_t floss_steps = 0;       // flossing steps done
    std::int64_t floss_pending = -1;    // flossing steps still to do before the next training step; -1: not decided yet
    std::int64_t adaptive_pending = 0;  // after these, at most this many, until the adaptive quantity is in its band
    double adaptive_loss = 0.0;         // the running loss when the adaptive schedule last decided
    bool flossing_over = false;         // a stop rule has ended flossing for good
    double running_accuracy = 0.0;      // exponential mean (0.95) over training steps
    double running_loss = 0.0;
    double seconds = 0.0;           // of training until now, over all sessions
    double flossing_seconds = 0.0;  // of them, in flossing and in the measurements that decide on it
    std::int64_t best_step = -1;    // training steps of the network that was best on validation data; -1: none yet
    double best_accuracy = 0.0;     // of this network, on these data
    double best_loss = 0.0;
};

struct TrainingState {
    HostNetwork network;
    OptimiserState task, floss;
    Progress progress;
};

}  // namespace spikefloss
