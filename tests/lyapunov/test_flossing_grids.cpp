// The tangents forwards and backwards on every grid: the reference, one rank, one rank bit for bit with dyadic weights,
// the adjoint identity over several steps, and shards of the batch without a sequence.
#include "backend/instruction_sets.hpp"
#include "core/random.hpp"
#include "support/golden.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <cmath>

namespace spikefloss {
namespace {

using namespace testing_support;
using Reset = reference::JacobianReset;

void expect_near(const FlossRun& run, const FlossRun& expected, double tolerance) {
    EXPECT_TRUE(all_near(run.log_r, expected.log_r, tolerance));
    EXPECT_TRUE(all_near(run.penalty.spectrum.exponents, expected.penalty.spectrum.exponents, tolerance));
    EXPECT_NEAR(run.penalty.loss, expected.penalty.loss, tolerance);
    expect_gradients_near(run.gradient, expected.gradient, tolerance);
}

void expect_on_every_grid(const Case& c, FlossChoice choice) {
    const reference::Floss floss = reference::floss(c.net, c.seq, c.trajectory, choice.spectrum);
    for (const Sums sums : {Sums::float32, Sums::float64})
        for (const bool through_state : {true, false}) {
            choice.through_state = through_state;
            const FlossRun one = run_floss(alone(), sums, c.net, c.seq, choice);
            on_every_grid([&](const ProcessGrid& grid) {
                const FlossRun run = run_floss(grid, sums, c.net, c.seq, choice);
                EXPECT_TRUE(all_near(run.log_r, floss.spectrum.log_r, 1e-4));
                EXPECT_TRUE(all_near(run.lambda_per_sequence, floss.spectrum.lambda_per_sequence, 1e-4));
                expect_gradients_near(run.gradient, through_state ? floss.through_state : floss.direct, 2e-4);
                expect_near(run, one, 5e-5);
            });
        }
}

TEST(FlossingGrids, EveryKindOfNetwork) {
    std::uint64_t count = 0;
    for (const auto& rule : reference::all_reset_rules)
        for (const auto jacobian_reset : {Reset::detached, Reset::ignored}) {
            reference::Example example{.neurons = 7, .steps = 10, .batch = 7, .exponents = 3};
            example.reset = rule.reset;
            example.reset_delay = rule.delay;
            example.seed = 1000 * ++count;
            example.has_current = count % 3 != 0;
            example.initial_state = count % 2 == 0;
            if (!example.has_current) example.exponents = 2;
            const FlossChoice choice{.spectrum = {count % 2 ? 1 : 3, 1, jacobian_reset}};
            SCOPED_TRACE(testing::Message() << "count " << count);
            expect_on_every_grid(clear_case(example, &choice.spectrum), choice);
        }
}

// More vectors than neurons of a shard. The part of the basis on this shard is then wider than long.
TEST(FlossingGrids, OneNeuronARank) {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    const FlossChoice choice{.spectrum = {.jacobian_reset = Reset::ignored}};
    expect_on_every_grid(
        clear_case({.neurons = ranks, .steps = 8, .batch = ranks, .exponents = 2 * ranks > 4 ? 4 : 2, .seed = 5},
                   &choice.spectrum),
        choice);
}

// A flossing batch of one sequence with any number of batch shards. Most ranks then have no sequence.
TEST(FlossingGrids, RanksWithoutASequence) {
    const FlossChoice choice{};
    expect_on_every_grid(clear_case({.neurons = 7, .steps = 10, .batch = 1, .seed = 6}, &choice.spectrum), choice);
}

// Loops copy the weights for faster products. A pass after the weights have changed is as one of new objects.
TEST(FlossingGrids, WeightsThatChange) {
    const reference::Example example{.neurons = 150, .steps = 12, .batch = 4, .exponents = 3, .seed = 9};
    const reference::Network net = reference::random_network(example);
    const reference::Sequences seq = reference::random_sequences(example);
    on_every_grid([&](const ProcessGrid& grid) {
        for (const bool whole_passes : {true, false}) {
            Execution execution{.whole_passes = whole_passes, .time_constants = false};
            const FlossRun once = run_floss(grid, execution, net, seq, {});
            execution.used_before = true;
            const FlossRun again = run_floss(grid, execution, net, seq, {});
            EXPECT_EQ(again.log_r, once.log_r);
            expect_gradients_equal(again.gradient, once.gradient);
        }
    });
}

// Intervals that are chosen during the pass are the same on every grid, with any number of threads, and in both forms
// of the pass.
TEST(FlossingGrids, ChosenIntervals) {
    for (const double gain : {0.3, 2.0}) {
        SCOPED_TRACE(testing::Message() << "gain " << gain);
        const reference::Example example{
            .neurons = 9, .steps = 90, .batch = 7, .exponents = 4, .reset = reference::Reset::subtract, .gain = gain};
        const reference::Network net = reference::random_network(example);
        const reference::Sequences seq = reference::random_sequences(example);
        const FlossChoice choice{.spectrum = {.qr_interval = 0, .warmup = 5}, .through_state = false};
        const FlossRun one = run_floss(alone(), Sums::float32, net, seq, choice);
        EXPECT_LT(one.qr_steps.size(), 60u);  // of 85 steps
        EXPECT_EQ(one.qr_steps.back(), 90);
        for (const Execution& other : {Execution{.threads = 3}, Execution{.whole_passes = false}})
            EXPECT_EQ(run_floss(alone(), other, net, seq, choice).qr_steps, one.qr_steps);
        on_every_grid([&](const ProcessGrid& grid) {
            const FlossRun run = run_floss(grid, Sums::float32, net, seq, choice);
            EXPECT_EQ(run.qr_steps, one.qr_steps);
            EXPECT_TRUE(all_near(run.lambda_per_sequence, one.lambda_per_sequence, 1e-5));
        });
    }
}

TEST(FlossingGrids, DyadicWeightsBitForBit) {
    const GoldenCase golden = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/dyadic_weights.h5");
    for (const bool through_state : {true, false}) {
        const FlossChoice choice{.spectrum = golden.expect->spectrum, .through_state = through_state};
        const FlossRun one = run_floss(alone(), Sums::float64, golden.network, golden.sequences, choice);
        on_every_grid([&](const ProcessGrid& grid) {
            const FlossRun run = run_floss(grid, Sums::float64, golden.network, golden.sequences, choice);
            // Logarithms are in double, which shows the order of the sums of the Gram matrix. All floats are equal.
            EXPECT_TRUE(all_near(run.log_r, one.log_r, 1e-12));
            expect_gradients_equal(run.gradient, one.gradient);
        });
    }
}

// <J dq, a> = <dq, J' a> for the tangent map of several steps, built from the operations and the recurrence that
// TangentPass uses.
TEST(TangentMap, BackwardIsTheAdjointOfForward) {
    on_every_grid([](const ProcessGrid& grid) {
        for (const bool has_current : {true, false})
            for (const auto reset : {JacobianReset::detached, JacobianReset::ignored}) {
                const Case c =
                    clear_case({.neurons = 7, .steps = 9, .batch = 7, .has_current = has_current, .seed = 21});
                const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float64);
                Backend& backend = *made;
                const Network network(backend, grid, host_network(c.net, grid));
                const BlockRange mine = grid.sequences_of(7), neurons = grid.neurons_of(7);
                const Index T = 9, b = mine.size(), n = neurons.size(), k = 3, count = b * k * n;
                StatePass state(backend, grid, network, T, b);
                const Buffer<float> x(backend, host_batch(c.net, c.seq, mine).x);
                state.forward(network, x.data());
                Recurrence recurrence(backend, grid, 7, network.terms().recurrent, b * k);

                // The same two bases on all grids, by global index.
                const BasisShape shape{b, k, n, has_current};
                const auto basis = [&](std::uint64_t seed) {
                    std::vector<float> values;
                    for (Index row = mine.begin * k; row < mine.end * k; ++row)
                        for (std::uint32_t part = has_current ? 0 : 1; part < 2; ++part)
                            for (Index i = neurons.begin; i < neurons.end; ++i)
                                values.push_back(
                                    static_cast<float>(normal(seed, Stream::test, static_cast<std::uint32_t>(row),
                                                              static_cast<std::uint32_t>(i), part)));
                    return values;
                };
                const auto q0 = basis(1), a0 = basis(2);
                Buffer<float> q(backend, q0), a(backend, a0);
                Buffer<float> input(backend, count), wx(backend, count), g(backend, count), e(backend, b * n);
                const NeuronModel& model = network.model.neuron;
                const auto at = [&](Index t) -> NeuronState { return {nullptr, state.membrane(t)}; };
                for (Index t = 0; t < T; ++t) {
                    backend.tangent_input(model, network.neurons(), shape, at(t), q.data(), input.data());
                    const auto gathered = recurrence.blocks_of(b * k, recurrence.gather(b * k, input.data()));
                    recurrence.apply(
                        network[Parameter::w_rec], b * k, [&](Index) { return gathered; }, wx.data());
                    backend.tangent_step(model, reset, network.neurons(), shape, at(t), input.data(), wx.data(),
                                         q.data(), q.data());
                }
                for (Index t = T; t-- > 0;) {
                    backend.tangent_step_backward(model, reset, network.neurons(), shape, at(t), nullptr, nullptr,
                                                  nullptr, a.data(), g.data(), {});
                    recurrence.apply_transposed(
                        network[Parameter::w_rec], b * k, [&](Index) { return g.data(); }, wx.data());
                    // The basis enters only e, which is not checked here.
                    backend.tangent_input_backward(model, reset, network.neurons(), shape, at(t), q.data(), wx.data(),
                                                   g.data(), a.data(), e.data());
                }
                const auto dot = [](const std::vector<float>& left, const std::vector<float>& right) {
                    double sum = 0.0;
                    for (std::size_t j = 0; j < left.size(); ++j) sum += static_cast<double>(left[j]) * right[j];
                    return sum;
                };
                double sides[3] = {dot(q.to_host(), a0), dot(q0, a.to_host()), dot(q.to_host(), q.to_host())};
                grid.control().all_reduce_sum(sides, Scalar::float64, 3);
                EXPECT_GT(sides[2], 1e-4);
                EXPECT_NEAR(sides[0], sides[1], 1e-5 * std::sqrt(sides[2]));
            }
    });
}

// Binary units: with a fixed trajectory, scaling W_rec by c adds ln c to every exponent. The direct gradient of sum_j
// w_j lambda_j then has <W_rec, gradient> = sum_j w_j, on every grid and with every QR interval.
TEST(TangentPass, DirectGradientOfBinaryUnitsObeysEulersIdentity) {
    for (const Index interval : {1, 3}) {
        const reference::SpectrumOptions spectrum{.qr_interval = interval};
        reference::Example example{.neurons = 7,
                                   .steps = 10,
                                   .batch = 7,
                                   .exponents = 3,
                                   .reset = reference::Reset::none,
                                   .has_current = false,
                                   .seed = 80};
        const Case c = clear_case(example, &spectrum);
        on_every_grid([&](const ProcessGrid& grid) {
            reference::Network net = c.net;
            net.beta.assign(7, 0.0);
            const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float64);
            Backend& backend = *made;
            const Network network(backend, grid, host_network(net, grid));
            const BlockRange mine = grid.sequences_of(7);
            StatePass state(backend, grid, network, 10, mine.size());
            TangentPass tangents(backend, grid, network, {.exponents = 3, .warmup = 1, .qr_interval = interval}, 10,
                                 mine.size(), true);
            const Buffer<float> x(backend, host_batch(net, c.seq, mine).x);
            state.forward(network, x.data());
            tangents.forward(network, state, host_bases(net, c.seq, network.layout.neurons(), mine), mine.begin);
            std::vector<double> weights;
            for (Index i = mine.begin * 3; i < mine.end * 3; ++i)
                weights.push_back(1.0 + std::sin(static_cast<double>(i)));
            double expected = 0.0;
            for (Index i = 0; i < 21; ++i) expected += 1.0 + std::sin(static_cast<double>(i));
            SumBuffer gradient(backend, network.layout.size());
            Buffer<float> extra(backend, 11 * mine.size() * network.n()), rounded(backend, network.layout.size());
            tangents.backward(network, state, weights, false, gradient, extra.data());
            backend.round_sums(gradient.data(), rounded.data(), rounded.size());
            const std::vector<float> values = network.values.to_host(), d = rounded.to_host();
            const auto [offset, count] = network.layout.extent(Parameter::w_rec);
            double sum = 0.0;
            for (Index i = offset; i < offset + count; ++i)
                sum += static_cast<double>(values[static_cast<std::size_t>(i)]) * d[static_cast<std::size_t>(i)];
            grid.control().all_reduce_sum(&sum, Scalar::float64, 1);
            EXPECT_NEAR(sum, expected, 1e-4);
        });
    }
}

}  // namespace
}  // namespace spikefloss
