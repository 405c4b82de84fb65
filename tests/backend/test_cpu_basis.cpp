// QR of one basis in cache: Gram matrices, Cholesky, both ways to divide by R, against plain double arithmetic.
#include "backend/cpu_basis.hpp"
#include "backend/operation_test.hpp"

#include <cmath>

namespace spikefloss::testing_support {
namespace {

// k rows of D floats, `stride` apart, as the passes keep them: padded_k(k) rows, the last ones zero.
struct Basis {
    Index k, D, stride = D + 16;
    Floats values;

    Basis(Index k_, Index D_, std::uint64_t seed) : k(k_), D(D_), values(padded_k(k) * stride, 0.0f) {
        const Floats numbers = random_floats(k * D, seed);
        for (Index row = 0; row < k; ++row) std::copy_n(numbers.begin() + row * D, D, values.begin() + row * stride);
    }
    double at(Index row, Index d) const { return values[static_cast<std::size_t>(row * stride + d)]; }
    double dot(Index row, const Basis& other, Index column) const {
        double sum = 0.0;
        for (Index d = 0; d < D; ++d) sum += at(row, d) * other.at(column, d);
        return sum;
    }
};

struct Shape {
    Index k, D;
};
const Shape shapes[] = {{1, 16}, {3, 16}, {4, 32}, {5, 48}, {7, 32}, {13, 160}, {50, 128}, {33, 1024}};

Doubles gram_of(GramSums sums, const Basis& x, const Basis& y, Index members) {
    const Index stride = padded_k(x.k);
    Doubles g(stride * stride, -1.0), scratch(basis_scratch(x.k));
    for (Index member = 0; member < members; ++member)
        gram(sums, x.k, x.D, x.stride, x.values.data(), y.values.data(), g.data(), scratch.data(), member, members);
    return g;
}

TEST(CpuBasis, Gram) {
    for (const auto& [k, D] : shapes) {
        SCOPED_TRACE(testing::Message() << "k " << k << ", D " << D);
        const Basis x(k, D, 1), y(k, D, 2);
        for (const Basis* other : {&x, &y})
            for (const GramSums sums : {GramSums::float64, GramSums::float32}) {
                const Doubles g = gram_of(sums, x, *other, 1);
                // For products of norm sqrt(D): in float a few units in the last place.
                const double tolerance = (sums == GramSums::float64 ? 1e-13 : 4e-7) * static_cast<double>(D);
                for (Index i = 0; i < k; ++i)
                    for (Index j = i; j < k; ++j)
                        EXPECT_NEAR(g[i * padded_k(k) + j], x.dot(i, *other, j), tolerance) << i << ", " << j;
                const Doubles shared = gram_of(sums, x, *other, 3);
                for (Index i = 0; i < k; ++i)
                    for (Index j = i; j < k; ++j) EXPECT_EQ(shared[i * padded_k(k) + j], g[i * padded_k(k) + j]);
            }
    }
}

// Q'Q of a basis divided by its R.
double distance_from_orthonormal(const Basis& q) {
    double largest = 0.0;
    for (Index i = 0; i < q.k; ++i)
        for (Index j = 0; j <= i; ++j) largest = std::max(largest, std::abs(q.dot(i, q, j) - (i == j ? 1.0 : 0.0)));
    return largest;
}

TEST(CpuBasis, BothDivisionsByR) {
    for (const auto& [k, D] : shapes) {
        SCOPED_TRACE(testing::Message() << "k " << k << ", D " << D);
        const Index stride = padded_k(k);
        Basis x(k, D, 3), y = x;
        const Basis a = x;
        Doubles r = gram_of(GramSums::float64, x, x, 1), scratch(basis_scratch(k));
        ASSERT_EQ(factorise(k, r.data()), 0);
        Floats inverse(stride * stride);
        const double growth = invert(k, r.data(), inverse.data(), scratch.data());
        EXPECT_GE(growth, 0.999);
        divide(k, Transpose::no, inverse.data(), x.values.data(), x.stride, 0, D);
        substitute(k, r.data(), y.values.data(), y.stride, 0, D, scratch.data());
        EXPECT_LT(distance_from_orthonormal(y), 4e-7);
        EXPECT_LT(distance_from_orthonormal(x), 4e-7 * growth);
        EXPECT_TRUE(near_in_norm(widened(x.values), widened(y.values), 1e-7 * growth));

        // x <- R^-1 x, in parts, of the original rows: R times the result is the original.
        Basis z = a;
        for (Index begin = 0; begin < D; begin += 16)
            divide(k, Transpose::yes, inverse.data(), z.values.data(), z.stride, begin, begin + 16);
        Doubles back(k * D, 0.0), expected(k * D);
        for (Index i = 0; i < k; ++i)
            for (Index d = 0; d < D; ++d) {
                expected[i * D + d] = a.at(i, d);
                for (Index j = i; j < k; ++j) back[i * D + d] += r[i * stride + j] * z.at(j, d);
            }
        EXPECT_TRUE(near_in_norm(back, expected, 2e-7 * growth));
    }
}

// Two nearly parallel columns: the float product would lose digits, and invert reports this.
TEST(CpuBasis, GrowthTellsWhenAFloatProductLosesDigits) {
    const Index k = 5, D = 64, stride = padded_k(k);
    Basis x(k, D, 4);
    for (Index d = 0; d < D; ++d) {
        const auto at = [&](Index row) -> float& { return x.values[static_cast<std::size_t>(row * x.stride + d)]; };
        at(4) = at(1) + 1e-3f * at(4);
    }
    Doubles r = gram_of(GramSums::float64, x, x, 1), scratch(basis_scratch(k));
    ASSERT_EQ(factorise(k, r.data()), 0);
    Floats inverse(stride * stride);
    const double growth = invert(k, r.data(), inverse.data(), scratch.data());
    EXPECT_GT(growth, 1e3);
    EXPECT_LT(growth, 1e4);
    substitute(k, r.data(), x.values.data(), x.stride, 0, D, scratch.data());
    EXPECT_LT(distance_from_orthonormal(x), 4e-7);
}

TEST(CpuBasis, FactoriseNamesTheColumn) {
    for (const Index k : {1, 6, 9})
        for (Index bad = 0; bad < k; ++bad)
            for (const double value : {0.0, -1.0, std::nan("")}) {
                Doubles g(padded_k(k) * padded_k(k), 0.0);
                for (Index j = 0; j < k; ++j) g[j * (padded_k(k) + 1)] = j == bad ? value : 2.0;
                EXPECT_EQ(factorise(k, g.data()), bad + 1);
            }
}

}  // namespace
}  // namespace spikefloss::testing_support
