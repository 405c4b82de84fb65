// The state forwards and backwards on every grid: equal to the reference within rounding, closer to one rank, and with
// dyadic weights equal to one rank bit for bit.
#include "support/golden.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

using namespace testing_support;

void expect_near(const TaskRun& run, const TaskRun& expected, double tolerance) {
    EXPECT_TRUE(all_equal(run.spikes, expected.spikes));
    EXPECT_TRUE(all_near(run.current, expected.current, tolerance));
    EXPECT_TRUE(all_near(run.membrane, expected.membrane, tolerance));
    EXPECT_TRUE(all_near(run.readout, expected.readout, tolerance));
    EXPECT_NEAR(run.outcome.loss, expected.outcome.loss, tolerance);
    if (std::isnan(expected.outcome.accuracy)) {  // of squared errors
        EXPECT_TRUE(std::isnan(run.outcome.accuracy));
    } else {
        EXPECT_DOUBLE_EQ(run.outcome.accuracy, expected.outcome.accuracy);
    }
    EXPECT_DOUBLE_EQ(run.rate, expected.rate);
    expect_gradients_near(run.gradient, expected.gradient, tolerance);
    EXPECT_TRUE(near_in_norm(run.state_gradient_norm, expected.state_gradient_norm, tolerance));
}

void expect_states_equal(const TaskRun& run, const TaskRun& expected) {
    EXPECT_TRUE(all_equal(run.spikes, expected.spikes));
    EXPECT_TRUE(all_equal(run.current, expected.current));
    EXPECT_TRUE(all_equal(run.membrane, expected.membrane));
}

void expect_on_every_grid(const Case& c, double limit = 0.0) {
    const reference::Loss loss = reference::task_loss(c.seq, c.trajectory.readout);
    const auto gradients = reference::backward(c.net, c.seq, c.trajectory, loss.gradient, {.adjoint_limit = limit});
    for (const Sums sums : {Sums::float32, Sums::float64}) {
        const TaskRun one = run_task(alone(), sums, c.net, c.seq, limit);
        on_every_grid([&](const ProcessGrid& grid) {
            const TaskRun run = run_task(grid, sums, c.net, c.seq, limit);
            EXPECT_TRUE(all_equal(run.spikes, c.trajectory.spikes));
            EXPECT_TRUE(all_near(run.membrane, c.trajectory.membrane, 1e-5));
            expect_gradients_near(run.gradient, gradients, 2e-5);
            EXPECT_TRUE(near_in_norm(run.state_gradient_norm, gradients.state_gradient_norm, 2e-5));
            expect_near(run, one, 3e-6);
            // Without time constants, one rank with all neurons uses whole passes.
            const Execution whole{.sums = sums, .time_constants = false};
            expect_gradients_near(run_task(grid, whole, c.net, c.seq, limit).gradient, given_by(whole, gradients),
                                  2e-5);
        });
    }
}

// 7 neurons and 7 sequences are not divisible by 2, 4 or 6.
TEST(StatePassGrids, EveryKindOfNetwork) {
    std::uint64_t seed = 0;
    for (const auto& rule : reference::all_reset_rules)
        for (const auto readout : reference::all_readouts) {
            reference::Example example{.neurons = 7, .inputs = 3, .outputs = 2, .steps = 9, .batch = 7};
            example.reset = rule.reset;
            example.reset_delay = rule.delay;
            example.readout = readout;
            example.loss = reference::all_losses[seed / 1000 % reference::all_losses.size()];
            example.own_lengths = seed % 2000 != 0;
            example.has_current = seed % 3000 != 0;
            example.initial_state = true;
            example.seed = seed += 1000;
            SCOPED_TRACE(testing::Message() << "seed " << example.seed);
            expect_on_every_grid(clear_case(example));
        }
}

TEST(StatePassGrids, AdjointCap) {
    const Case c = clear_case({.neurons = 7, .steps = 14, .batch = 7, .gain = 2.0, .seed = 77});
    const reference::Loss loss = reference::task_loss(c.seq, c.trajectory.readout);
    const auto free = reference::backward(c.net, c.seq, c.trajectory, loss.gradient).state_gradient_norm;
    expect_on_every_grid(c, *std::max_element(free.begin(), free.end()) / 5.0);
}

// One neuron per shard, one sequence per shard.
TEST(StatePassGrids, OneNeuronOrSequenceARank) {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    expect_on_every_grid(clear_case({.neurons = ranks, .steps = 8, .batch = ranks, .exponents = 1, .seed = 5}));
}

// More than one word of spike bits per shard, ragged.
TEST(StatePassGrids, ManyNeurons) {
    expect_on_every_grid(clear_case({.neurons = 77, .inputs = 5, .steps = 6, .batch = 7, .seed = 9}));
}

TEST(StatePassGrids, DyadicWeightsBitForBit) {
    const GoldenCase golden = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/dyadic_weights.h5");
    for (const double w : golden.network.w_rec) EXPECT_EQ(w * 1024.0, std::round(w * 1024.0));
    const TaskRun one32 = run_task(alone(), Sums::float32, golden.network, golden.sequences);
    const TaskRun one64 = run_task(alone(), Sums::float64, golden.network, golden.sequences);
    expect_states_equal(one32, one64);
    on_every_grid([&](const ProcessGrid& grid) {
        expect_states_equal(run_task(grid, Sums::float32, golden.network, golden.sequences), one32);
        expect_states_equal(run_task(grid, Execution{.whole_passes = false}, golden.network, golden.sequences), one32);
        const TaskRun run = run_task(grid, Sums::float64, golden.network, golden.sequences);
        expect_states_equal(run, one64);
        EXPECT_TRUE(all_equal(run.readout, one64.readout));
        expect_gradients_equal(run.gradient, one64.gradient);
        EXPECT_NEAR(run.outcome.loss, one64.outcome.loss, 1e-14);
    });
}

}  // namespace
}  // namespace spikefloss
