#include "commands/stop_signal.hpp"

#include <csignal>
#include <cstdlib>

#include <unistd.h>

namespace spikefloss {
namespace {

volatile std::sig_atomic_t asked = 0;

// Only sets a flag: everything else waits for the end of the step.
void on_signal(int signal) {
    if (asked && signal != SIGUSR1) _exit(128 + signal);
    asked = 1;
}

}  // namespace

void listen_for_stop() {
    for (int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, on_signal);
}

bool stop_asked(const ProcessGrid& grid) {
    std::int64_t flag = asked;
    grid.control().all_reduce_sum(&flag, Scalar::int64, 1);
    return flag > 0;
}

}  // namespace spikefloss
