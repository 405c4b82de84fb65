#include "commands/stop_signal.hpp"

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include <unistd.h>

namespace spikefloss {
namespace {

volatile std::sig_atomic_t asked = 0;

struct Signal {
    const char* name;
    int number;
};
constexpr Signal known[] = {
    {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"HUP", SIGHUP}, {"XCPU", SIGXCPU}};

// Only sets a flag: everything else waits for the end of the step.
void on_signal(int signal) {
    if (asked && (signal == SIGTERM || signal == SIGINT)) _exit(128 + signal);
    asked = 1;
}

}  // namespace

void listen_for_stop() {
    for (int signal : {SIGTERM, SIGINT, SIGUSR1}) std::signal(signal, on_signal);
}

void listen_for_stop(const std::vector<std::string>& signals) {
    for (const Signal& signal : known)
        if (std::find(signals.begin(), signals.end(), signal.name) != signals.end())
            std::signal(signal.number, on_signal);
        else if (signal.number == SIGTERM || signal.number == SIGUSR1)
            std::signal(signal.number, SIG_DFL);
}

bool stop_asked(const ProcessGrid& grid) {
    std::int64_t flag = asked;
    grid.control().all_reduce_sum(&flag, Scalar::int64, 1);
    return flag > 0;
}

}  // namespace spikefloss
