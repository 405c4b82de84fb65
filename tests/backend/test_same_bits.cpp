// The state gives the same bits on every backend, for any distribution of the work, if sums are exact: dyadic weights
// are multiplied by spikes, and all other operations are explicit single roundings. The reference is StateLoop on the
// CPU backend with one thread. All other ways, by whole passes if the backend has them, must give the same bits.
#include "backend/state_runs.hpp"

#include <cmath>

namespace spikefloss::testing_support {
namespace {

using How = StateRun::How;

class SameBits : public OperationTest {};
INSTANTIATE_TEST_SUITE_P(Backends, SameBits, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

void expect_same(const StateResults& results, const StateResults& expected) {
    expect_same_states(results, expected);
    EXPECT_TRUE(all_equal(results.di, expected.di)) << "di";
    EXPECT_TRUE(all_equal(results.du, expected.du)) << "du";
    EXPECT_TRUE(all_equal(results.squares, expected.squares)) << "squares";
    EXPECT_TRUE(all_equal(results.d_w_rec, expected.d_w_rec)) << "dW_rec";
    EXPECT_TRUE(all_equal(results.d_w_in, expected.d_w_in)) << "dW_in";
    EXPECT_TRUE(all_equal(results.d_w_out, expected.d_w_out)) << "dW_out";
    EXPECT_TRUE(all_equal(results.d_bias, expected.d_bias)) << "db";
}

// Multiples of `unit` in [-limit, limit].
Floats multiples(std::size_t count, std::uint64_t seed, float unit, float limit) {
    Floats values = uniform_floats(static_cast<Index>(count), seed, -limit, limit);
    for (float& x : values) x = std::round(x / unit) * unit;
    return values;
}

// test(case): one neuron, more neurons than one word has bits, three blocks of neurons; one sequence or several; few
// inputs, and more than the CPU fuses. `change` makes the case from one with dyadic weights and random adjoints.
template <class Change, class Test>
void for_every_case(NeuronModel model, Index steps, Change&& change, Test&& test) {
    for (const Index N : {1, 33, 67})
        for (const Index b : {1, 7})
            for (const Index M : {2, 9})
                for (const auto& rule : all_reset_rules)
                    for (const Readout readout : {Readout::membrane, Readout::spikes}) {
                        SCOPED_TRACE(testing::Message() << "N " << N << ", b " << b << ", M " << M << ", reset " << rule
                                                        << ", readout " << int(readout));
                        model.reset = rule.reset, model.reset_delay = rule.delay;
                        StateCase c({steps, b, N, M, 3}, model);
                        c.readout = readout, c.has_extra = true;
                        change(c);
                        test(c);
                        if (testing::Test::HasFailure()) return;
                    }
}

double size_of(const Doubles& values) {
    double size = 0.0;
    for (const double value : values) size += std::abs(value);
    return size;
}

// Any decays and membranes: only the sums of the inputs and of the recurrence must be exact.
TEST_P(SameBits, StatesForwards) {
    Index spikes = 0;
    for_every_case(
        {.threshold = 0.5f, .sharpness = 2.0f}, 6, [](StateCase&) {},
        [&](const StateCase& c) {
            const auto cpu = make_backend(BackendKind::cpu, 1, Sums::float32);
            const StateResults expected = run_state(*cpu, c, How::loop);
            for (const std::uint32_t word : expected.bits) spikes += __builtin_popcount(word);
            expect_same_states(run_state(backend, c, How::whole_passes), expected);
        });
    EXPECT_GT(spikes, 1000);
}

// Adjoints for which every sum is exact: binary units (no decay), membranes, weights and adjoints on a coarse grid, and
// a surrogate that is 0, 1/2 or 1 on it. All bits are then those of the true gradient, in float32 and in float64.
TEST_P(SameBits, GradientsOfExactSums) {
    double size = 0.0;
    const auto coarse = [](StateCase& c) {
        Neurons& net = c.net;
        net.alpha.assign(net.alpha.size(), 0.0f), net.beta.assign(net.beta.size(), 0.0f);
        net.bias = multiples(net.bias.size(), 4, 0.5f, 1.0f);
        net.u = multiples(net.u.size(), 5, 0.5f, 2.0f);
        c.w_rec = multiples(c.w_rec.size(), 1, 0.5f, 1.0f);
        c.w_in = multiples(c.w_in.size(), 2, 0.5f, 1.0f), c.x = multiples(c.x.size(), 10, 1.0f, 1.5f);
        c.i0 = multiples(c.i0.size(), 3, 0.5f, 2.0f);
        c.di = multiples(c.di.size(), 6, 0.25f, 1.0f), c.du = multiples(c.du.size(), 7, 0.25f, 1.0f);
        c.w_out = multiples(c.w_out.size(), 11, 1.0f, 1.0f), c.dz = multiples(c.dz.size(), 8, 0.25f, 0.5f);
        c.extra = multiples(c.extra.size(), 9, 0.25f, 1.0f);
        c.sums = multiples(c.sums.size(), 12, 0.25f, 1.0f);
    };
    for_every_case({.threshold = 0.5f, .surrogate = Surrogate::triangle, .sharpness = 1.0f}, 4, coarse,
                   [&](const StateCase& c) {
                       const auto cpu = make_backend(BackendKind::cpu, 1, Sums::float32),
                                  wide = make_backend(BackendKind::cpu, 1, Sums::float64);
                       const StateResults expected = run_state(*cpu, c, How::loop);
                       expect_same(run_state(*wide, c, How::loop), expected);  // the sums are exact
                       size += size_of(expected.d_w_rec);
                       expect_same(run_state(backend, c, How::whole_passes), expected);
                   });
    EXPECT_GT(size, 1000.0);
}

// Decays and adjoints of any value: sums of products with dyadic weights are exact in double, and rounded once.
TEST_P(SameBits, GradientsOfSumsInDouble) {
    if (backend.sums() == Sums::float32) return;  // exact only in the test above
    double size = 0.0;
    const auto dyadic = [](StateCase& c) {
        for (auto [values, seed] : {std::pair{&c.di, 6}, {&c.du, 7}, {&c.dz, 8}, {&c.extra, 9}, {&c.w_out, 10}})
            *values = dyadic_floats(static_cast<Index>(values->size()), static_cast<std::uint64_t>(seed));
    };
    for_every_case({.threshold = 0.5f, .sharpness = 2.0f}, 6, dyadic, [&](const StateCase& c) {
        const auto cpu = make_backend(BackendKind::cpu, 1, Sums::float64);
        const StateResults expected = run_state(*cpu, c, How::loop);
        StateResults results = run_state(backend, c, How::loop);
        // Squares of floats of any size are not exact in double.
        EXPECT_TRUE(near_in_norm(results.squares, expected.squares, 1e-15));
        results.squares = expected.squares;
        size += size_of(expected.d_w_rec);
        expect_same(results, expected);
    });
    EXPECT_GT(size, 1000.0);
}

}  // namespace
}  // namespace spikefloss::testing_support
