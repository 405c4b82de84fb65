// The penalty on firing: its value and gradient against the reference on every grid, in every form of the backward
// pass, on the CPU and on CUDA; and that training with it moves the rates to their bounds.
#include "train/rate_penalty.hpp"

#include "backend/backends.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"
#include "support/small_training.hpp"
#include "train/gradient.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

using namespace testing_support;

constexpr RateOptions options{.l1 = 0.3, .l2 = 0.02, .bound = 4.0, .lower = 0.2, .upper = 0.4};

reference::RatePenalty reference_penalty(const Case& c) {
    return reference::rate_penalty(c.net, c.seq, c.trajectory,
                                   {options.l1, options.l2, options.bound, options.lower, options.upper});
}

struct PenaltyRun {
    double value;
    reference::Parameters gradient;  // of the loss and the penalty
};

PenaltyRun run_with_penalty(const ProcessGrid& grid, const Case& c, Execution execution, TapeKind tape) {
    const std::unique_ptr<Backend> owner = make_test_backend(execution.threads, execution.sums);
    Backend& backend = *owner;
    const Network network(backend, grid, host_network(c.net, grid));
    const Index T = c.seq.steps, B = c.seq.batch, N = c.net.neurons;
    const BlockRange mine = grid.sequences_of(B);
    const Batch batch = host_batch(c.net, c.seq, mine);
    LossPass loss(backend, grid, T, mine.size(), c.net.inputs, c.net.outputs, batch.loss);
    loss.load(batch);
    StatePass state(backend, grid, network, T, mine.size(),
                    {.time_constants = execution.time_constants,
                     .tape = tape,
                     .spike_adjoint = true,
                     .whole_passes = execution.whole_passes});
    RatePenalty penalty(backend, grid, options, N, T, mine.size(), B);
    Gradient gradient(backend, grid, network.layout);
    state.forward(network, loss.x());
    loss.evaluate(state.tape().readout.data());
    PenaltyRun run{penalty.evaluate(state.tape().spikes), {}};
    state.backward(network, loss.x(), {.dy = loss.dy(), .spike_adjoint = penalty.spike_adjoint()}, gradient.start());
    gradient.reduce({});
    run.gradient = gathered_parameters(grid, network.layout, gradient.to_host());
    return run;
}

TEST(RatePenalty, IsTheReferenceOnEveryGridAndInEveryForm) {
    std::uint64_t seed = 0;
    for (const auto readout : reference::all_readouts) {
        reference::Example example{.neurons = 37, .inputs = 3, .outputs = 2, .steps = 23, .batch = 7, .exponents = 0};
        example.readout = readout;
        example.seed = seed += 1000;
        const Case c = clear_case(example);
        const reference::RatePenalty expected = reference_penalty(c);
        // The three terms and both bounds have a part in it.
        EXPECT_GT(*std::max_element(expected.rate.begin(), expected.rate.end()), options.upper);
        EXPECT_LT(*std::min_element(expected.rate.begin(), expected.rate.end()), options.lower);
        const reference::Loss loss = reference::task_loss(c.seq, c.trajectory.readout);
        const auto gradients =
            reference::backward(c.net, c.seq, c.trajectory, loss.gradient, {.extra = &expected.extra});
        on_every_grid([&](const ProcessGrid& grid) {
            for (const bool time_constants : {true, false})
                for (const bool whole : {true, false})
                    for (const TapeKind tape : {TapeKind::full, TapeKind::segments}) {
                        // Whole passes need sums in float32.
                        const Execution execution{whole ? Sums::float32 : Sums::float64, whole, time_constants};
                        const PenaltyRun run = run_with_penalty(grid, c, execution, tape);
                        EXPECT_NEAR(run.value, expected.value, 1e-6 * expected.value);
                        expect_gradients_near(run.gradient, given_by(execution, gradients), 2e-5);
                    }
        });
    }
}

// Every neuron of the small network spikes: the penalty alone moves each rate into the bounds, in 60 steps.
TEST(RatePenalty, TrainingMovesRatesToTheBounds) {
    const auto rate_after = [](RateOptions rate) {
        TrainerOptions training = small_options(Flossing::none);
        training.rate = rate;
        SmallTraining run(alone(), Sums::float32, training);
        const std::vector<StepReport> reports = run.advance_to(60);
        EXPECT_EQ(reports[0].rate_penalty.has_value(), rate.active());
        if (rate.active()) {
            EXPECT_LT(*reports.back().rate_penalty, 0.5 * *reports.front().rate_penalty);
        }
        return reports.back().rate;
    };
    const double free = rate_after({});
    EXPECT_GT(free, 0.1);
    EXPECT_LT(rate_after({.bound = 100.0, .upper = 0.05}), 0.07);
    EXPECT_GT(rate_after({.bound = 100.0, .lower = 2.0 * free}), 1.6 * free);
    EXPECT_LT(rate_after({.l1 = 1.0}), 0.5 * free);
    EXPECT_LT(rate_after({.l2 = 1.0}), 0.5 * free);
}

}  // namespace
}  // namespace spikefloss
