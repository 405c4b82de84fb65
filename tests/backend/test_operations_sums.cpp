// Products, sums and element-wise operations of every backend against plain double loops, at ragged sizes and padded
// strides.
#include "backend/operation_test.hpp"

#include <algorithm>

namespace spikefloss::testing_support {
namespace {

class SumOperations : public OperationTest {
protected:
    double squares(const float* x, Index count) {
        Buffer<double> sum(backend, 1);
        return squares_of(backend, x, count, sum);
    }
};
SPIKEFLOSS_ON_EVERY_BACKEND(SumOperations);

// A [rows, cols] matrix with `pad` values between its rows and none after the last. The padding of an input is NaN, so
// that a read of the padding shows.
struct Padded {
    Index rows, cols, stride;
    Floats values;

    // density: the share of elements that are not 0.
    Padded(Index rows_, Index cols_, Index pad, std::uint64_t seed, double density = 1.0)
        : rows(rows_), cols(cols_), stride(cols_ + pad), values(random_floats(size(), seed)) {
        const Floats chance = uniform_floats(size(), seed + 10, 0.0, 1.0);
        for (Index i = 0; i < size(); ++i) {
            if (i % std::max<Index>(1, stride) >= cols)
                values[i] = nan_value;
            else if (chance[i] >= density)
                values[i] = 0.0f;
        }
    }
    Index size() const { return rows ? (rows - 1) * stride + cols : 0; }
    double at(Transpose op, Index i, Index j) const {
        return op == Transpose::no ? values[i * stride + j] : values[j * stride + i];
    }
};

struct Product {
    Index m, n, inner;
    Transpose op_a, op_b;
    Index pad;
    bool accumulate;
    double density = 1.0;  // of the factor whose rows are steps: inputs, or spikes
};

// The first content of C if the product is added to it; otherwise NaN, which must be overwritten.
Floats start_of(const Product& p, Index size) {
    return p.accumulate ? random_floats(size, 3) : Floats(static_cast<std::size_t>(size), nan_value);
}

constexpr float padding = -77.0f;

// C with its padding, from the double loops.
Doubles expected_product(const Product& p, const Padded& a, const Padded& b, const Floats& start, Index stride) {
    Doubles c = widened(start);
    for (Index i = 0; i < p.m; ++i)
        for (Index j = 0; j < p.n; ++j) {
            double sum = 0.0;
            for (Index l = 0; l < p.inner; ++l) sum += a.at(p.op_a, i, l) * b.at(p.op_b, l, j);
            double& out = c[i * stride + j];
            out = p.accumulate ? out + sum : sum;
        }
    return c;
}

template <class Test>
void for_every_product(Test&& test) {
    std::vector<Product> products;
    for (Index m : {0, 1, 5, 67})
        for (Index n : {0, 1, 31, 33})
            for (Index inner : {0, 1, 7, 32})
                for (Transpose op_a : {Transpose::no, Transpose::yes})
                    for (Transpose op_b : {Transpose::no, Transpose::yes})
                        for (Index pad : {0, 3})
                            for (bool accumulate : {false, true})
                                products.push_back({m, n, inner, op_a, op_b, pad, accumulate});
    // Large enough to be split over threads.
    for (Transpose op_a : {Transpose::no, Transpose::yes})
        products.push_back({67, 131, 257, op_a, Transpose::yes, 5, true});
    // Mostly zeros, as in W_in x and g x' of inputs that spike; and densities below and above the limits of algorithms.
    for (double density : {0.0, 0.03, 0.13, 0.17})
        for (Index n : {33, 101}) {
            products.push_back({601, n, 45, Transpose::no, Transpose::yes, 3, false, density});
            products.push_back({n, 45, 1301, Transpose::yes, Transpose::no, 3, true, density});
        }
    for (const Product& p : products) {
        SCOPED_TRACE(testing::Message() << p.m << " x " << p.n << " x " << p.inner << " op_a " << int(p.op_a)
                                        << " op_b " << int(p.op_b) << " pad " << p.pad << " accumulate " << p.accumulate
                                        << " density " << p.density);
        const Padded a =
            p.op_a == Transpose::no ? Padded(p.m, p.inner, p.pad, 1, p.density) : Padded(p.inner, p.m, p.pad, 1);
        const Padded b =
            p.op_b == Transpose::no ? Padded(p.inner, p.n, p.pad, 2, p.density) : Padded(p.n, p.inner, p.pad, 2);
        const Index stride = p.n + p.pad;
        Floats start = start_of(p, p.m ? (p.m - 1) * stride + p.n : 0);
        for (std::size_t i = 0; i < start.size(); ++i)
            if (static_cast<Index>(i) % std::max<Index>(1, stride) >= p.n) start[i] = padding;
        test(p, a, b, start, stride);
        if (testing::Test::HasFailure()) return;
    }
}

TEST_P(SumOperations, ProductIntoFloats) {
    for_every_product([&](const Product& p, const Padded& a, const Padded& b, const Floats& start, Index stride) {
        const Buffer<float> a_(backend, a.values), b_(backend, b.values);
        Buffer<float> c(backend, start);
        backend.gemm(p.op_a, p.op_b, {a_.data(), a.rows, a.cols, a.stride}, {b_.data(), b.rows, b.cols, b.stride},
                     Matrix<float>(c.data(), p.m, p.n, stride), p.accumulate);
        EXPECT_TRUE(
            close_to(c.to_host(), expected_product(p, a, b, start, stride), std::max(2e-7, sum_tolerance(p.inner))));
    });
}

TEST_P(SumOperations, ProductIntoSums) {
    for_every_product([&](const Product& p, const Padded& a, const Padded& b, const Floats& start, Index stride) {
        const Buffer<float> a_(backend, a.values), b_(backend, b.values);
        SumBuffer c = sums_on_backend(start);
        backend.gemm(p.op_a, p.op_b, {a_.data(), a.rows, a.cols, a.stride}, {b_.data(), b.rows, b.cols, b.stride},
                     SumMatrix{c.data(), c.type(), p.m, p.n, stride}, p.accumulate);
        EXPECT_TRUE(close_to(to_host(c), expected_product(p, a, b, start, stride), sum_tolerance(p.inner)));
    });
}

TEST_P(SumOperations, ColumnSumsAreAdded) {
    for (const Shape& shape : ragged_shapes())
        for (Index pad : {0, 3}) {
            SCOPED_TRACE(testing::Message() << shape << ", pad " << pad);
            const Padded a(shape.b, shape.n, pad, 1);
            const Floats start = random_floats(shape.n, 2);
            Doubles expected = widened(start);
            for (Index i = 0; i < a.rows; ++i)
                for (Index j = 0; j < a.cols; ++j) expected[j] += a.at(Transpose::no, i, j);
            const Buffer<float> a_(backend, a.values);
            SumBuffer sums = sums_on_backend(start);
            backend.add_column_sums({a_.data(), a.rows, a.cols, a.stride}, sums.matrix(1, shape.n));
            EXPECT_TRUE(close_to(to_host(sums), expected, sum_tolerance(shape.b)));
        }
}

TEST_P(SumOperations, SumsAreRoundedOnce) {
    for (Index count : {0, 1, 33, 1000}) {
        SumBuffer sums(backend, count);
        Doubles values(count);
        for (Index i = 0; i < count; ++i) values[i] = normal(5, Stream::test, static_cast<std::uint32_t>(i), 0, 0);
        Floats expected(values.begin(), values.end());
        if (sums.type() == Scalar::float32)
            backend.copy_in(sums.data(), expected.data(), expected.size() * sizeof(float));
        else
            backend.copy_in(sums.data(), values.data(), values.size() * sizeof(double));
        Buffer<float> out(backend, count);
        backend.round_sums(sums.data(), out.data(), count);
        EXPECT_TRUE(all_equal(out.to_host(), expected));
        if (sums.type() != Scalar::float32) continue;
        backend.round_sums(sums.data(), static_cast<float*>(sums.data()), count);  // in place
        EXPECT_TRUE(all_equal(to_host(sums), widened(expected)));
    }
}

TEST_P(SumOperations, RepeatRow) {
    for (const Shape& shape : ragged_shapes()) {
        const Floats row = random_floats(shape.n, 1);
        const Buffer<float> row_(backend, row);
        Buffer<float> out(backend, shape.b * shape.n);
        backend.repeat_row(shape.b, shape.n, row_.data(), out.data());
        Floats expected;
        for (Index r = 0; r < shape.b; ++r) expected.insert(expected.end(), row.begin(), row.end());
        EXPECT_TRUE(all_equal(out.to_host(), expected)) << shape;
    }
}

TEST_P(SumOperations, SumOfSquaresIsTakenInDouble) {
    for (Index count : {0, 1, 31, 33, 67, 100003}) {
        const Floats x = random_floats(count, 1);
        const Buffer<float> x_(backend, x);
        EXPECT_NEAR(squares(x_.data(), count), dot(x, x), 1e-13 * dot(x, x));
    }
    // Squares that a float cannot hold.
    const Buffer<float> large(backend, Floats{1e30f, 1e-30f}), small(backend, Floats{1e-30f, 1e-30f});
    EXPECT_DOUBLE_EQ(squares(large.data(), 2), double(1e30f) * 1e30f);
    EXPECT_DOUBLE_EQ(squares(small.data(), 2), 2.0 * double(1e-30f) * 1e-30f);
    // The result is added to the existing values.
    Buffer<double> sum(backend, Doubles{0.5});
    const Buffer<float> three(backend, Floats{3.0f});
    backend.sum_squares(three.data(), 1, sum.data());
    EXPECT_EQ(sum.to_host()[0], 9.5);
    // A non-finite element at any place, also in the last, incomplete vector.
    for (Index at : {0, 8, 36}) {
        for (float bad : {nan_value, std::numeric_limits<float>::infinity()}) {
            Floats x = random_floats(37, 2);
            x[at] = bad;
            const Buffer<float> x_(backend, x);
            EXPECT_FALSE(std::isfinite(squares(x_.data(), 37))) << bad << " at " << at;
        }
    }
}

TEST_P(SumOperations, SquaresOfRows) {
    for (const Shape& shape : ragged_shapes())
        for (bool both : {false, true}) {
            SCOPED_TRACE(testing::Message() << shape << (both ? ", two parts" : ", one part"));
            Floats a = random_floats(shape.b * shape.n, 1), b = random_floats(shape.b * shape.n, 2);
            const bool poisoned = shape.b == 3 && shape.n > 0;
            if (poisoned) a[shape.n] = nan_value;  // the first element of row 1
            Doubles expected(shape.b);
            for (Index i = 0; i < shape.b * shape.n; ++i)
                expected[i / shape.n] += double(a[i]) * a[i] + (both ? double(b[i]) * b[i] : 0.0);
            const Buffer<float> a_(backend, a), b_(backend, b);
            Buffer<double> out(backend, Doubles(shape.b, -1.0));
            backend.row_sum_squares(shape.b, shape.n, a_.data(), both ? b_.data() : nullptr, out.data());
            Doubles squares = out.to_host();
            if (poisoned) {
                EXPECT_FALSE(std::isfinite(squares[1]));
                squares[1] = expected[1] = 0.0;
            }
            EXPECT_TRUE(close_to(squares, expected, 1e-13));
        }
}

// Rows at the limit and below it keep their bits.
TEST_P(SumOperations, RowsAreCapped) {
    for (const Shape& shape : ragged_shapes())
        for (bool both : {false, true}) {
            SCOPED_TRACE(testing::Message() << shape << (both ? ", two parts" : ", one part"));
            const Index count = shape.b * shape.n;
            const Floats a = random_floats(count, 1), b = random_floats(count, 2);
            const Doubles planted = {25.0, 24.999, 100.0, 0.0, 1e300};
            const Doubles squares(planted.begin(), planted.begin() + shape.b);
            const Doubles factors = {1.0, 1.0, 0.5, 1.0, 5e-150};
            Buffer<float> a_(backend, a), b_(backend, b);
            const Buffer<double> squares_(backend, squares);
            const Buffer<float> limit(backend, Floats{5.0f});
            backend.cap_rows(shape.b, shape.n, squares_.data(), limit.data(), a_.data(), both ? b_.data() : nullptr);
            Doubles expected_a(count), expected_b(count);
            for (Index i = 0; i < count; ++i) {
                expected_a[i] = a[i] * factors[i / shape.n];
                expected_b[i] = b[i] * (both ? factors[i / shape.n] : 1.0);
            }
            EXPECT_TRUE(close_to(a_.to_host(), expected_a, 2e-7));
            EXPECT_TRUE(close_to(b_.to_host(), expected_b, 2e-7));
            const Floats capped = a_.to_host();
            for (Index i = 0; i < std::min<Index>(count, 2 * shape.n); ++i) EXPECT_EQ(capped[i], a[i]) << i;
        }
}

TEST_P(SumOperations, ScaleAndAddRoundOnce) {
    for (Index count : {0, 1, 31, 33, 67, 40001}) {
        const Floats x = random_floats(count, 1), y = random_floats(count, 2);
        Floats scaled(x), added(y);
        for (Index i = 0; i < count; ++i) {
            scaled[i] = x[i] * 0.3f;
            added[i] = y[i] + x[i];
        }
        Buffer<float> x_(backend, x), y_(backend, y);
        backend.add(y_.data(), x_.data(), count);
        backend.scale(x_.data(), 0.3f, count);
        EXPECT_TRUE(all_equal(y_.to_host(), added));
        EXPECT_TRUE(all_equal(x_.to_host(), scaled));
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
