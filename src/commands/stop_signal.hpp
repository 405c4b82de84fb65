// SIGINT and the signals of run.stop_signals (by default SIGUSR1, SIGTERM and SIGHUP) end a run after its step: it
// writes a checkpoint and exits with Exit::stopped. After one SIGTERM or SIGINT, a SIGINT ends the process at once, and
// so does a SIGTERM that comes more than three seconds later: schedulers send several for one request.
#pragma once

#include "core/choices.hpp"
#include "parallel/process_grid.hpp"

#include <vector>

namespace spikefloss {

// Installs the handlers of the default signals. Call it before anything that takes time, also before MPI_Init: a
// scheduler may send a signal at any moment.
void listen_for_stop();
// Handles SIGINT and these signals until the process ends; the others have their default effect. A SIGHUP that
// is ignored when the program starts (nohup) stays ignored.
void listen_for_stop(const std::vector<StopSignal>& signals);

// A run does not end if the reader of standard output or standard error goes away (head, a closed terminal): its log
// has the same text.
void outlive_readers();

// Whether any rank got a signal to stop. Collective, so that all ranks stop after the same step.
bool stop_asked(const ProcessGrid& grid);

}  // namespace spikefloss
