// SIGTERM, SIGINT and SIGUSR1 ask a run to finish its step, write a checkpoint and exit with Exit::stopped. A second
// SIGTERM or SIGINT ends the process at once.
#pragma once

#include "parallel/process_grid.hpp"

namespace spikefloss {

// Installs the handlers for its lifetime.
class StopSignal {
public:
    StopSignal();
    ~StopSignal();
    // Whether any rank was asked to stop. Collective, so that all ranks stop after the same step.
    bool asked(const ProcessGrid& grid) const;
};

}  // namespace spikefloss
