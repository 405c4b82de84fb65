// The state pass gives the same bits on every backend, for any distribution of the work, if sums are exact: dyadic
// weights are multiplied by spikes, and all other operations are explicit single roundings. The reference is the loop
// of the CPU backend over step operations, on one thread. All other ways, by whole passes if the backend has them, must
// give the same bits.
#include "backend/step_loops.hpp"

#include <cmath>

namespace spikefloss::testing_support {
namespace {

class SameBits : public OperationTest {};
INSTANTIATE_TEST_SUITE_P(Backends, SameBits, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

struct Given {
    PassShape shape;
    Neurons net;
    Floats w, input, i0, di, du, from_readout, extra;
    Readout readout;
};

struct Results {
    Floats u, i, di, du, g;
    std::vector<std::uint32_t> bits;
    Doubles squares, dw;
};

enum class How { loop, whole_passes };

Results results_of(Backend& backend, const Given& given, How how) {
    const auto [steps, b, N] = given.shape;
    const Index row = b * N;
    const Buffer<float> w(backend, given.w), input(backend, given.input), from_readout(backend, given.from_readout),
        extra(backend, given.extra);
    const Constants constants(backend, given.net);
    Trajectory at = start(backend, given.shape, given.net, given.i0);
    if (how == How::loop || !backend.forward_steps(given.net.model, constants, steps, b, N, w.data(), input.data(),
                                                   at.i.data(), row, at.u.data(), at.bits.data()))
        at = loop_forward(backend, given.shape, given.net, w, input, given.i0);

    Buffer<float> di(backend, given.di), du(backend, given.du), g(backend, steps * row);
    Buffer<double> squares(backend, Doubles((steps + 1) * b, 0.0)), wide(backend, N * N);
    SumBuffer dw(backend, N * N);
    const StepsBackward pass{steps,         at.u.data(),  at.bits.data(), from_readout.data(),
                             given.readout, extra.data(), squares.data(), nullptr,
                             di.data(),     du.data(),    g.data(),       dw.matrix(N, N)};
    if (how == How::loop || !backend.backward_steps(given.net.model, constants, b, N, w.data(), pass))
        loop_backward(backend, given.shape, given.net, w, pass);
    Buffer<float> rounded(backend, N * N);
    backend.round_sums(dw.data(), rounded.data(), N * N);
    return {at.u.to_host(), at.i.to_host(),    di.to_host(),      du.to_host(),
            g.to_host(),    at.bits.to_host(), squares.to_host(), widened(rounded.to_host())};
}

void expect_same(const Results& results, const Results& expected) {
    EXPECT_TRUE(all_equal(results.bits, expected.bits)) << "spikes";
    EXPECT_TRUE(all_equal(results.u, expected.u)) << "u";
    EXPECT_TRUE(all_equal(results.i, expected.i)) << "i";
    EXPECT_TRUE(all_equal(results.g, expected.g)) << "g";
    EXPECT_TRUE(all_equal(results.di, expected.di)) << "di";
    EXPECT_TRUE(all_equal(results.du, expected.du)) << "du";
    EXPECT_TRUE(all_equal(results.dw, expected.dw)) << "dW_rec";
    EXPECT_TRUE(all_equal(results.squares, expected.squares)) << "squares";
}

// Multiples of `unit` in [-limit, limit].
Floats multiples(Index count, std::uint64_t seed, float unit, float limit) {
    Floats values = uniform_floats(count, seed, -limit, limit);
    for (float& x : values) x = std::round(x / unit) * unit;
    return values;
}

// test(given): one neuron, more neurons than one word has bits, three blocks of neurons; one sequence or several.
template <class Make, class Test>
void for_every_case(Make&& make, Test&& test) {
    for (const Index N : {1, 33, 67})
        for (const Index b : {1, 7})
            for (const Reset reset : all_resets)
                for (const Readout readout : {Readout::membrane, Readout::spikes}) {
                    SCOPED_TRACE(testing::Message() << "N " << N << ", b " << b << ", reset " << int(reset)
                                                    << ", readout " << int(readout));
                    test(make(N, b, reset, readout));
                    if (testing::Test::HasFailure()) return;
                }
}

Index spikes_in(const Results& results) {
    Index count = 0;
    for (const std::uint32_t word : results.bits) count += __builtin_popcount(word);
    return count;
}

// Any decays, inputs and membranes: only the recurrent sums must be exact.
TEST_P(SameBits, StatesForwards) {
    Index spikes = 0;
    for_every_case(
        [](Index N, Index b, Reset reset, Readout readout) {
            const Index steps = 6, row = b * N;
            const Neurons net({.threshold = 0.5f, .reset = reset, .sharpness = 2.0f}, b, N);
            Floats w = dyadic_floats(N * N, 1);
            for (float& x : w) x *= 0.25f;
            return Given{{steps, b, N},
                         net,
                         w,
                         random_floats(steps * row, 2),
                         random_floats(row, 3),
                         Floats(row),
                         Floats(row),
                         Floats(steps * row),
                         Floats((steps + 1) * row),
                         readout};
        },
        [&](const Given& given) {
            const auto cpu = make_backend(BackendKind::cpu, 1, Sums::float32);
            const Results expected = results_of(*cpu, given, How::loop);
            spikes += spikes_in(expected);
            expect_same(results_of(backend, given, How::whole_passes), expected);
        });
    EXPECT_GT(spikes, 1000);
}

// Adjoints for which every sum is exact: binary units (no decay), membranes, weights and adjoints on a coarse grid, and
// a surrogate that is 0, 1/2 or 1 on it. All bits are then those of the true gradient, in float32 and in float64.
TEST_P(SameBits, GradientsOfExactSums) {
    double size = 0.0;
    for_every_case(
        [](Index N, Index b, Reset reset, Readout readout) {
            const Index steps = 4, row = b * N;
            Neurons net({.threshold = 0.5f, .reset = reset, .surrogate = Surrogate::triangle, .sharpness = 1.0f}, b, N);
            net.alpha.assign(N, 0.0f), net.beta.assign(N, 0.0f);
            net.bias = multiples(N, 4, 0.5f, 1.0f);
            net.u = multiples(row, 5, 0.5f, 2.0f);
            return Given{{steps, b, N},
                         net,
                         multiples(N * N, 1, 0.5f, 1.0f),
                         multiples(steps * row, 2, 0.5f, 2.0f),
                         multiples(row, 3, 0.5f, 2.0f),
                         multiples(row, 6, 0.25f, 1.0f),
                         multiples(row, 7, 0.25f, 1.0f),
                         multiples(steps * row, 8, 0.25f, 1.0f),
                         multiples((steps + 1) * row, 9, 0.25f, 1.0f),
                         readout};
        },
        [&](const Given& given) {
            const auto cpu = make_backend(BackendKind::cpu, 1, Sums::float32),
                       wide = make_backend(BackendKind::cpu, 1, Sums::float64);
            const Results expected = results_of(*cpu, given, How::loop);
            expect_same(results_of(*wide, given, How::loop), expected);  // the sums are exact
            for (const double g : expected.dw) size += std::abs(g);
            expect_same(results_of(backend, given, How::whole_passes), expected);
        });
    EXPECT_GT(size, 1000.0);
}

// Decays and adjoints of any value: sums of products with dyadic weights are exact in double, and rounded once.
TEST_P(SameBits, GradientsOfSumsInDouble) {
    if (backend.sums() == Sums::float32) return;  // exact only in the test above
    double size = 0.0;
    for_every_case(
        [](Index N, Index b, Reset reset, Readout readout) {
            const Index steps = 6, row = b * N;
            const Neurons net({.threshold = 0.5f, .reset = reset, .sharpness = 2.0f}, b, N);
            Floats w = dyadic_floats(N * N, 1);
            for (float& x : w) x *= 0.25f;
            return Given{{steps, b, N},
                         net,
                         w,
                         random_floats(steps * row, 2),
                         random_floats(row, 3),
                         dyadic_floats(row, 6),
                         dyadic_floats(row, 7),
                         dyadic_floats(steps * row, 8),
                         dyadic_floats((steps + 1) * row, 9),
                         readout};
        },
        [&](const Given& given) {
            const auto cpu = make_backend(BackendKind::cpu, 1, Sums::float64);
            Results expected = results_of(*cpu, given, How::loop), results = results_of(backend, given, How::loop);
            // Squares of floats of any size are not exact in double.
            EXPECT_TRUE(near_in_norm(results.squares, expected.squares, 1e-15));
            results.squares = expected.squares;
            for (const double g : expected.dw) size += std::abs(g);
            expect_same(results, expected);
        });
    EXPECT_GT(size, 1000.0);
}

}  // namespace
}  // namespace spikefloss::testing_support
