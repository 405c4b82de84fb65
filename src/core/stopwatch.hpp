// The time during which this process ran. A suspended process (Ctrl-Z, SIGSTOP, a frozen job) does not read its
// stopwatch. At most `longest` seconds between two readings count, so the time of a suspension does not. This
// distinguishes other ranks that do not answer from a suspension of this process.
#pragma once

#include <algorithm>
#include <chrono>

namespace spikefloss {

class Stopwatch {
public:
    // longest: the caller calls seconds() more often than this while it waits.
    explicit Stopwatch(double longest = 0.5) : longest_(longest) {}

    // Since construction. Never goes back.
    double seconds() {
        const Clock::time_point now = Clock::now();
        seconds_ += std::min(std::chrono::duration<double>(now - looked_).count(), longest_);
        looked_ = now;
        return seconds_;
    }

private:
    using Clock = std::chrono::steady_clock;

    double longest_;
    double seconds_ = 0.0;
    Clock::time_point looked_ = Clock::now();
};

}  // namespace spikefloss
