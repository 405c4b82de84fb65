#include "commands/stop_signal.hpp"

#include <algorithm>
#include <csignal>
#include <ctime>

#include <unistd.h>

namespace spikefloss {
namespace {

// A SIGTERM this soon after the first belongs to the same request: Slurm, srun and mpirun each pass on a scancel.
constexpr int seconds_of_one_request = 3;

volatile std::sig_atomic_t asked = 0;
// When the first SIGTERM or SIGINT came, in seconds of a clock that never goes back; 0: not yet.
volatile std::sig_atomic_t first_seconds = 0;

// Only sets flags. Everything else happens after the step.
void on_signal(int signal) {
    asked = 1;
    if (signal != SIGTERM && signal != SIGINT) return;
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const auto seconds = static_cast<std::sig_atomic_t>(now.tv_sec);
    if (!first_seconds)
        first_seconds = std::max(seconds, 1);
    else if (signal == SIGINT || seconds - first_seconds > seconds_of_one_request)
        _exit(128 + signal);
}

bool is_ignored(int signal) {
    struct sigaction action;
    return sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

// nohup ignores SIGHUP for the program that it starts: the run then continues when the terminal closes.
void listen(int signal) {
    if (signal != SIGHUP || !is_ignored(SIGHUP)) std::signal(signal, on_signal);
}

}  // namespace

void listen_for_stop() {
    for (int signal : {SIGTERM, SIGINT, SIGUSR1, SIGHUP}) listen(signal);
}

void listen_for_stop(const std::vector<StopSignal>& signals) {
    for (const auto& [signal, name] : choices<StopSignal>)
        if (const int number = static_cast<int>(signal);
            std::find(signals.begin(), signals.end(), signal) != signals.end())
            listen(number);
        else if (!is_ignored(number))
            std::signal(number, SIG_DFL);
}

void outlive_readers() { std::signal(SIGPIPE, SIG_IGN); }

bool stop_asked(const ProcessGrid& grid) {
    std::int64_t flag = asked;
    grid.control().all_reduce_sum(&flag, Scalar::int64, 1);
    return flag > 0;
}

}  // namespace spikefloss
