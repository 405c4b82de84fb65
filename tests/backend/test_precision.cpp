// The bits of factors that the precisions fp32, tf32 and bf16 keep in products: all 24, about 11, or 8. Sums are floats
// in each case. The CPU backend has one precision.
#include "backend/step_loops.hpp"

#include <cstring>

namespace spikefloss::testing_support {
namespace {

struct Kept {
    std::string name;  // as in BackendCase
    Precision precision;
    int parts;     // number of bfloat16 numbers per weight
    double error;  // relative error of one factor
};

class PrecisionTest : public testing::TestWithParam<std::pair<std::string, Kept>> {
protected:
    void SetUp() override { skip_where_missing(on_cpu() ? "" : why_no_cuda()); }
    static bool on_cpu() { return GetParam().first == "cpu"; }
    static const Kept& kept() { return GetParam().second; }
    static std::unique_ptr<Backend> make(Precision precision, BackendChoice::DeviceLimits limits = {}) {
        return make_backend(BackendChoice{
            .kind = on_cpu() ? BackendKind::cpu : BackendKind::cuda, .precision = precision, .limits = limits});
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
            EXPECT_LE(off, 2.0 * kept().error * largest) << i << ", " << j;
            error += off, size += largest;
        }
        // A real device may use exact kernels for a small product. The emulated one rounds with the chosen precision.
#ifdef SPIKEFLOSS_TEST_EMULATED
    EXPECT_GT(error, 0.02 * kept().error * size);
#endif
}

// A pass with a product for each step equals the exact pass with the rounded weights, bit for bit.
TEST_P(PrecisionTest, OfWeightsInAPass) {
    const PassShape shape{4, 3, 40};
    const auto [steps, b, N] = shape;
    const Neurons net({.threshold = 0.02f, .sharpness = 2.0f}, b, N);
    const Floats w = weights(N * N, 1), input = random_floats(steps * b * N, 2, 0.3), i0 = random_floats(b * N, 3, 0.3);
    const auto run = [&](Precision precision, const Floats& matrix) {
        const auto backend = make(precision, {1024, false});
        const Buffer<float> w_(*backend, matrix), input_(*backend, input);
        const Constants constants(*backend, net);
        Trajectory at = start(*backend, shape, net, i0);
        EXPECT_TRUE(backend->forward_steps(net.model, constants, steps, b, N, w_.data(), input_.data(), at.i.data(),
                                           b * N, at.u.data(), at.bits.data()));
        return at.u.to_host();
    };
    const Floats u = run(kept().precision, w), whole = run(Precision::fp32, w);
    EXPECT_TRUE(all_equal(u, run(Precision::fp32, kept_of(w, on_cpu() ? 3 : kept().parts))));
    EXPECT_EQ(std::equal(u.begin(), u.end(), whole.begin()), on_cpu() || kept().precision == Precision::fp32);
}

// dW_rec, with enough neurons that it is computed in parts: it equals that of the rounded adjoints.
TEST_P(PrecisionTest, OfTheGradientOfTheWeights) {
    const PassShape shape{2, 2, 520};
    const auto [steps, b, N] = shape;
    const Index rows = steps * b;
    const auto backend = make(kept().precision, {1024, false});
    const Neurons net({.threshold = 0.5f, .sharpness = 2.0f}, b, N);
    const Constants constants(*backend, net);
    const Buffer<float> w(*backend, weights(N * N, 1)), input(*backend, random_floats(rows * N, 2));
    const Trajectory at = loop_forward(*backend, shape, net, w, input, random_floats(b * N, 3));
    Buffer<float> di(*backend, b * N), du(*backend, random_floats(b * N, 5)), g_(*backend, rows * N);
    SumBuffer dw(*backend, N * N);
    ASSERT_TRUE(backend->backward_steps(net.model, constants, b, N, w.data(),
                                        {steps, at.u.data(), at.bits.data(), nullptr, Readout::membrane, nullptr,
                                         nullptr, nullptr, di.data(), du.data(), g_.data(), dw.matrix(N, N)}));
    const auto bits = at.bits.to_host();
    const Floats g = g_.to_host(), g_kept = kept_of(g, on_cpu() ? 3 : kept().parts);
    Floats found(static_cast<std::size_t>(N * N));
    backend->copy_out(found.data(), dw.data(), found.size() * sizeof(float));
    Doubles expected(found.size()), whole(found.size());
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j)
            for (Index row = 0; row < rows; ++row) {
                expected[i * N + j] += double(g_kept[row * N + i]) * spike_of(bits, N, row, j);
                whole[i * N + j] += double(g[row * N + i]) * spike_of(bits, N, row, j);
            }
    EXPECT_TRUE(near_in_norm(found, expected, 2e-7));
    EXPECT_EQ(static_cast<bool>(near_in_norm(found, whole, 2e-7)), on_cpu() || kept().precision == Precision::fp32);
}

std::vector<std::pair<std::string, Kept>> cases() {
    const Kept fp32{"fp32", Precision::fp32, 3, 0x1p-23}, tf32{"tf32", Precision::tf32, 2, 0x1p-11},
        half{"bf16", Precision::bf16, 1, 0x1p-8};
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
