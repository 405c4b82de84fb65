// A small training run for tests of the trainer: 13 neurons, delayed xor over 24 steps, and flossing of every kind.
#pragma once

#include "backend/instruction_sets.hpp"
#include "network/initialise.hpp"
#include "support/run_network.hpp"
#include "train/trainer.hpp"

#include <string>

namespace spikefloss::testing_support {

inline std::unique_ptr<Task> small_task() {
    TaskSettings settings;
    settings.name = TaskKind::delayed_xor;
    settings.seed = 3;
    settings.duration = 24;
    settings.delay = 4;
    return make_task(settings);
}

// bias_mean 1: every neuron spikes sometimes.
inline HostNetwork small_network(const ProcessGrid& grid) {
    InitialNetwork settings;
    settings.shape = {13, 1, 1};
    settings.model.neuron.sharpness = 2.0f;
    settings.projections[0].gain = 1.0;
    settings.populations[0].bias_mean = 1.0;
    settings.populations[0].bias_std = 0.2;
    settings.populations[0].tau_syn_spread = settings.populations[0].tau_mem_spread = 0.3;
    settings.tau_out = 2.0;
    settings.seed = 5;
    return initial_network(settings, grid.shape().neuron_shards, grid.neuron_shard());
}

enum class Flossing { none, before, at, every, joint, adaptive_exponent, adaptive_gradient };
inline constexpr Flossing all_flossing[] = {Flossing::none,
                                            Flossing::before,
                                            Flossing::at,
                                            Flossing::every,
                                            Flossing::joint,
                                            Flossing::adaptive_exponent,
                                            Flossing::adaptive_gradient};
inline const char* name_of(Flossing flossing) {
    constexpr const char* names[] = {
        "none", "before", "at", "every", "joint", "adaptive_exponent", "adaptive_gradient"};
    return names[static_cast<int>(flossing)];
}

inline TrainerOptions small_options(Flossing flossing) {
    TrainerOptions options;
    options.seed = 3;
    options.batch = 7;
    options.adjoint_cap = 3.0;
    options.test_sequences = 2 * options.batch;
    options.optimiser = {.learning_rate = 0.01, .clip = 0.5, .parameters = {}};
    for (const Parameter p : all_parameters) options.optimiser.parameters.push_back(p);
    options.floss_batch = 3;
    options.floss_horizon = 20;
    options.flossing.tangent = {.exponents = 4, .warmup = 2, .qr_interval = 1, .reset = JacobianReset::ignored};
    options.floss_optimiser = {
        .learning_rate = 0.01, .clip = 10.0, .parameters = {Parameter::w_rec, Parameter::bias, Parameter::alpha}};
    options.diagnostics = {.exponents = 3, .batch = 2, .warmup = 2};
    FlossingScheduleOptions& schedule = options.floss_schedule;
    const auto adaptive = [&](AdaptiveQuantity quantity) {
        schedule.adaptive_every = 2, schedule.adaptive_steps = 2;
        schedule.adaptive_quantity = quantity;
        schedule.adaptive_band = {100.0, 101.0};  // never reached
    };
    switch (flossing) {
        case Flossing::none: break;
        case Flossing::before: schedule.before = 3; break;
        case Flossing::at: schedule.at = {1, 3}, schedule.at_steps = 2; break;
        case Flossing::every: schedule.every = 2; break;
        case Flossing::joint: schedule.every = 1, schedule.joint_weight = 0.3; break;
        case Flossing::adaptive_exponent: adaptive(AdaptiveQuantity::exponent); break;
        case Flossing::adaptive_gradient: adaptive(AdaptiveQuantity::gradient); break;
    }
    return options;
}

// A trainer with the backend and the task it needs.
struct SmallTraining {
    std::unique_ptr<Backend> made;
    Backend& backend;
    std::unique_ptr<Task> task = small_task();
    Trainer trainer;

    SmallTraining(const ProcessGrid& grid, Sums sums, const TrainerOptions& options, TrainingState state)
        : made(make_cpu_backend(1, sums)), backend(*made), trainer(backend, grid, *task, options, std::move(state)) {}
    SmallTraining(const ProcessGrid& grid, Sums sums, const TrainerOptions& options)
        : SmallTraining(grid, sums, options, TrainingState{small_network(grid), {}, {}, {}}) {}

    // Runs until this number of training steps is done.
    std::vector<StepReport> advance_to(std::int64_t step) {
        std::vector<StepReport> reports;
        while (trainer.progress().step < step) reports.push_back(trainer.advance());
        return reports;
    }
};

}  // namespace spikefloss::testing_support
