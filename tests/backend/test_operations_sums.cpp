// Products, sums and element-wise operations of every backend against plain double loops, at ragged sizes and padded
// strides.
#include "backend/product_test.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spikefloss::testing_support {
namespace {

SPIKEFLOSS_ON_EVERY_BACKEND(SumOperations);
SPIKEFLOSS_ON_EVERY_BACKEND(ProductOperations);

TEST_P(ProductOperations, Projections) {
    for_every_product([&](const Product& p) {
        const Padded w = weights(p);
        const Buffer<float> w_(backend, w.values);
        const Operand x = operand(p);
        const auto of = x.activity.bits ? spikefloss::Product::spikes : spikefloss::Product::values;
        with_copy(of, {p.n, p.m, w_.data(), w.stride}, [&](const Weights& weights) {
            const auto run = [&](SumMatrix out) { backend.project(weights, x.activity, out, p.accumulate); };
            expect_product(p, p.rows, p.n, p.m, p.accumulate, run, [&](Index row, Index i) {
                double sum = 0.0;
                for (Index j = 0; j < p.m; ++j) sum += x.at(row, j) * w.at(i, j);
                return sum;
            });
        });
    });
}

TEST_P(ProductOperations, TransposedProjections) {
    for_every_product([&](const Product& p) {
        if (p.form != Form::floats) return;
        const Padded w = weights(p), y(p.rows, p.n, p.pad, 2);
        const Buffer<float> w_(backend, w.values), y_(backend, y.values);
        with_copy(spikefloss::Product::adjoints, {p.n, p.m, w_.data(), w.stride}, [&](const Weights& weights) {
            const auto run = [&](SumMatrix out) {
                backend.project_transposed(weights, {y_.data(), p.rows, p.n, y.stride}, out, p.accumulate);
            };
            expect_product(p, p.rows, p.m, p.n, p.accumulate, run, [&](Index row, Index j) {
                double sum = 0.0;
                for (Index i = 0; i < p.n; ++i) sum += y.at(row, i) * w.at(i, j);
                return sum;
            });
        });
    });
}

TEST_P(ProductOperations, OuterProductsAreAdded) {
    for_every_product([&](const Product& p) {
        if (!p.accumulate) return;
        const Padded y(p.rows, p.n, p.pad, 1);
        const Buffer<float> y_(backend, y.values);
        const Operand x = operand(p);
        const auto run = [&](SumMatrix gradient) {
            backend.add_outer({y_.data(), p.rows, p.n, y.stride}, x.activity, gradient);
        };
        expect_product(p, p.n, p.m, p.rows, true, run, [&](Index i, Index j) {
            double sum = 0.0;
            for (Index row = 0; row < p.rows; ++row) sum += y.at(row, i) * x.at(row, j);
            return sum;
        });
    });
}

// Only inputs of 0 and 1 that are rarely 1 are packed, on a backend that packs any.
TEST_P(SumOperations, PacksInputs) {
    const Index rows = 300, m = 71, n = 16, words = spike_words(m);
    if (!backend.packs_inputs(rows, m, n)) return;
    const auto pack = [&](const Floats& x, Index count) {
        const Buffer<float> x_(backend, x);
        Buffer<std::uint32_t> bits(backend, rows * words);
        const bool packed = backend.pack_inputs(x_.data(), count, m, n, bits.data());
        return packed ? bits.to_host() : std::vector<std::uint32_t>();
    };
    Floats x(static_cast<std::size_t>(rows * m), 0.0f);
    for (std::size_t i = 0; i < x.size(); i += 7) x[i] = 1.0f;
    x[1] = -0.0f;
    const std::vector<std::uint32_t> bits = pack(x, rows);
    ASSERT_EQ(bits.size(), static_cast<std::size_t>(rows * words));
    for (Index r = 0; r < rows; ++r)
        for (Index j = 0; j < 32 * words; ++j)
            ASSERT_EQ(bits[static_cast<std::size_t>(r * words + j / 32)] >> (j % 32) & 1u,
                      j < m && (r * m + j) % 7 == 0)
                << r << ", " << j;
    EXPECT_TRUE(pack(x, 100).empty()) << "few rows take less time as floats";
    const float close_to_one = std::nextafter(1.0f, 2.0f);
    for (float other : {0.5f, 2.0f, -1.0f, 1e-20f, close_to_one, std::numeric_limits<float>::quiet_NaN()})
        for (std::size_t at : {std::size_t{2}, std::size_t{70}, x.size() - 1}) {
            Floats changed = x;
            changed[at] = other;
            EXPECT_TRUE(pack(changed, rows).empty()) << other << " at " << at;
        }
    for (std::size_t i = 0; i < x.size(); i += 2) x[i] = 1.0f;
    EXPECT_TRUE(pack(x, rows).empty()) << "spikes in more than half of the entries";
}

TEST_P(SumOperations, ColumnSumsAreAdded) {
    for (const Shape& shape : ragged_shapes())
        for (Index pad : {0, 3}) {
            SCOPED_TRACE(testing::Message() << shape << ", pad " << pad);
            const Padded a(shape.b, shape.n, pad, 1);
            const Floats start = random_floats(shape.n, 2);
            Doubles expected = widened(start);
            for (Index i = 0; i < a.rows; ++i)
                for (Index j = 0; j < a.cols; ++j) expected[j] += a.at(i, j);
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
    const Squares one{three.data(), 1, 1, 1, sum.data()};
    backend.sum_squares({&one, 1});
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

// All in one call, with rows that are apart, none, and several of one sum. A GPU takes more than one launch.
TEST_P(SumOperations, SquaresOfManyArrays) {
    constexpr Index shapes[][3] = {{1, 67, 0}, {5, 31, 2}, {3, 1, 7}, {0, 4, 0}, {4, 0, 3}, {2, 5000, 1}, {70, 300, 0}};
    std::vector<Padded> arrays;
    std::vector<Buffer<float>> buffers;
    std::vector<Squares> all;
    Buffer<double> sums(backend, 50);
    Doubles expected(50, 0.0);
    for (Index i = 0; i < 100; ++i) {
        const auto [rows, cols, pad] = shapes[i % 7];
        const Padded& a = arrays.emplace_back(rows, cols, pad, static_cast<std::uint64_t>(i) + 1);
        const Buffer<float>& x = buffers.emplace_back(backend, a.values);
        all.push_back({x.data(), rows, cols, a.stride, sums.data() + i / 2});
        for (Index r = 0; r < rows; ++r)
            for (Index j = 0; j < cols; ++j) expected[i / 2] += a.at(r, j) * a.at(r, j);
    }
    backend.sum_squares(all);
    EXPECT_TRUE(close_to(sums.to_host(), expected, 1e-13));
    backend.sum_squares({});
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
            backend.row_sum_squares(shape.b, shape.n, a_.data(), both ? b_.data() : nullptr, nullptr, out.data());
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
            backend.cap_rows(shape.b, shape.n, squares_.data(), limit.data(), a_.data(), both ? b_.data() : nullptr,
                             nullptr);
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

}  // namespace
}  // namespace spikefloss::testing_support
