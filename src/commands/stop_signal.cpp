#include "commands/stop_signal.hpp"

#include <csignal>
#include <cstdlib>

#include <unistd.h>

namespace spikefloss {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

// Only sets a flag: everything else waits for the end of the step.
void on_signal(int signal) {
    if (stop_asked && signal != SIGUSR1) _exit(128 + signal);
    stop_asked = 1;
}

}  // namespace

StopSignal::StopSignal() {
    stop_asked = 0;
    for (int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, on_signal);
}

StopSignal::~StopSignal() {
    for (int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, SIG_DFL);
}

bool StopSignal::asked(const ProcessGrid& grid) const {
    std::int64_t flag = stop_asked;
    grid.control().all_reduce_sum(&flag, Scalar::int64, 1);
    return flag > 0;
}

}  // namespace spikefloss
