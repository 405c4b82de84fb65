// SIGTERM, SIGINT and SIGUSR1 ask a run to finish its step, write a checkpoint and exit with Exit::stopped. A second
// SIGTERM or SIGINT ends the process at once.
#pragma once

#include "parallel/process_grid.hpp"

namespace spikefloss {

// Installs the handlers, until the process ends. To be called before anything that takes time, MPI_Init too: a
// scheduler may signal at any moment.
void listen_for_stop();

// Whether any rank was asked to stop. Collective, so that all ranks stop after the same step.
bool stop_asked(const ProcessGrid& grid);

}  // namespace spikefloss
