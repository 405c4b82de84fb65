// QR operations of every backend: Gram matrices, Cholesky, Householder and the adjoint, against double loops, the
// reference and the properties Q'Q = I, QR = A, R_jj > 0.
#include "backend/operation_test.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss::testing_support {
namespace {

class QrOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(QrOperations);

// Sequence s in the form of the reference, [n, k] in double. The rows of x[s] are its columns.
Doubles columns(const Shape& shape, const Floats& x, Index s) {
    Doubles a(shape.n * shape.k);
    for (Index j = 0; j < shape.k; ++j)
        for (Index i = 0; i < shape.n; ++i) a[i * shape.k + j] = x[(s * shape.k + j) * shape.n + i];
    return a;
}

// [b, k, k] upper triangular with a diagonal away from 0.
Doubles random_r(const Shape& shape, std::uint64_t seed) {
    const Floats values = random_floats(shape.b * shape.k * shape.k, seed, 0.3);
    Doubles r(values.size());
    for (std::size_t at = 0; at < r.size(); ++at) {
        const Index i = static_cast<Index>(at) / shape.k % shape.k, j = static_cast<Index>(at) % shape.k;
        r[at] = i > j ? 0.0 : i == j ? 0.8 + std::abs(values[at]) : values[at];
    }
    return r;
}

TEST_P(QrOperations, Gram) {
    for (const Shape& shape : ragged_shapes())
        for (bool same : {false, true})
            for (bool current : {false, true}) {
                SCOPED_TRACE(testing::Message() << shape << ", same " << same << ", current " << current);
                const BasisShape basis{shape.b, shape.k, shape.n, current};
                const Index k = shape.k, D = basis.D();
                const Floats x = random_floats(basis.size(), 1), y = same ? x : random_floats(basis.size(), 2);
                Doubles expected(shape.b * k * k);
                for (Index s = 0; s < shape.b; ++s)
                    for (Index i = 0; i < k; ++i)
                        for (Index j = 0; j < k; ++j)
                            for (Index l = 0; l < D; ++l)
                                expected[(s * k + i) * k + j] +=
                                    double(x[(s * k + i) * D + l]) * y[(s * k + j) * D + l];
                const Buffer<float> x_(backend, x), y_(backend, y);
                Buffer<double> g(backend, Doubles(expected.size(), nan_value));
                backend.gram(basis, x_.data(), same ? x_.data() : y_.data(), g.data());
                EXPECT_TRUE(close_to(g.to_host(), expected, 1e-12));
            }
}

// One round, with what it finds. `start` [b, k, k] is r before.
struct Factorised {
    Doubles factor, r, logs;
    std::vector<std::int32_t> failure;
    Doubles strain;
};
Factorised cholesky(Backend& backend, Index b, Index k, const QrRound& round, const Doubles& gram,
                    const Doubles& start = {}) {
    Buffer<double> g(backend, gram), r(backend, start.empty() ? Doubles(gram.size(), nan_value) : start),
        logs(backend, b * k), strain(backend, b);
    Buffer<std::int32_t> failure(backend, 2 * b);
    backend.cholesky(b, k, round, g.data(), r.data(), logs.data(), {failure.data(), strain.data()});
    return {g.to_host(), r.to_host(), logs.to_host(), failure.to_host(), strain.to_host()};
}

// R' R of every sequence.
Doubles gram_of(Index b, Index k, const Doubles& r) {
    Doubles gram(b * k * k);
    for (Index s = 0; s < b; ++s)
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j)
                for (Index l = 0; l < k; ++l)
                    gram[(s * k + i) * k + j] += r[(s * k + l) * k + i] * r[(s * k + l) * k + j];
    return gram;
}

// Both ways of the CUDA backend: up to 64 vectors, and more.
TEST_P(QrOperations, CholeskyOfPositiveDefinite) {
    for (Index b : {0, 1, 3, 5})
        for (Index k : {1, 2, 7, 33, 70}) {
            SCOPED_TRACE(testing::Message() << "b " << b << ", k " << k);
            const Shape shape{b, k, k};
            const Doubles second = random_r(shape, 3), first = random_r(shape, 7), gram = gram_of(b, k, second);
            const Factorised one = cholesky(backend, b, k, {1, 0, true}, gram);
            EXPECT_TRUE(all_equal(one.failure, std::vector<std::int32_t>(2 * b, 0)));
            EXPECT_TRUE(close_to(one.r, second, 1e-9));
            EXPECT_TRUE(all_equal(one.factor, one.r));
            Doubles logs(b * k), strain(b), product(b * k * k);
            for (Index at = 0; at < b * k; ++at) {
                const Index s = at / k, j = at % k;
                double column = 0.0;
                for (Index i = 0; i <= j; ++i) column += second[(s * k + i) * k + j] * second[(s * k + i) * k + j];
                logs[at] = std::log(second[at * k + j]);
                strain[s] = std::max({strain[s], 0.5 * std::log(column) - logs[at], std::abs(logs[at]) / 8.0});
                for (Index i = 0; i < k; ++i)
                    for (Index l = 0; l < k; ++l)
                        product[(s * k + i) * k + j] += second[(s * k + i) * k + l] * first[(s * k + l) * k + j];
            }
            EXPECT_TRUE(close_to(one.logs, logs, 1e-9));
            EXPECT_TRUE(close_to(one.strain, strain, 1e-9));
            for (Index at = 0; at < b * k * k; ++at) {
                if (at / k % k > at % k) {
                    EXPECT_EQ(one.factor[at], 0.0) << at;
                }
            }
            const Factorised two = cholesky(backend, b, k, {1, 1, true}, gram, first);
            EXPECT_TRUE(close_to(two.r, product, 1e-8));
            for (Index at = 0; at < b * k; ++at) EXPECT_NEAR(two.logs[at], std::log(product[at * k + at % k]), 1e-9);
        }
}

// Sequence 1 of 3 fails, and its step and column are recorded, unless it failed before. The other sequences are
// factorised.
TEST_P(QrOperations, CholeskyNamesTheFailingColumn) {
    const double bad = nan_value;
    const struct {
        const char* what;
        Doubles gram;
        std::int32_t column;
    } cases[] = {
        {"equal columns", {4, 4, 2, 4, 4, 2, 2, 2, 5}, 2},
        {"a zero column", {0, 0, 0, 0, 4, 2, 0, 2, 5}, 1},
        {"a combination", {1, 0, 2, 0, 1, 2, 2, 2, 8}, 3},
        {"indefinite", {1, 2, 0, 2, 1, 0, 0, 0, 1}, 2},
        {"NaN on the diagonal", {1, 0, 0, 0, bad, 0, 0, 0, 1}, 2},
        {"NaN beside the diagonal", {1, 0, bad, 0, 1, 0, bad, 0, 1}, 3},
        {"infinite", {HUGE_VAL, 0, 0, 0, 1, 0, 0, 0, 1}, 1},
    };
    const Doubles good = {4, 2, 0, 2, 5, 0, 0, 0, 9}, factor = {2, 1, 0, 0, 2, 0, 0, 0, 3};
    for (const auto& c : cases) {
        SCOPED_TRACE(c.what);
        Doubles gram(good);
        gram.insert(gram.end(), c.gram.begin(), c.gram.end());
        gram.insert(gram.end(), good.begin(), good.end());
        Buffer<double> g(backend, gram), r(backend, 27), logs(backend, 9), strain(backend, 3);
        Buffer<std::int32_t> failure(backend, 6);
        for (Index step : {12, 13}) {
            g.copy_in(gram.data());
            backend.cholesky(3, 3, {step, 0, true}, g.data(), r.data(), logs.data(), {failure.data(), strain.data()});
            EXPECT_TRUE(all_equal(failure.to_host(), std::vector<std::int32_t>{0, 0, 12, c.column, 0, 0}));
            const Doubles all = r.to_host();
            EXPECT_TRUE(close_to(Doubles(all.begin(), all.begin() + 9), factor, 1e-15));
            EXPECT_TRUE(close_to(Doubles(all.end() - 9, all.end()), factor, 1e-15));
        }
    }
}

// A first round that is the last leaves doubt if R_jj span more than three orders of magnitude. A second round finds
// what is lost.
TEST_P(QrOperations, CholeskyJudgesItsResult) {
    for (Index k : {2, 70}) {
        SCOPED_TRACE(testing::Message() << "k " << k);
        Doubles r(2 * k * k);
        for (Index at = 0; at < 2 * k; ++at) r[at * k + at % k] = 1.0;
        r[k * k] = 0.9e-3;  // of sequence 1
        const Doubles gram = gram_of(2, k, r);
        using Failure = std::vector<std::int32_t>;
        EXPECT_TRUE(all_equal(cholesky(backend, 2, k, {5, 0, true}, gram).failure, Failure{0, 0, 5, 0}));
        EXPECT_TRUE(all_equal(cholesky(backend, 2, k, {5, 0, false}, gram).failure, Failure{0, 0, 0, 0}));
        EXPECT_TRUE(all_equal(cholesky(backend, 2, k, {5, 1, true}, gram, r).failure, Failure{0, 0, 5, 1}));
        r[k * k] = 1.1e-3;
        const Doubles better = gram_of(2, k, r);
        EXPECT_TRUE(all_equal(cholesky(backend, 2, k, {5, 0, true}, better).failure, Failure{0, 0, 0, 0}));
        EXPECT_TRUE(all_equal(cholesky(backend, 2, k, {5, 1, true}, better, r).failure, Failure{0, 0, 0, 0}));
    }
}

TEST_P(QrOperations, DivideByR) {
    for (const Shape& shape : ragged_shapes()) {
        SCOPED_TRACE(testing::Message() << shape);
        const auto [b, k, n] = shape;
        const Doubles r = random_r(shape, 4);
        const Floats x = random_floats(b * k * n, 5);
        Doubles expected = widened(x);  // R' X = x, from the first row on
        for (Index s = 0; s < b; ++s)
            for (Index j = 0; j < k; ++j)
                for (Index i = 0; i < n; ++i) {
                    double& out = expected[(s * k + j) * n + i];
                    for (Index l = 0; l < j; ++l) out -= r[(s * k + l) * k + j] * expected[(s * k + l) * n + i];
                    out /= r[(s * k + j) * k + j];
                }
        const Buffer<double> r_(backend, r);
        Buffer<float> x_(backend, x);
        backend.divide_by_r(b, k, n, r_.data(), x_.data());
        EXPECT_TRUE(close_to(x_.to_host(), expected, 1e-7));
    }
}

TEST_P(QrOperations, Householder) {
    for (const Shape& shape : ragged_shapes()) {
        const auto [b, k, D] = shape;
        if (D < k) continue;
        SCOPED_TRACE(testing::Message() << shape);
        const Floats x = random_floats(b * k * D, 8);
        Buffer<float> x_(backend, x);
        Buffer<double> r_(backend, Doubles(b * k * k, -1.0)), logs(backend, b * k);
        Buffer<std::int32_t> info(backend, std::vector<std::int32_t>(b, -1));
        backend.householder(b, k, D, x_.data(), r_.data(), logs.data(), info.data());
        EXPECT_TRUE(all_equal(info.to_host(), std::vector<std::int32_t>(b, 0)));
        const Floats all_q = x_.to_host();
        const Doubles all_r = r_.to_host();
        for (Index s = 0; s < b; ++s) {
            const Doubles r(all_r.begin() + s * k * k, all_r.begin() + (s + 1) * k * k);
            const reference::QR expected = reference::qr(D, k, columns(shape, x, s));
            EXPECT_TRUE(close_to(r, expected.r, 1e-11));
            EXPECT_TRUE(close_to(columns(shape, all_q, s), expected.q, 2e-6));  // D = k: A may be nearly singular
            for (Index j = 0; j < k; ++j) {
                EXPECT_GT(r[j * k + j], 0.0);
                EXPECT_NEAR(logs.to_host()[s * k + j], std::log(r[j * k + j]), 1e-14);
            }
        }
    }
}

// Sequence 1 of 3 does not have full rank; its column is reported.
TEST_P(QrOperations, HouseholderNamesTheFailingColumn) {
    const Shape shape{3, 3, 33};
    const struct {
        const char* what;
        std::int32_t column;
        void (*plant)(float* x, Index n);  // x: [k, n] of sequence 1
    } cases[] = {
        {"a zero column", 2, [](float* x, Index n) { std::fill_n(x + n, n, 0.0f); }},
        {"equal columns", 2, [](float* x, Index n) { std::copy_n(x, n, x + n); }},
        {"a combination", 3,
         [](float* x, Index n) {
             for (Index i = 0; i < n; ++i) {
                 x[n + i] = static_cast<float>(i % 5);
                 x[i] = static_cast<float>(i % 7);
                 x[2 * n + i] = x[i] - 2.0f * x[n + i];
             }
         }},
        {"NaN", 3, [](float* x, Index n) { x[2 * n + 20] = nan_value; }},
        {"NaN at the start", 1, [](float* x, Index) { x[0] = nan_value; }},
        {"infinite", 2, [](float* x, Index n) { x[n + 7] = std::numeric_limits<float>::infinity(); }},
    };
    for (const auto& c : cases) {
        SCOPED_TRACE(c.what);
        Floats x = random_floats(shape.b * shape.k * shape.n, 10);
        c.plant(x.data() + shape.k * shape.n, shape.n);
        Buffer<float> x_(backend, x);
        Buffer<double> r(backend, 3 * 9), logs(backend, 3 * 3);
        Buffer<std::int32_t> info(backend, 3);
        backend.householder(shape.b, shape.k, shape.n, x_.data(), r.data(), logs.data(), info.data());
        EXPECT_TRUE(all_equal(info.to_host(), std::vector<std::int32_t>{0, c.column, 0}));
        const Floats q = x_.to_host();
        for (Index s : {0, 2})
            EXPECT_TRUE(close_to(columns(shape, q, s), reference::qr(shape.n, shape.k, columns(shape, x, s)).q, 1e-6));
    }
}

TEST_P(QrOperations, Adjoint) {
    for (const Shape& shape : ragged_shapes()) {
        SCOPED_TRACE(testing::Message() << shape);
        const auto [b, k, D] = shape;
        const Doubles r = random_r(shape, 15), weight = widened(random_floats(b * k, 13)),
                      qbq = widened(random_floats(b * k * k, 14));
        const Floats q = random_floats(b * k * D, 17), qb = random_floats(b * k * D, 18);
        Doubles expected = widened(qb);
        for (Index s = 0; s < b; ++s) {
            const auto m = [&, k = k](Index i, Index j) {  // R Rb' - Qb'Q
                const Index at = (s * k + i) * k + j;
                return r[at] * weight[s * k + j] / r[(s * k + j) * k + j] - qbq[at];
            };
            for (Index i = 0; i < D; ++i) {
                const auto at = [&, D = D, k = k](Index j) { return (s * k + j) * D + i; };
                for (Index j = 0; j < k; ++j)
                    for (Index l = 0; l < k; ++l) expected[at(j)] += q[at(l)] * m(std::max(l, j), std::min(l, j));
                for (Index j = k; j-- > 0;) {  // X R' = ..., from the last column back
                    for (Index l = j + 1; l < k; ++l) expected[at(j)] -= expected[at(l)] * r[(s * k + j) * k + l];
                    expected[at(j)] /= r[(s * k + j) * k + j];
                }
            }
        }
        const Buffer<double> r_(backend, r), weight_(backend, weight);
        const Buffer<float> q_(backend, q);
        Buffer<double> qbq_(backend, qbq);
        Buffer<float> qb_(backend, qb);
        backend.qr_backward(b, k, D, q_.data(), r_.data(), weight_.data(), qbq_.data(), qb_.data());
        EXPECT_TRUE(close_to(qb_.to_host(), expected, 1e-6));
    }
}

// The whole adjoint against the reference.
TEST_P(QrOperations, AdjointOfQr) {
    for (Index k : {1, 2, 7}) {
        const Shape shape{3, k, 33};
        const Floats a = random_floats(shape.b * k * shape.n, 19), qb = random_floats(shape.b * k * shape.n, 20);
        const Doubles weight = widened(random_floats(shape.b * k, 21));
        Buffer<float> q(backend, a), adjoint(backend, qb);
        Buffer<double> r(backend, shape.b * k * k), c(backend, shape.b * k * k), logs(backend, shape.b * k);
        const Buffer<double> weight_(backend, weight);
        Buffer<std::int32_t> info(backend, shape.b);
        backend.householder(shape.b, k, shape.n, q.data(), r.data(), logs.data(), info.data());
        backend.gram({shape.b, k, shape.n, false}, adjoint.data(), q.data(), c.data());
        backend.qr_backward(shape.b, k, shape.n, q.data(), r.data(), weight_.data(), c.data(), adjoint.data());
        for (Index s = 0; s < shape.b; ++s) {
            const reference::QR factors = reference::qr(shape.n, k, columns(shape, a, s));
            Doubles rb(k);
            for (Index j = 0; j < k; ++j) rb[j] = weight[s * k + j] / factors.r[j * k + j];
            EXPECT_TRUE(near_in_norm(columns(shape, adjoint.to_host(), s),
                                     reference::qr_backward(shape.n, k, factors, columns(shape, qb, s), rb), 1e-6))
                << "k " << k << ", sequence " << s;
        }
    }
}

// A round of the QR and its adjoint in one call, against the operations one after another. The bases of some backends
// are in one block, in clusters of different sizes, or in neither.
class FusedQr : public OperationTest {};
INSTANTIATE_TEST_SUITE_P(Backends, FusedQr, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

struct FusedResults {
    Floats q, qb;
    Doubles r, logs, strain;
    std::vector<std::int32_t> failure;
};

// `fused`: by the backend's own functions; otherwise by those of the class Backend.
FusedResults round_and_adjoint(Backend& backend, const BasisShape& shape, bool fused, const Floats& a) {
    const Index matrices = shape.rows() * shape.k;
    Buffer<float> q(backend, a), qb(backend, random_floats(shape.size(), 21));
    const Buffer<double> weight(backend, widened(random_floats(shape.rows(), 22)));
    Buffer<double> g(backend, matrices), r(backend, Doubles(matrices, nan_value)), logs(backend, shape.rows()),
        strain(backend, Doubles(shape.b, 0.25));
    Buffer<std::int32_t> failure(backend, 2 * shape.b);
    const QrFindings findings{failure.data(), strain.data()};
    if (fused) {
        backend.factorise_basis(shape, 7, q.data(), g.data(), r.data(), logs.data(), findings);
        backend.factorise_basis_backward(shape, q.data(), r.data(), weight.data(), g.data(), qb.data());
    } else {
        backend.Backend::factorise_basis(shape, 7, q.data(), g.data(), r.data(), logs.data(), findings);
        backend.Backend::factorise_basis_backward(shape, q.data(), r.data(), weight.data(), g.data(), qb.data());
    }
    return {q.to_host(), qb.to_host(), r.to_host(), logs.to_host(), strain.to_host(), failure.to_host()};
}

TEST_P(FusedQr, IsTheOperationsOneAfterAnother) {
    for (const BasisShape& shape :
         {BasisShape{1, 1, 70, false}, BasisShape{1, 33, 131, true}, BasisShape{2, 9, 3, true, true},
          BasisShape{3, 7, 131, true}, BasisShape{3, 64, 70, true}, BasisShape{9, 8, 33, false, true}}) {
        SCOPED_TRACE(testing::Message() << "b " << shape.b << ", k " << shape.k << ", D " << shape.D());
        const Floats a = random_floats(shape.size(), 20);
        const FusedResults found = round_and_adjoint(backend, shape, true, a),
                           expected = round_and_adjoint(backend, shape, false, a);
        EXPECT_TRUE(close_to(found.q, widened(expected.q), 2e-7));
        EXPECT_TRUE(close_to(found.r, expected.r, 1e-11));
        EXPECT_TRUE(close_to(found.logs, expected.logs, 1e-11));
        EXPECT_TRUE(close_to(found.strain, expected.strain, 1e-11));
        EXPECT_EQ(found.failure, expected.failure);
        EXPECT_TRUE(near_in_norm(found.qb, expected.qb, 1e-6));
    }
}

// What it tells of a vector that is 0, not finite, or much shorter than another; an earlier failure stays.
TEST_P(FusedQr, TellsWhatTheOperationsTell) {
    const BasisShape shape{4, 9, 80, true};
    for (int round = 0; round < 2; ++round) {
        Floats a = random_floats(shape.size(), 20);
        for (Index d = 0; d < shape.D(); ++d) {
            a[(1 * shape.k + 4) * shape.D() + d] = 0.0f;
            a[(3 * shape.k + 5) * shape.D() + d] *= 1e-5f;
        }
        a[(2 * shape.k + 3) * shape.D() + 150] = round ? INFINITY : NAN;
        const FusedResults found = round_and_adjoint(backend, shape, true, a),
                           expected = round_and_adjoint(backend, shape, false, a);
        EXPECT_EQ(found.failure, expected.failure);
        EXPECT_EQ(found.failure, (std::vector<std::int32_t>{0, 0, 7, 5, 7, 4, 7, 0}));
        EXPECT_TRUE(
            close_to(Doubles{found.strain[0], found.strain[3]}, {expected.strain[0], expected.strain[3]}, 1e-9));
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
