// The display of a run in progress: a progress bar on a terminal, plain lines elsewhere; and the same lines in the log.
#pragma once

#include "io/metrics.hpp"

#include <chrono>
#include <cstdint>
#include <fstream>
#include <string>

namespace spikefloss {

// The line that is redrawn: "[####....] step 4/8 ...". It has at most columns - 1 characters: first the bar becomes
// narrower and disappears, then the text is cut. done: from 0 to 1.
std::string bar_line(double done, const std::string& text, int columns);

class ProgressDisplay {
public:
    // silent: show nothing (ranks other than 0). total: training steps of the whole run.
    ProgressDisplay(bool silent, std::int64_t total);
    ~ProgressDisplay();

    // From now on, lines also go to the end of this file, after `first_line`. Does nothing if they do already, or if
    // the folder is missing: a missing log does not stop a run.
    void log_to(const std::string& path, const std::string& first_line);
    // Starts the clock for the time left; `done` training steps were made in earlier sessions.
    void start(std::int64_t done);
    // After every unit of work: redraws the bar at most ten times a second; elsewhere does nothing.
    void update(const MetricsEntry& entry);
    // The largest exponent as measured beside training.
    void measured(double exponent) { exponent_ = exponent; }
    // At every report: a plain line where there is no terminal.
    void report(const MetricsEntry& entry);
    // A message on a line of its own.
    void say(const std::string& message);
    // A line of the log alone.
    void note(const std::string& message);

private:
    std::string summary(const MetricsEntry& entry) const;
    void clear();

    bool silent_, terminal_, drawn_ = false;
    std::int64_t total_, first_ = 0;
    std::optional<double> exponent_;  // the last lambda_1 seen
    std::optional<double> accuracy_, loss_;
    std::chrono::steady_clock::time_point start_, last_;
    std::ofstream log_;
};

}  // namespace spikefloss
