// A training run in progress: writes records, measurements and checkpoints after each unit of work.
#pragma once

#include "commands/flossing_effect.hpp"
#include "config/config.hpp"
#include "io/checkpoint.hpp"
#include "io/event_file.hpp"
#include "io/progress.hpp"
#include "watching/live_server.hpp"

#include <chrono>
#include <optional>
#include <string>
#include <utility>

namespace spikefloss {

// What a run ends with.
struct FinalTest {
    Outcome test;
    std::optional<Outcome> validation;  // of the same network, if it was evaluated
    std::int64_t step = 0;              // training steps of this network
    Answers answers = {};               // to the test data
};

class Run {
public:
    // begun: the records of an earlier session belong to this run, up to the present step. server: null, except on rank
    // 0 of a run with a live page. origin: which run this is and, if it has begun, how many records it has. Collective,
    // as are all functions below.
    Run(const ProcessGrid& grid, const Config& config, Trainer& trainer, ProgressDisplay& display, LiveServer* server,
        bool begun, CheckpointOrigin origin);

    // Call after each unit of work.
    void after(const StepReport& report);
    // Whether the running accuracy exceeds train.stop_accuracy, which ends training.
    bool good_enough() const;
    // Call after training: records the diagnosis of the trained network, unless it is recorded already. Collective.
    void finish();
    // The network that was best on validation data (train.keep_best), or the present one, on test data. The data are
    // looked at once for each position. Collective.
    const FinalTest& test();

    void checkpoint();
    // Whether the newest checkpoint is of the present step.
    bool saved() const { return saved_ == position(); }
    // One line about the last checkpoint, for the end after an error.
    std::string saved_text() const;
    // Flushes the records to the disk and counts them. Collective.
    const CheckpointOrigin& sync();

private:
    using Clock = std::chrono::steady_clock;

    std::pair<std::int64_t, std::int64_t> position() const;
    void diagnose(const GradientNorms* norms);
    void keep_if_best(const Outcome& validation);
    // The state, with the times of rank 0's clock.
    TrainingState state_to_save();

    const ProcessGrid& grid_;
    const Config& config_;
    Trainer& trainer_;
    ProgressDisplay& display_;
    LiveServer* server_;
    CheckpointOrigin origin_;
    std::optional<JsonLines> metrics_, diagnostics_;
    std::optional<EventFile> events_;
    Clock::time_point last_report_, last_unit_;
    Index sequences_ = 0;        // since the last record
    double data_seconds_ = 0.0;  // since then, until batches were there
    std::int64_t flossing_in_a_row_ = 0;
    FlossingEffect flossing_effect_;
    std::pair<std::int64_t, std::int64_t> saved_{-1, -1};
    std::int64_t saved_best_ = -1;       // progress.best_step of the newest checkpoint
    std::optional<Outcome> validation_;  // the newest of this session
    std::pair<std::int64_t, std::int64_t> tested_{-1, -1};
    FinalTest test_;
    std::pair<std::int64_t, std::int64_t> diagnosed_{-1, -1};  // rank 0
    bool lost_told_ = false;                                   // whether it was said that exponents cannot be measured
};

}  // namespace spikefloss
