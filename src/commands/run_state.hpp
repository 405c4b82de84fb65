// The state of a run, from its directory alone. A run writes outcome.json last, after its last checkpoint. A run
// without it is in progress, or was stopped or killed. The next session removes the file first.
#pragma once

#include "config/config.hpp"
#include "train/trainer.hpp"

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

namespace spikefloss {

struct RunOutcome {
    int exit_code = 0;
    std::string message;  // of a failure
    // Of a run that is done:
    std::int64_t step = 0, floss_step = 0;
    double seconds = 0.0;
    std::optional<Outcome> test, validation;
    std::int64_t best_step = -1;  // of the network that was tested, if it was chosen by validation data
    std::optional<std::int64_t> metrics, diagnostics;  // records written
    // The goals of the run; with larger goals it continues.
    std::int64_t steps = 0;
    double stop_accuracy = 0.0;
};

// Written by one rank. Throws Error(Exit::storage).
void write_outcome(const std::string& directory, const RunOutcome& outcome);
// Writes the outcome of a failure. Writes nothing if another session repairs it (a lost rank), or if it cannot write.
void record_failure(const std::string& directory, const std::exception& fault) noexcept;
// Of a run that is done: "30 of 40 records are missing from metrics.jsonl; ..."; "" if its files have all of them.
std::string missing_records(const std::string& directory, const RunOutcome& outcome);
// None if it is missing or damaged.
std::optional<RunOutcome> read_outcome(const std::string& directory);

enum class RunState {
    fresh,    // not begun
    running,  // a process holds the directory
    stopped,  // begun and not done: stopped or killed; --resume continues it
    done,
    failed,    // ended with an error
    diverged,  // ended because something was not finite
    differs,   // the directory holds a run of another config
};
const char* name_of(RunState state);

struct RunStatus {
    RunState state = RunState::fresh;
    std::string reason;  // of failed, diverged, differs, running; one line
    std::optional<RunOutcome> outcome;
};
// Of the run of this config in this directory.
RunStatus status_of(const std::string& directory, const Config& config);

}  // namespace spikefloss
