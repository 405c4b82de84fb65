// TangentQr on every grid: Q'Q = I, QR = A, R_jj > 0 for condition numbers from 1 to 1e7, against the reference and
// Householder QR; its adjoint; and bases that have lost rank.
#include "lyapunov/qr.hpp"

#include "backend/operation_test.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <string>

namespace spikefloss::testing_support {
namespace {

class QrOnGrids : public OperationTest {
protected:
    // test(grid) for every PxQ of the running ranks.
    template <class Test>
    void for_every_grid(Test&& test) {
        int ranks = 1;
        MPI_Comm_size(MPI_COMM_WORLD, &ranks);
        for (int P = 1; P <= ranks; ++P) {
            if (ranks % P != 0) continue;
            SCOPED_TRACE(testing::Message() << "grid " << P << "x" << ranks / P);
            const ProcessGrid grid(MPI_COMM_WORLD, {P, ranks / P});
            test(grid);
        }
    }
};
SPIKEFLOSS_ON_EVERY_BACKEND(QrOnGrids);

// On a GPU a round is one kernel where it fits, or the operations one by one.
std::vector<BackendCase> one_by_one() {
    if (backend_names() == "cpu") return {};
    const BackendChoice choice{.kind = BackendKind::cuda, .without_passes = {"clusters"}};
    return {{"cuda_one_by_one", [=] { return make_backend(choice); }, why_no_cuda()}};
}
INSTANTIATE_TEST_SUITE_P(OneByOne, QrOnGrids, testing::ValuesIn(one_by_one()),
                         [](const auto& instance) { return instance.param.name; });

constexpr Index sequences = 5, neurons = 37, k = 7;

// [D, k] for all sequences, the same on all ranks, as float values.
using Bases = std::vector<Doubles>;

Index state_size(bool has_current) { return has_current ? 2 * neurons : neurons; }

// U diag(s) V' with random orthogonal U and V and singular values from 1 down to 1 / condition.
Bases random_bases(bool has_current, double condition) {
    const Index D = state_size(has_current);
    Bases bases;
    for (Index s = 0; s < sequences; ++s) {
        const auto seed = static_cast<std::uint64_t>(s);
        const Doubles u = reference::qr(D, k, widened(random_floats(D * k, 2 * seed))).q,
                      v = reference::qr(k, k, widened(random_floats(k * k, 2 * seed + 1))).q;
        Doubles a(D * k);
        for (Index d = 0; d < D; ++d)
            for (Index j = 0; j < k; ++j) {
                for (Index l = 0; l < k; ++l)
                    a[d * k + j] += u[d * k + l] * std::pow(condition, -double(l) / (k - 1)) * v[j * k + l];
                a[d * k + j] = static_cast<float>(a[d * k + j]);
            }
        bases.push_back(a);
    }
    return bases;
}

// This rank's rows of the bases, [b, k, D of this rank], and their QR.
struct Shard {
    BlockRange mine, my_sequences;
    BasisShape shape;
    Buffer<float> q;
    Buffer<std::int32_t> failure;
    Buffer<double> strain;
    Buffer<double> r, gram;  // [b, k, k]
    Doubles logs;            // [b, k]
    TangentQr qr;

    Shard(Backend& backend, const ProcessGrid& grid, bool has_current, const Bases& bases)
        : mine(grid.neurons_of(neurons)),
          my_sequences(grid.sequences_of(sequences)),
          shape{my_sequences.size(), k, mine.size(), has_current},
          q(backend, rows_of(bases)),
          failure(backend, 2 * shape.b),
          strain(backend, shape.b),
          r(backend, b() * k * k),
          gram(backend, b() * k * k),
          logs(b() * k),
          qr(backend, grid, shape),
          backend_(backend),
          grid_(grid) {}
    QrFindings findings() { return {failure.data(), strain.data()}; }
    Index b() const { return shape.b; }
    void factorise(Index step, std::vector<Index>* independent = nullptr) {
        qr.factorise_carefully(step, my_sequences.begin, q.data(), r.data(), logs.data(), findings(), independent);
    }
    // Q'Q over the ranks of the sequences.
    Doubles whole_gram() {
        backend_.gram(shape, q.data(), q.data(), gram.data());
        Doubles sums = gram.to_host();
        grid_.neurons().all_reduce_sum(sums.data(), Scalar::float64, static_cast<Index>(sums.size()));
        return sums;
    }

    Floats rows_of(const Bases& bases) const {
        Floats x;
        for (Index s = my_sequences.begin; s < my_sequences.end; ++s)
            for (Index j = 0; j < k; ++j)
                for (Index part = 0; part < (shape.current ? 2 : 1); ++part)
                    for (Index i = mine.begin; i < mine.end; ++i)
                        x.push_back(static_cast<float>(bases[s][(part * neurons + i) * k + j]));
        return x;
    }

private:
    Backend& backend_;
    const ProcessGrid& grid_;
};

// Factorised bases, compared with A: R and ln R_jj with those of the reference, Q with that of the reference, Q R with
// A, Q'Q with I.
void expect_factors(Backend& backend, const ProcessGrid& grid, bool has_current, const Bases& a) {
    Shard q(backend, grid, has_current, a);
    q.factorise(1);
    const Doubles all_gram = q.whole_gram(), all_r = q.r.to_host();
    const Index D = state_size(has_current);
    Bases expected_q, back;  // [D, k] each; `back` is Q R with the reference's Q and our R
    for (Index s = 0; s < sequences; ++s) {
        const reference::QR factors = reference::qr(D, k, a[s]);
        expected_q.push_back(factors.q);
        if (!q.my_sequences.contains(s)) continue;
        const Index at = (s - q.my_sequences.begin) * k * k;
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j) {
                const double r_ij = all_r[at + i * k + j];
                EXPECT_NEAR(all_gram[at + i * k + j], i == j ? 1.0 : 0.0, 1e-6) << "Q'Q at " << i << ", " << j;
                if (i > j) {
                    EXPECT_EQ(r_ij, 0.0);
                } else {
                    EXPECT_NEAR(r_ij, factors.r[i * k + j], 1e-6) << "R at " << i << ", " << j;
                }
            }
        for (Index j = 0; j < k; ++j) {
            EXPECT_GT(all_r[at + j * k + j], 0.0);
            EXPECT_NEAR(q.logs[at / k + j], std::log(factors.r[j * k + j]), 1e-5) << "ln R at " << j;
        }
    }
    const Floats found_q = q.q.to_host(), rows = q.rows_of(a);
    EXPECT_TRUE(close_to(found_q, widened(q.rows_of(expected_q)), 1e-6)) << "Q";
    Doubles product(rows.size());
    for (Index s = 0; s < q.b(); ++s)
        for (Index j = 0; j < k; ++j)
            for (Index l = 0; l <= j; ++l)
                for (Index i = 0; i < q.shape.D(); ++i)
                    product[(s * k + j) * q.shape.D() + i] +=
                        found_q[(s * k + l) * q.shape.D() + i] * all_r[(s * k + l) * k + j];
    EXPECT_TRUE(close_to(product, widened(rows), 1e-6)) << "Q R";
}

// One round leaves |Q'Q - I| of about 2^-53 condition^2, 1e-2 at 1e7. From about 1e5 on only a second round passes.
TEST_P(QrOnGrids, FactorsAtAllConditionNumbers) {
    for_every_grid([&](const ProcessGrid& grid) {
        for (bool has_current : {false, true})
            for (double condition : {1.0, 1e1, 1e3, 1e4, 1e5, 1e6, 1e7}) {
                SCOPED_TRACE(testing::Message() << "condition " << condition << ", current " << has_current);
                expect_factors(backend, grid, has_current, random_bases(has_current, condition));
            }
    });
}

// One round without the host gives the same bits where it leaves no doubt, and reports the doubt on all ranks of the
// sequence otherwise. As one kernel it sums in another order, so that doubles differ by rounding.
TEST_P(QrOnGrids, OneRound) {
    for_every_grid([&](const ProcessGrid& grid) {
        const bool one_kernel = GetParam().name == "cuda_float32" && grid.shape().neuron_shards == 1;
        const auto same = [&](const auto& found, const auto& careful, double rounding) {
            return one_kernel ? close_to(found, Doubles(careful.begin(), careful.end()), rounding)
                              : all_equal(found, careful);
        };
        for (double condition : {1.0, 30.0, 1e5}) {
            const Bases a = random_bases(true, condition);
            Shard once(backend, grid, true, a), careful(backend, grid, true, a);
            const Index b = once.b();
            Buffer<double> logs(backend, b * k);
            once.qr.factorise(9, once.q.data(), once.r.data(), logs.data(), once.findings());
            careful.factorise(9);
            std::vector<std::int32_t> expected(2 * b, 0);
            if (condition > 1e3)
                for (Index s = 0; s < b; ++s) expected[2 * s] = 9;
            EXPECT_TRUE(all_equal(once.failure.to_host(), expected)) << "condition " << condition;
            if (condition > 1e3) continue;
            EXPECT_TRUE(same(once.q.to_host(), careful.q.to_host(), 2e-7));
            EXPECT_TRUE(same(once.r.to_host(), careful.r.to_host(), 1e-12));
            EXPECT_TRUE(same(logs.to_host(), careful.logs, 1e-12));
            EXPECT_TRUE(same(once.strain.to_host(), careful.strain.to_host(), 1e-12));
        }
    });
}

// Householder QR of the whole basis, which every rank can compute alone, gives the same exponents.
TEST_P(QrOnGrids, AgreesWithHouseholder) {
    const Index D = state_size(true);
    for_every_grid([&](const ProcessGrid& grid) {
        for (double condition : {1.0, 1e4, 1e7}) {
            const Bases a = random_bases(true, condition);
            Shard q(backend, grid, true, a);
            q.factorise(1);
            Floats whole;  // [b, k, D]
            for (Index s = q.my_sequences.begin; s < q.my_sequences.end; ++s)
                for (Index j = 0; j < k; ++j)
                    for (Index d = 0; d < D; ++d) whole.push_back(static_cast<float>(a[s][d * k + j]));
            Buffer<float> whole_(backend, whole);
            Buffer<double> whole_r(backend, q.b() * k * k), whole_logs(backend, q.b() * k);
            Buffer<std::int32_t> info(backend, q.b());
            backend.householder(q.b(), k, D, whole_.data(), whole_r.data(), whole_logs.data(), info.data());
            EXPECT_TRUE(close_to(q.logs, whole_logs.to_host(), 1e-6)) << "condition " << condition;
        }
    });
}

// Vectors of very different length are not dependent. There is a second round, and it changes nothing.
TEST_P(QrOnGrids, LengthsOfVectorsDoNotMatter) {
    Bases a = random_bases(true, 1.0);
    for (Doubles& basis : a)
        for (std::size_t at = 0; at < basis.size(); ++at)
            basis[at] = static_cast<float>(std::ldexp(basis[at], 4 * static_cast<int>(at % k) - 30));
    for_every_grid([&](const ProcessGrid& grid) { expect_factors(backend, grid, true, a); });
}

TEST_P(QrOnGrids, Adjoint) {
    for (bool has_current : {false, true}) {
        const Index D = state_size(has_current);
        const Bases a = random_bases(has_current, 10.0), qb = random_bases(has_current, 2.0);
        const Floats weight = random_floats(sequences * k, 99);
        Bases expected;
        for (Index s = 0; s < sequences; ++s) {
            const reference::QR factors = reference::qr(D, k, a[s]);
            Doubles rb(k);
            for (Index j = 0; j < k; ++j) rb[j] = weight[s * k + j] / factors.r[j * k + j];
            expected.push_back(reference::qr_backward(D, k, factors, qb[s], rb));
        }
        for_every_grid([&](const ProcessGrid& grid) {
            Shard q(backend, grid, has_current, a), adjoint(backend, grid, has_current, qb);
            const Buffer<double> weight_(
                backend, Doubles(weight.begin() + q.my_sequences.begin * k, weight.begin() + q.my_sequences.end * k));
            q.factorise(1);
            q.qr.backward(1, q.q.data(), q.r.data(), weight_.data(), adjoint.q.data());
            EXPECT_TRUE(close_to(adjoint.q.to_host(), widened(adjoint.rows_of(expected)), 1e-5));
        });
    }
}

// The basis of sequence 3 has lost rank. The ranks that hold it throw an error with its number; the others continue.
TEST_P(QrOnGrids, LostRankNamesStepAndSequence) {
    const struct {
        const char* what;
        Index column;  // 1-based
        void (*plant)(double* row, Index d);
    } cases[] = {
        {"a zero vector", 4, [](double* row, Index) { row[3] = 0.0; }},
        {"equal vectors", 3, [](double* row, Index) { row[2] = row[0]; }},
        {"multiples", 7, [](double* row, Index) { row[6] = -4.0 * row[1]; }},
        {"a combination", 6,
         [](double* row, Index d) {
             for (Index j = 0; j < 5; ++j) row[j] = static_cast<double>((d * (j + 2) + d * d) % 11 - 5);
             row[5] = row[0] - 2.0 * row[3] + 3.0 * row[4];
         }},
        {"few states left", 4,
         [](double* row, Index d) {  // three rows only, as after many resets
             for (Index j = 0; j < k; ++j) row[j] = d == 1 || d == 2 || d == 30 ? row[j] : 0.0;
         }},
        {"NaN", 2, [](double* row, Index d) { row[1] = d == 17 ? std::nan("") : row[1]; }},
        {"infinite", 1, [](double* row, Index d) { row[0] = d == 17 ? HUGE_VAL : row[0]; }},
    };
    for_every_grid([&](const ProcessGrid& grid) {
        for (bool has_current : {false, true})
            for (const auto& c : cases) {
                SCOPED_TRACE(testing::Message() << c.what << ", current " << has_current);
                Bases a = random_bases(has_current, 3.0);
                for (Index d = 0; d < state_size(has_current); ++d) c.plant(a[3].data() + d * k, d);
                Shard q(backend, grid, has_current, a);
                std::string text;
                try {
                    q.factorise(12);
                } catch (const Error& error) {
                    text = error.what();
                    EXPECT_EQ(error.code(), Exit::numerics);
                }
                if (!q.my_sequences.contains(3)) {
                    EXPECT_EQ(text, "");
                    continue;
                }
                EXPECT_NE(text.find("failed at step 12, sequence 3: vector " + std::to_string(c.column) + " of 7 "),
                          std::string::npos)
                    << text;
                EXPECT_NE(text.find("what to do"), std::string::npos) << text;
            }
    });
}

// A measurement continues. The vectors before the lost one have their R and are orthonormal. The lost one and those
// after it are 0, with -infinite logarithms, now and at the next QR. The other sequences are not affected.
TEST_P(QrOnGrids, MeasurementsGoOnWithoutWhatIsLost) {
    const struct {
        const char* what;
        Index left;
        void (*plant)(double* row, Index d);
    } cases[] = {
        {"nothing", 7, [](double*, Index) {}},
        {"everything", 0, [](double* row, Index) { row[0] = 0.0; }},
        {"a zero vector", 3, [](double* row, Index) { row[3] = 0.0; }},
        {"equal vectors", 2, [](double* row, Index) { row[2] = row[0]; }},
        {"multiples", 6, [](double* row, Index) { row[6] = -4.0 * row[1]; }},
        {"few states left", 3,
         [](double* row, Index d) {
             for (Index j = 0; j < k; ++j) row[j] = d == 1 || d == 2 || d == 30 ? row[j] : 0.0;
         }},
        {"two losses", 2, [](double* row, Index) { row[2] = row[0], row[5] = row[1]; }},
    };
    for_every_grid([&](const ProcessGrid& grid) {
        for (bool has_current : {false, true})
            for (const double condition : {3.0, 1e5})
                for (const auto& c : cases) {
                    SCOPED_TRACE(testing::Message()
                                 << c.what << ", current " << has_current << ", condition " << condition);
                    Bases a = random_bases(has_current, condition);
                    const Index D = state_size(has_current);
                    for (Index d = 0; d < D; ++d) c.plant(a[3].data() + d * k, d);
                    Shard q(backend, grid, has_current, a);
                    std::vector<Index> independent(static_cast<std::size_t>(q.b()), k);
                    for (int call = 0; call < 2; ++call) {
                        q.factorise(12, &independent);
                        const Doubles all_gram = q.whole_gram();
                        for (Index s = 0; s < q.b(); ++s) {
                            const Index at = q.my_sequences.begin + s, left = at == 3 ? c.left : k;
                            EXPECT_EQ(independent[s], left) << "sequence " << at;
                            Doubles leading(D * left);
                            for (Index d = 0; d < D; ++d)
                                for (Index j = 0; j < left; ++j) leading[d * left + j] = a[at][d * k + j];
                            const Doubles expected = left ? reference::qr(D, left, leading).r : Doubles();
                            for (Index j = 0; j < k; ++j) {
                                const double log = q.logs[s * k + j];
                                if (j < left)
                                    EXPECT_NEAR(log, call ? 0.0 : std::log(expected[j * left + j]), 1e-5)
                                        << "sequence " << at << ", vector " << j;
                                else
                                    EXPECT_EQ(log, -HUGE_VAL) << "sequence " << at << ", vector " << j;
                                for (Index i = 0; i < k; ++i)
                                    EXPECT_NEAR(all_gram[(s * k + i) * k + j], i == j && j < left, 1e-6);
                            }
                        }
                    }
                }
        // A value that is not finite is an error.
        for (const double value : {std::nan(""), HUGE_VAL}) {
            Bases a = random_bases(true, 3.0);
            a[3][17 * k + 1] = value;
            Shard q(backend, grid, true, a);
            std::vector<Index> independent(static_cast<std::size_t>(q.b()), k);
            bool thrown = false;
            try {
                q.factorise(12, &independent);
            } catch (const Error& error) {
                thrown = true;
                EXPECT_EQ(error.code(), Exit::numerics);
            }
            EXPECT_EQ(thrown, q.my_sequences.contains(3));
        }
    });
}

}  // namespace
}  // namespace spikefloss::testing_support
