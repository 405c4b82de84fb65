// SIGINT and the signals of run.stop_signals (by default SIGUSR1, SIGTERM and SIGHUP) ask a run to finish its step,
// write a checkpoint and exit with Exit::stopped. After one SIGTERM or SIGINT, a SIGINT ends the process at once, and
// so does a SIGTERM that comes more than three seconds later: schedulers send several for one request.
#pragma once

#include "parallel/process_grid.hpp"

#include <string>
#include <vector>

namespace spikefloss {

// Installs the handlers of the default signals. To be called before anything that takes time, MPI_Init too: a scheduler
// may signal at any moment.
void listen_for_stop();
// From now on for SIGINT and these signals ("USR1"), until the process ends; others do what they do by default. A
// SIGHUP that is ignored when the program starts (nohup) stays so.
void listen_for_stop(const std::vector<std::string>& signals);

// A reader of standard output or standard error that goes away (head, a closed terminal) is no reason to end: what a
// run prints is in its log, too.
void outlive_readers();

// Whether any rank was asked to stop. Collective, so that all ranks stop after the same step.
bool stop_asked(const ProcessGrid& grid);

}  // namespace spikefloss
