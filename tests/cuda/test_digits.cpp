// Digits of 8 bits (cuda/digits.hpp), on an emulated device: what they keep of a matrix, and their exact products.
#include "backend/buffer.hpp"
#include "cuda_backend.hpp"
#include "digits.hpp"

#include "backend/operation_test.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace spikefloss::testing_support {
namespace {

class Digits : public testing::Test {
protected:
    struct Split {
        Index rows, cols;  // of a digit
        std::vector<std::uint32_t> magnitudes = {};
        std::vector<std::int8_t> digits = {};
    };
    Split split(const Floats& x, Index rows, Index cols, bool turned, int count, const Floats& column_sizes = {}) {
        const Buffer<float> x_(backend_, x), sizes_(backend_, column_sizes);
        Buffer<std::uint32_t> columns(backend_, cols), magnitudes(backend_, rows);
        const bool scaled = !column_sizes.empty();
        if (scaled) row_magnitudes(backend_.stream(), {sizes_.data(), cols, 1}, nullptr, columns.data());
        const DigitRows scales{magnitudes.data(), scaled ? columns.data() : nullptr};
        row_magnitudes(backend_.stream(), {x_.data(), rows, cols}, scales.column, magnitudes.data());
        Split made{digit_stride(turned ? cols : rows), digit_stride(turned ? rows : cols)};
        Buffer<std::int8_t> digits(backend_, count * made.rows * made.cols, Unset());
        split_digits(backend_.stream(), {x_.data(), rows, cols}, scales, turned, count, digits.data());
        made.magnitudes = magnitudes.to_host();
        made.digits = digits.to_host();
        return made;
    }
    // The number that the digits at (row, col) stand for.
    static std::int64_t whole(const Split& s, int count, Index row, Index col) {
        std::int64_t q = 0;
        for (int a = 0; a < count; ++a)
            q = 256 * q + s.digits[static_cast<std::size_t>((a * s.rows + row) * s.cols + col)];
        return q;
    }
    static float value(std::uint32_t magnitude) {
        float x;
        std::memcpy(&x, &magnitude, sizeof x);
        return x;
    }

    CudaBackend backend_{describe_device(0), Sums::float32, Precision::fp32};
};

TEST_F(Digits, KeepEachElementToHalfAUnit) {
    for (Index rows : {1, 16, 17, 70})
        for (Index cols : {1, 15, 33, 300})
            for (int count : {2, 3, 4})
                for (bool turned : {false, true}) {
                    SCOPED_TRACE(testing::Message() << rows << " x " << cols << ", " << count << " digits" << turned);
                    Floats x = random_floats(rows * cols, 1);
                    for (Index at = 0; at < rows * cols; ++at)  // subnormal, tiny and huge rows
                        x[at] = std::ldexp(x[at], static_cast<int>(at / cols % 4) * 85 - 140);
                    const Split s = split(x, rows, cols, turned, count);
                    for (Index r = 0; r < s.rows; ++r)
                        for (Index j = 0; j < s.cols; ++j) {
                            const Index row = turned ? j : r, col = turned ? r : j;
                            const std::int64_t q = whole(s, count, r, j);
                            if (row >= rows || col >= cols) {
                                ASSERT_EQ(q, 0) << "beyond the matrix";
                                continue;
                            }
                            int exponent;
                            std::frexp(value(s.magnitudes[row]), &exponent);
                            exponent = std::max(exponent, -126);
                            const double unit = std::ldexp(1.0, exponent - bits_of(count));
                            ASSERT_LE(std::abs(static_cast<double>(q) * unit - x[row * cols + col]), 0.5 * unit);
                        }
                }
}

// The largest numbers of a row need no digit more: 2^e - 1 unit, -2^e + 1 unit, and what rounds up to 2^e.
TEST_F(Digits, HaveRoomForTheLargestElement) {
    const float most = std::nextafter(2.0f, 0.0f);
    for (int count : {2, 3, 4}) {
        const Split s = split({most, -most, 1.0f, 0.0f}, 1, 4, false, count);
        const double unit = std::ldexp(1.0, 1 - bits_of(count));
        EXPECT_EQ(whole(s, count, 0, 0), std::llround(most / unit));
        EXPECT_EQ(whole(s, count, 0, 1), -whole(s, count, 0, 0));
        EXPECT_EQ(whole(s, count, 0, 2), std::llround(1.0 / unit));
        EXPECT_EQ(whole(s, count, 0, 3), 0);
    }
}

TEST_F(Digits, OfScaledColumns) {
    const Floats x{1.0f, 1.0f, 1.0f}, sizes{1.0f, 4.0f, 0.25f};  // 2^e: 2, 8, 0.5
    const Split s = split(x, 1, 3, false, 4, sizes);
    EXPECT_EQ(value(s.magnitudes[0]), 8.0f);
    EXPECT_EQ(whole(s, 4, 0, 0) * 4, whole(s, 4, 0, 1));
    EXPECT_EQ(whole(s, 4, 0, 2) * 4, whole(s, 4, 0, 0));
}

TEST_F(Digits, OfRowsThatAreNotFinite) {
    const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const Split s = split({1.0f, infinity, -infinity, 1.0f, nan, 1.0f, 1.0f, 2.0f}, 4, 2, false, 4);
    for (int row : {0, 1, 2}) EXPECT_FALSE(std::isfinite(value(s.magnitudes[row]))) << row;
    EXPECT_EQ(value(s.magnitudes[3]), 2.0f);
}

TEST_F(Digits, ProductsAreExact) {
    const Index m = 32, n = 5, inner = 48;
    std::vector<std::int8_t> a(m * inner), b(n * inner);
    for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<std::int8_t>(i * 37 % 256 - 128);
    for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<std::int8_t>(i * 91 % 256 - 128);
    const Buffer<std::int8_t> a_(backend_, a), b_(backend_, b);
    Buffer<std::int32_t> sums(backend_, n * m);
    digit_product(backend_.blas(), m, n, inner, a_.data(), b_.data(), sums.data());
    const auto found = sums.to_host();
    for (Index r = 0; r < n; ++r)
        for (Index c = 0; c < m; ++c) {
            std::int32_t expected = 0;
            for (Index k = 0; k < inner; ++k) expected += a[c * inner + k] * b[r * inner + k];
            ASSERT_EQ(found[r * m + c], expected);
        }
    EXPECT_ANY_THROW(digit_product(backend_.blas(), m - 1, n, inner, a_.data(), b_.data(), sums.data()));
}

}  // namespace
}  // namespace spikefloss::testing_support
