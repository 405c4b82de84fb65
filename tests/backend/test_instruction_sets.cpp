// The CPU kernels for every instruction set that this processor has: the choice of one, and equal bits of all that have
// fused products. x86-64 has none; there the neurons still round alike.
#include "backend/instruction_sets.hpp"
#include "backend/product_test.hpp"
#include "backend/state_runs.hpp"
#include "backend/tangent_runs.hpp"
#include "core/error.hpp"
#include "neuron/fused.hpp"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <utility>

namespace spikefloss::testing_support {
namespace {

using How = StateRun::How;

TEST(FusedInDouble, RoundsAsTheInstruction) {
    const float infinity = std::numeric_limits<float>::infinity(), tiny = std::numeric_limits<float>::denorm_min(),
                least = std::numeric_limits<float>::min(), most = std::numeric_limits<float>::max(),
                next = std::nextafter(1.0f, 2.0f), before = std::nextafter(1.0f, 0.0f);
    const auto check = [](float a, float b, float c) {
        const float fused = fused_in_double(a, b, c), expected = std::fma(a, b, c);
        if (std::isnan(expected))
            EXPECT_TRUE(std::isnan(fused)) << a << " " << b << " " << c;
        else
            EXPECT_EQ(std::bit_cast<std::uint32_t>(fused), std::bit_cast<std::uint32_t>(expected))
                << a << " " << b << " " << c;
    };
    const float special[] = {0.0f, 1.0f, next, before, 3.0f, tiny, 3 * tiny, least, most, infinity, 0x1p-30f, 0x1p24f};
    for (const float a : special)
        for (const float b : special)
            for (const float c : special)
                for (const float sign : {1.0f, -1.0f}) check(sign * a, b, c), check(a, sign * b, -c);
    // Just below the middle of two floats: here the sum in double, rounded once more to float, is wrong.
    const float a = next, b = std::ldexp(std::nextafter(before, 0.0f), -24);
    EXPECT_NE(static_cast<float>(static_cast<double>(a) * b + next), std::fma(a, b, next));
    check(a, b, next), check(-a, b, -next), check(a, -b, -next);
    // All exponents, sums that cancel, and results that are not normal.
    const Index count = 200000;
    const Floats x = random_floats(count, 1), y = random_floats(count, 2), z = random_floats(count, 3);
    const Floats scale = uniform_floats(count, 4, -75.0, 75.0);
    for (Index i = 0; i < count; ++i) {
        const int e = static_cast<int>(scale[i]);
        check(x[i], y[i], std::ldexp(z[i], e));
        check(x[i], y[i], -(x[i] * y[i]));
        check(x[i], y[i], std::ldexp(x[i] * y[i], e / 2));
        check(std::ldexp(x[i], -std::abs(e)), std::ldexp(y[i], -70), std::ldexp(z[i], -140));
    }
}

TEST(InstructionSets, NewestOfTheProcessorIsTheDefault) {
    unsetenv("SPIKEFLOSS_CPU");
    for (const InstructionSet& set : instruction_sets())
        EXPECT_TRUE(!set.runs_here() || &instruction_set() >= &set) << set.name;
    EXPECT_TRUE(instruction_set().runs_here());
}

TEST(InstructionSets, EnvironmentChoosesOne) {
    const std::string first(instruction_sets().front().name);
    setenv("SPIKEFLOSS_CPU", first.c_str(), 1);
    EXPECT_EQ(instruction_set().name, first);
    setenv("SPIKEFLOSS_CPU", "avx", 1);
    EXPECT_THROW(instruction_set(), Error);
    EXPECT_EQ(instruction_set(first).name, first);
    setenv("SPIKEFLOSS_CPU", "", 1);
    EXPECT_TRUE(instruction_set().runs_here());
    unsetenv("SPIKEFLOSS_CPU");
}

TEST(InstructionSets, OneThatTheProcessorLacksIsRefused) {
    for (const InstructionSet& set : instruction_sets()) {
        if (set.runs_here()) continue;
        EXPECT_THROW(make_cpu_backend(1, Sums::float32, set.name), Error) << set.name;
    }
}

// Whole networks, rows with adaptation, and sizes that no register divides. Forwards the weights are dyadic, so that
// sums of W s are exact. Backwards the products W' g and g s' round as the set does: alike if it has fused products.
TEST(InstructionSets, PassesHaveTheSameBits) {
    const auto newest = make_cpu_backend(1, Sums::float32);
    const bool fused_newest = instruction_set().name != "x86-64";
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.runs_here() || &set == &instruction_set()) continue;
        const bool fused = fused_newest && set.name != "x86-64";
        const auto backend = make_cpu_backend(1, Sums::float32, set.name);
        for (const auto& [b, N] : {std::pair<Index, Index>{3, 1}, {3, 33}, {29, 67}, {13, 200}})
            for (const Surrogate surrogate : {Surrogate::fast_sigmoid, Surrogate::triangle})
                for (const Adaptation adaptation : {Adaptation::none, Adaptation::threshold}) {
                    SCOPED_TRACE(testing::Message() << set.name << ", b " << b << ", N " << N);
                    StateCase c(
                        {5, b, N, 2, 3},
                        {.threshold = 0.5f, .surrogate = surrogate, .sharpness = 2.0f, .adaptation = adaptation});
                    c.has_extra = true;
                    const StateResults expected = run_state(*newest, c, How::whole_passes),
                                       results = run_state(*backend, c, How::whole_passes);
                    expect_same_states(results, expected);
                    const auto alike = [&](const auto& sums, const auto& of_newest) {
                        return fused ? all_equal(sums, of_newest) : near_in_norm(sums, of_newest, 1e-6);
                    };
                    EXPECT_TRUE(alike(results.du, expected.du)) << "du";
                    EXPECT_TRUE(alike(results.squares, expected.squares)) << "squares";
                    EXPECT_TRUE(alike(results.d_w_rec, expected.d_w_rec)) << "dW_rec";
                    EXPECT_TRUE(alike(results.d_w_in, expected.d_w_in)) << "dW_in";
                    EXPECT_TRUE(alike(results.d_w_out, expected.d_w_out)) << "dW_out";
                    EXPECT_TRUE(alike(results.d_bias, expected.d_bias)) << "db";
                }
    }
}

// Bases and their adjoints, of sizes that no register divides.
TEST(InstructionSets, TangentPassesHaveTheSameBits) {
    struct Results {
        Floats q, a, e, d_w_rec;
        Doubles r, log_r;
    };
    const auto run = [](Backend& backend, const Problem& p) {
        spikefloss::TangentPasses passes = backend.tangent_passes({p.c.steps, p.shape()}, backend);
        const OnBackend on(backend, p);
        Tape tape(backend, p);
        passes.forward.pass->run(forward_call(p, on, tape));
        BackwardCase adjoint(backend, p);
        Buffer<float> d_w_rec(backend, p.c.N * p.c.N);
        passes.backward.pass->run(adjoint.call(on, tape, 1, {d_w_rec.data(), Scalar::float32, p.c.N, p.c.N, p.c.N}));
        return Results{tape.q.to_host(),  adjoint.a.to_host(), adjoint.e.to_host(),
                       d_w_rec.to_host(), tape.r.to_host(),    tape.log_r.to_host()};
    };
    const auto newest = make_cpu_backend(1, Sums::float32);
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.runs_here() || set.name == "x86-64" || &set == &instruction_set()) continue;
        const auto backend = make_cpu_backend(1, Sums::float32, set.name);
        for (const PassCase& c : {PassCase{4, 2, 2, 7, 9, true},
                                  {4, 1, 1, 17, 33, true},
                                  {6, 3, 2, 50, 64, true},
                                  {4, 2, 3, 31, 100, false}}) {
            SCOPED_TRACE(testing::Message() << set.name << ", " << c);
            const Problem problem(c);
            const Results expected = run(*newest, problem), results = run(*backend, problem);
            EXPECT_TRUE(all_equal(results.q, expected.q)) << "Q";
            EXPECT_TRUE(all_equal(results.r, expected.r)) << "R";
            EXPECT_TRUE(all_equal(results.log_r, expected.log_r)) << "ln R";
            EXPECT_TRUE(all_equal(results.a, expected.a)) << "A";
            EXPECT_TRUE(all_equal(results.e, expected.e)) << "e";
            EXPECT_TRUE(all_equal(results.d_w_rec, expected.d_w_rec)) << "dW_rec";
        }
    }
}

// Lists of spikes and of inputs that are mostly zeros, with one thread and with two.
TEST(InstructionSets, ListedProductsHaveTheSameBits) {
    const auto newest = make_cpu_backend(1, Sums::float32);
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.runs_here() || set.name == "x86-64") continue;
        for (const int threads : {1, 2})
            for (const Index n : {8, 33, 131, 300}) {
                SCOPED_TRACE(testing::Message() << set.name << ", " << threads << " threads, n " << n);
                const auto backend = make_cpu_backend(threads, Sums::float32, set.name);
                const auto run = [n](Backend& on, Form form) {
                    const Index rows = 300, m = 70;
                    const Operand x(on, rows, m, 0, 0.1, form, 3);
                    const Buffer<float> w(on, random_floats(n * m, 4)), y(on, random_floats(rows * n, 5));
                    Buffer<float> out(on, rows * n), gradient(on, n * m);
                    on.project({n, m, w.data(), m}, x.activity, {out.data(), Scalar::float32, rows, n, n}, false);
                    on.add_outer({y.data(), rows, n, n}, x.activity, {gradient.data(), Scalar::float32, n, m, m},
                                 nullptr);
                    return std::pair(out.to_host(), gradient.to_host());
                };
                for (const Form form : {Form::sparse_floats, Form::bits})
                    EXPECT_EQ(run(*backend, form), run(*newest, form));
            }
    }
}

// A sum of squares has the order of eight partial sums in every set.
TEST(InstructionSets, NormsHaveTheSameBits) {
    const auto newest = make_cpu_backend(1, Sums::float32);
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.runs_here()) continue;
        const auto backend = make_cpu_backend(1, Sums::float32, set.name);
        for (const Index count : {1, 7, 8, 9, 1000, 1003}) {
            const Floats x = random_floats(count, 5);
            Doubles partial(8, 0.0);
            for (Index i = 0; i < count; ++i)
                partial[i < count / 8 * 8 ? i % 8 : 0] += static_cast<double>(x[i]) * x[i];
            double expected = 0.0;
            for (const double sum : partial) expected += sum;
            Doubles sum(1, 0.0);
            const Squares all{x.data(), 1, count, count, sum.data()};
            backend->sum_squares({&all, 1});
            EXPECT_EQ(sum[0], expected) << set.name << ", " << count;
        }
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
