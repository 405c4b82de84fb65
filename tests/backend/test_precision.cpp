// The bits of factors that the precisions fp32, tf32 and bf16 keep in products: all 24, about 11, or 8; by digits 30,
// 22 or 14 of the largest weight of a row. The CPU backend has one precision.
#include "backend/state_runs.hpp"

#include <cstring>

namespace spikefloss::testing_support {
namespace {

struct Kept {
    std::string name;  // as in BackendCase
    Precision precision;
    int parts, digits;    // bfloat16 numbers, or digits of 8 bits, of a weight
    double error;         // relative error of one factor
    double digits_error;  // of W' g by digits, in the norm
};

class PrecisionTest : public testing::TestWithParam<std::pair<std::string, Kept>> {
protected:
    void SetUp() override { skip_where_missing(on_cpu() ? "" : why_no_cuda()); }
    static bool on_cpu() { return GetParam().first == "cpu"; }
    static const Kept& kept() { return GetParam().second; }
    static std::unique_ptr<Backend> make(Precision precision, BackendChoice::DeviceLimits limits = {},
                                         std::vector<std::string> without = {}) {
        return make_backend(BackendChoice{.kind = on_cpu() ? BackendKind::cpu : BackendKind::cuda,
                                          .precision = precision,
                                          .limits = limits,
                                          .without_passes = std::move(without)});
    }
    // u of a pass with these weights.
    static Floats states(const std::string& pass, Precision precision, StateCase c, const Floats& w_rec) {
        const auto backend = make(precision, {1024, false}, {"loop", pass == "digits" ? "products" : "digits"});
        c.w_rec = w_rec;
        StateRun state(*backend, c, StateRun::How::whole_passes);
        EXPECT_EQ(state.passes.forward.name, on_cpu() ? "network" : pass);
        state.forward();
        return state.u.to_host();
    }
};

// The nearest bfloat16 number: the upper 16 bits of a float, ties to even.
float bf16(float x) {
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7FFFu + (bits >> 16 & 1u)) & 0xFFFF0000u;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// The sum of the first `parts` bfloat16 numbers of the expansion of x.
float kept_of(float x, int parts) {
    float sum = 0.0f;
    for (int part = 0; part < parts; ++part) sum += bf16(x - sum);
    return sum;
}

Floats kept_of(Floats values, int parts) {
    for (float& x : values) x = kept_of(x, parts);
    return values;
}

// Multiples of 2^-22 below 1/16: 18 bits. One bfloat16 keeps 8 of them, two keep 16 or 17; sums of 40 are exact.
Floats weights(Index count, std::uint64_t seed) {
    Floats values(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) {
        const auto word = random_words(seed, Stream::test, static_cast<std::uint32_t>(i), 3, 0, 0)[0];
        values[static_cast<std::size_t>(i)] = (static_cast<float>(word % (1u << 19)) - 0x1p18f) * 0x1p-22f;
    }
    return values;
}

TEST_P(PrecisionTest, OfAProduct) {
    const auto backend = make(kept().precision);
    const Index m = 24, n = 40, inner = 56;
    const Floats a = random_floats(m * inner, 1), b = random_floats(n * inner, 2);
    const Buffer<float> a_(*backend, a), b_(*backend, b);
    Buffer<float> c_(*backend, m * n);
    backend->project({n, inner, b_.data(), inner}, {.values = a_.data(), .stride = inner},
                     Matrix<float>(c_.data(), m, n), false);
    const Floats c = c_.to_host();
    double error = 0.0, size = 0.0;
    for (Index i = 0; i < m; ++i)
        for (Index j = 0; j < n; ++j) {
            double exact = 0.0, largest = 0.0;
            for (Index l = 0; l < inner; ++l) {
                exact += double(a[i * inner + l]) * b[j * inner + l];
                largest += std::abs(double(a[i * inner + l]) * b[j * inner + l]);
            }
            const double off = std::abs(c[i * n + j] - exact);
            EXPECT_LE(off, (2.0 * kept().error + inner * 0x1p-24) * largest) << i << ", " << j;
            error += off, size += largest;
        }
    EXPECT_LE(error, kept().error * size);  // the roundings of a sum partly cancel
                                            // A real device may use exact kernels for a small product. The emulated one
                                            // rounds with the chosen precision.
#ifdef SPIKEFLOSS_TEST_EMULATED
    EXPECT_GT(error, 0.02 * kept().error * size);
#endif
}

// w [rows, cols] as `count` digits of 8 bits and the exponent of the row keep it.
Floats digits_kept_of(Floats w, Index cols, int count) {
    for (std::size_t first = 0; first < w.size(); first += static_cast<std::size_t>(cols)) {
        float most = 0.0f;
        for (std::size_t j = 0; j < static_cast<std::size_t>(cols); ++j) most = std::max(most, std::abs(w[first + j]));
        int exponent = 0;
        std::frexp(most, &exponent);  // most < 2^exponent
        const int shift = 8 * count - 2 - exponent;
        for (std::size_t j = 0; j < static_cast<std::size_t>(cols); ++j)
            w[first + j] =
                static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(double(w[first + j]), shift)), -shift));
    }
    return w;
}

// A pass with a product for each step equals the exact pass with the rounded weights, bit for bit.
TEST_P(PrecisionTest, OfWeightsInAPass) {
    StateCase c({4, 3, 40, 2, 1}, {.threshold = 0.02f, .sharpness = 2.0f});
    c.i0 = random_floats(3 * 40, 3, 0.3);
    for (float& x : c.x) x *= 0.25f;
    const Floats w = weights(40 * 40, 1);
    for (const std::string pass : {"products", "digits"}) {
        SCOPED_TRACE(pass);
        const Floats rounded = on_cpu()             ? w
                               : pass == "products" ? kept_of(w, kept().parts)
                                                    : digits_kept_of(w, 40, kept().digits);
        const Floats u = states(pass, kept().precision, c, w), whole = states(pass, Precision::fp32, c, w);
        EXPECT_TRUE(all_equal(u, states(pass, Precision::fp32, c, rounded)));
        // 18 bits: three digits and more keep all of them.
        const bool all = on_cpu() || (pass == "products" ? kept().parts == 3 : kept().digits >= 3);
        EXPECT_EQ(std::equal(u.begin(), u.end(), whole.begin()), all);
    }
}

// W' g in a step by digits, against sums of doubles: rows of W and sequences of very different sizes.
TEST_P(PrecisionTest, OfAdjointsByDigits) {
    if (on_cpu()) GTEST_SKIP() << "the CPU backend has no digits";
    const Index N = 300, b = 5;
    StateCase c({1, b, N, 2, 1}, {.threshold = 0.5f, .sharpness = 2.0f});
    c.has_dz = c.squares = false;
    c.w_rec = random_floats(N * N, 1, 0.05);
    for (Index j = 0; j < N; ++j)
        for (Index i = 0; i < N; ++i) c.w_rec[j * N + i] *= std::ldexp(1.0f, static_cast<int>(j % 7) * 4 - 12);
    for (Index s = 0; s < b; ++s)
        for (Index j = 0; j < N; ++j) {
            const float size = std::ldexp(1.0f, static_cast<int>(s) * 20 - 50);
            c.di[s * N + j] *= size, c.du[s * N + j] *= size;
        }
    const auto digits = make(kept().precision, {1024, false}, {"loop"});
    const auto exact = make_backend(BackendKind::cpu, 1, Sums::float64);
    StateRun run(*digits, c, StateRun::How::whole_passes), reference(*exact, c, StateRun::How::loop);
    ASSERT_EQ(run.passes.backward.name, "digits");
    for (StateRun* each : {&run, &reference}) each->forward(), each->backward();
    const Floats du = run.du.to_host(), expected = reference.du.to_host();
    for (Index s = 0; s < b; ++s) {
        SCOPED_TRACE(s);
        const auto row = [&](const Floats& all) { return Floats(all.begin() + s * N, all.begin() + (s + 1) * N); };
        EXPECT_TRUE(near_in_norm(row(du), row(expected), kept().digits_error));
        EXPECT_EQ(static_cast<bool>(near_in_norm(row(du), row(expected), 1e-3 * kept().digits_error)), false);
    }
}

// The sum of y s' over spikes s, with enough neurons that it is computed in parts: it equals that of the rounded y.
TEST_P(PrecisionTest, OfTheGradientOfTheWeights) {
    const Index rows = 4, N = 520;
    const auto backend = make(kept().precision, {1024, false});
    const Neurons net({.threshold = 0.5f}, rows, N);
    const Floats y = random_floats(rows * N, 5), y_kept = kept_of(y, on_cpu() ? 3 : kept().parts);
    const Buffer<float> u(*backend, net.u), y_(*backend, y);
    Buffer<std::uint32_t> bits(*backend, rows * spike_words(N));
    SumBuffer dw(*backend, N * N);
    backend->pack_spikes(net.model, {}, rows, N, {nullptr, u.data()}, bits.data());
    backend->add_outer({y_.data(), rows, N}, {.bits = bits.data(), .stride = spike_words(N)}, dw.matrix(N, N));
    Floats found(static_cast<std::size_t>(N * N));
    backend->copy_out(found.data(), dw.data(), found.size() * sizeof(float));
    Doubles expected(found.size()), whole(found.size());
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j)
            for (Index row = 0; row < rows; ++row) {
                expected[i * N + j] += double(y_kept[row * N + i]) * net.spike(row * N + j);
                whole[i * N + j] += double(y[row * N + i]) * net.spike(row * N + j);
            }
    EXPECT_TRUE(near_in_norm(found, expected, 2e-7));
    EXPECT_EQ(static_cast<bool>(near_in_norm(found, whole, 2e-7)), on_cpu() || kept().precision == Precision::fp32);
}

std::vector<std::pair<std::string, Kept>> cases() {
    const Kept fp32{"fp32", Precision::fp32, 3, 4, 0x1p-23, 1e-7}, tf32{"tf32", Precision::tf32, 2, 3, 0x1p-11, 1e-5},
        half{"bf16", Precision::bf16, 1, 2, 0x1p-8, 1e-3};
    std::vector<std::pair<std::string, Kept>> all;
#ifndef SPIKEFLOSS_TEST_EMULATED
    for (Kept kept : {fp32, tf32, half}) all.emplace_back("cpu", kept), all.back().second.error = fp32.error;
#endif
    if (backend_names() != "cpu")
        for (const Kept& kept : {fp32, tf32, half}) all.emplace_back("cuda", kept);
    return all;
}

INSTANTIATE_TEST_SUITE_P(Backends, PrecisionTest, testing::ValuesIn(cases()),
                         [](const auto& instance) { return instance.param.first + "_" + instance.param.second.name; });

}  // namespace
}  // namespace spikefloss::testing_support
