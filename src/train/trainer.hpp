// Training of one network on one task, with flossing, one unit of work at a time; and the measurements.
#pragma once

#include "lyapunov/flossing_pass.hpp"
#include "tasks/task.hpp"
#include "train/flossing_schedule.hpp"
#include "train/loss.hpp"
#include "train/optimiser.hpp"
#include "train/rate_penalty.hpp"

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

struct DiagnosticsOptions {
    Index exponents = 1, batch = 1, warmup = 0, qr_interval = 0;
};

struct TrainerOptions {
    std::uint64_t seed = 1;
    Index batch = 16;  // B
    LossKind loss = LossKind::automatic;
    RateOptions rate;                // penalty on firing, added to the loss of a training step
    double adjoint_cap = 0.0;        // in units of one readout injection; 0: off
    TapeKind tape = TapeKind::full;  // of the task's training pass
    bool whole_passes = true;        // of states and tangents; false: always the loop over steps
    Index test_sequences = 16;       // of an evaluation, taken in batches of B; the last may be partial
    Index validation_sequences = 0;  // the same, on validation data
    OptimiserOptions optimiser;
    Index floss_batch = 1;
    Index floss_horizon = 1;  // steps
    FlossingOptions flossing;
    Penalty penalty, adaptive_penalty;  // the second in adaptive bouts
    OptimiserOptions floss_optimiser;
    FlossingScheduleOptions floss_schedule;
    DiagnosticsOptions diagnostics;
};

// The result of one unit of work: a flossing step before training step `step`, or that training step.
struct StepReport {
    bool flossing = false;
    std::int64_t step = 0;  // training steps done after it
    Outcome outcome;        // of a training step
    GradientNorms norms;
    std::optional<PenaltyValue> penalty;  // of a flossing step, or of a training step with the penalty
    std::optional<double> rate_penalty;   // of a training step, if there is one
    double rate = 0.0;                    // spikes per neuron and step
    double flossing_seconds = 0.0;        // of this unit, in flossing and in the measurement that decided on it
    double data_seconds = 0.0;            // of this unit, until its batches were there
};

struct Diagnosis {
    Spectrum spectrum;
    Outcome outcome;
    std::vector<double> state_gradient_norm;  // [T+1]
    double rate = 0.0;
    // Of a network with several populations, by name: spikes per neuron and step of each population, and the share of
    // weights at 0 of each projection with a sign.
    std::vector<std::pair<std::string, double>> population_rates, zero_shares;
};

// Spikes of some neurons in one sequence, at steps 1..T. They are evenly spaced in each population. Each population has
// at least one of them, unless there are more populations than neurons to show.
struct Raster {
    Index neurons = 0, steps = 0;                   // N, T
    std::vector<Population> populations;            // none if there is only one
    std::vector<Index> shown;                       // the neurons
    std::vector<std::vector<std::int64_t>> spikes;  // the steps at which each of them spiked
};

class Trainer {
public:
    Trainer(Backend& backend, const ProcessGrid& grid, const Task& task, TrainerOptions options, TrainingState start);

    // One flossing step or one training step, whichever comes next. Throws Error(Exit::numerics) when the loss, the
    // state or a gradient is not finite, before any parameter is changed. Collective.
    StepReport advance();
    // Whether a flossing step comes next, before any training step. Collective.
    bool flossing_due();
    // Loss and accuracy on fresh (generated tasks) or held-out (datasets) data; the same data at every call. purpose:
    // test or validation. Collective. answers: null, or gets the answers to all sequences, in the order of the data and
    // on every rank; of a task without labels it stays empty.
    Outcome evaluate(Purpose purpose = Purpose::test, Answers* answers = nullptr);
    // The same, of another network of this shape. Changes no state. Collective.
    Outcome evaluate(Purpose purpose, const HostNetwork& other, Answers* answers = nullptr);
    // Whether the task has validation data.
    bool validates() const { return options_.validation_sequences > 0; }
    // Flossing steps before training.
    std::int64_t flossing_before() const { return options_.floss_schedule.before; }
    // Spectrum, gradient by lag and rate, on separate data. Changes no state. Collective.
    Diagnosis diagnose();
    // The first sequence of the last diagnose(), at most `most` neurons. Only rank 0 gets spikes. Collective.
    Raster raster(Index most);
    // Every rank gets its own part. Makes no collective call.
    TrainingState state() const;

    // Makes the objects of diagnose() now. Otherwise its first call makes them.
    void prepare_measurement() { measurement(); }

    // The form of each pass and the reason: ("states forwards", "whole network (...)"), ... Diagnostics are listed
    // after their objects are made.
    std::vector<std::pair<std::string, std::string>> passes() const;

    const Network& network() const { return network_; }
    const Tape& tape() const { return pass_.tape(); }
    Progress& progress() { return progress_; }

private:
    StepReport work();
    Batch sample(const StatePass& pass, Purpose purpose, std::int64_t step, Index batch) const;
    Batch taken(const StatePass& pass, Purpose purpose, std::int64_t step, Index batch);
    StepReport floss_step(const Penalty& penalty);
    StepReport train_step();
    PenaltyValue add_penalty(const Penalty& penalty, SumBuffer& gradient);
    LossKind kind() const { return options_.loss == LossKind::automatic ? task_.loss() : options_.loss; }
    void begin_adjoint_limit();
    float adjoint_limit(double terms);
    double measure_adaptive();
    // The parts of a diagnosis. The last two need the first.
    void measure_states(Diagnosis& diagnosis);
    void measure_gradient(Diagnosis& diagnosis);
    void measure_spectrum(Diagnosis& diagnosis);
    void measure_populations(Diagnosis& diagnosis);
    // The first exponent that is flossed.
    double flossed_exponent(const PenaltyValue& value) const {
        return value.spectrum.exponents[static_cast<std::size_t>(options_.penalty.skipped)];
    }
    void check_finite(const Outcome* outcome, const GradientNorms& norms, const StatePass& state,
                      const char* what) const;

    Backend& backend_;
    const ProcessGrid& grid_;
    const Task& task_;
    TrainerOptions options_;
    FlossingSchedule schedule_;
    Progress progress_;
    Network network_;
    Gradient gradient_;  // of training and of flossing steps
    Optimiser optimiser_, floss_optimiser_;
    BlockRange mine_;
    double waited_ = 0.0;  // for batches, in the present unit of work
    StatePass pass_;
    LossPass loss_;
    std::optional<RatePenalty> rate_penalty_;
    Buffer<double> square_;  // [1]
    Readback<double> read_square_;
    std::unique_ptr<FlossingPass> flossing_;  // only when flossing is on
    BatchInputs floss_inputs_;
    // Measurement of the spectrum and of the gradient by lag, made at its first use.
    struct Measurement {
        Batch batch;
        StatePass state;
        LossPass loss;
        TangentPass tangents;
        SumBuffer gradient;
    };
    std::unique_ptr<Measurement> measurement_;
    Measurement& measurement();
};

}  // namespace spikefloss
