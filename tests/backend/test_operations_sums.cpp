// Products, sums and element-wise operations of every backend against plain double loops, at ragged sizes and padded
// strides.
#include "backend/lane.hpp"
#include "backend/operation_test.hpp"
#include "network/sparse_patterns.hpp"

#include <algorithm>
#include <deque>

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
    double at(Index i, Index j) const { return values[i * stride + j]; }
};

// x [rows, m] of a product in one of its forms: floats, or spikes whose rows are `pad` words apart. Steps of three rows
// have four more words between them. The words of the padding are all spikes.
enum class Form { floats, sparse_floats, bits, steps_of_bits };

struct Operand {
    Form form;
    Padded floats;
    Buffer<float> floats_;
    Buffer<std::uint32_t> bits_;
    Activity activity;

    Operand(Backend& backend, Index rows, Index m, Index pad, double density, Form form_, std::uint64_t seed = 2)
        : Operand(backend, Padded(rows, m, pad, seed, density), form_) {}
    Operand(Backend& backend, Padded floats_on_host, Form form_)
        : form(form_), floats(std::move(floats_on_host)), floats_(backend, floats.values) {
        const Index rows = floats.rows, m = floats.cols, pad = floats.stride - m;
        activity = {.values = floats_.data(), .stride = floats.stride, .sparse = form == Form::sparse_floats};
        if (form == Form::floats || form == Form::sparse_floats) return;
        const Index stride = spike_words(m) + pad, step = 3 * stride + 4;
        activity = {.stride = stride};
        if (form == Form::steps_of_bits) activity.step_rows = 3, activity.step_stride = step;
        const auto begin = [&](Index row) {
            return form == Form::steps_of_bits ? row / 3 * step + row % 3 * stride : row * stride;
        };
        std::vector<std::uint32_t> words(begin(rows) + stride, 0xFFFFFFFFu);
        for (Index row = 0; row < rows; ++row)
            for (Index j = 0; j < (m + 31) / 32 * 32; ++j)
                if (j >= m || floats.at(row, j) == 0.0) words[begin(row) + j / 32] &= ~(1u << (j % 32));
        bits_ = {backend, words};
        activity.bits = bits_.data();
    }
    double at(Index row, Index j) const { return activity.bits ? floats.at(row, j) != 0.0 : floats.at(row, j); }
};

class ProductOperations : public SumOperations {
protected:
    struct Product {
        Index rows, n, m, pad;
        bool accumulate;
        Form form;
        double density;
    };

    template <class Test>
    void for_every_product(Test&& test) {
        std::vector<Product> products;
        for (Form form : {Form::floats, Form::sparse_floats, Form::bits, Form::steps_of_bits})
            for (bool accumulate : {false, true}) {
                for (Index rows : {0, 1, 67})
                    for (Index n : {0, 1, 33})
                        for (Index m : {0, 1, 31, 33})
                            for (Index pad : {0, 3}) products.push_back({rows, n, m, pad, accumulate, form, 0.5});
                // Large enough to be split over threads, and for spikes in parts.
                products.push_back({67, 131, 257, 5, accumulate, form, 0.5});
                if (backend.name() == "cuda" && form >= Form::bits)
                    products.push_back({37, 513, 515, 1, accumulate, form, 0.5});
                // Densities below and above the limits of algorithms.
                for (double density : {0.0, 0.03, 0.13, 0.17})
                    products.push_back({601, 33, 145, 3, accumulate, form, density});
                products.push_back({1301, 101, 45, 3, accumulate, form, 0.1});
            }
        for (const Product& p : products) {
            SCOPED_TRACE(testing::Message()
                         << p.rows << " rows, " << p.m << " to " << p.n << ", pad " << p.pad << ", accumulate "
                         << p.accumulate << ", form " << int(p.form) << ", density " << p.density);
            test(p);
            if (HasFailure()) return;
        }
    }

    // Compares what `run` writes or adds to C [rows, cols] with the double sums `element(i, j)` over `inner` terms: as
    // sums, and as floats.
    template <class Run, class Element>
    void expect_product(const Product& p, Index rows, Index cols, Index inner, bool accumulate, Run&& run,
                        Element&& element) {
        const Index stride = cols + p.pad;
        Floats start(rows ? (rows - 1) * stride + cols : 0, padding);
        const Floats first = random_floats(static_cast<Index>(start.size()), 3);
        Doubles expected;
        for (std::size_t at = 0; at < start.size(); ++at) {
            const Index i = static_cast<Index>(at) / stride, j = static_cast<Index>(at) % stride;
            // NaN must be overwritten.
            if (j < cols) start[at] = accumulate ? first[at] : nan_value;
            expected.push_back(j < cols ? element(i, j) + (accumulate ? first[at] : 0.0) : padding);
        }
        Buffer<float> floats(backend, start);
        run(Matrix<float>(floats.data(), rows, cols, stride));
        EXPECT_TRUE(close_to(floats.to_host(), expected, std::max(2e-7, sum_tolerance(inner)))) << "as floats";
        SumBuffer sums = sums_on_backend(start);
        run(SumMatrix{sums.data(), sums.type(), rows, cols, stride});
        EXPECT_TRUE(close_to(to_host(sums), expected, sum_tolerance(inner))) << "as sums";
    }
    static constexpr float padding = -77.0f;
};
SPIKEFLOSS_ON_EVERY_BACKEND(ProductOperations);

TEST_P(ProductOperations, Projections) {
    for_every_product([&](const Product& p) {
        const Padded w(p.n, p.m, p.pad, 1);
        const Buffer<float> w_(backend, w.values);
        const Operand x(backend, p.rows, p.m, p.pad, p.density, p.form);
        const auto run = [&](SumMatrix out) {
            backend.project({p.n, p.m, w_.data(), w.stride}, x.activity, out, p.accumulate);
        };
        expect_product(p, p.rows, p.n, p.m, p.accumulate, run, [&](Index row, Index i) {
            double sum = 0.0;
            for (Index j = 0; j < p.m; ++j) sum += x.at(row, j) * w.at(i, j);
            return sum;
        });
    });
}

TEST_P(ProductOperations, TransposedProjections) {
    for_every_product([&](const Product& p) {
        if (p.form != Form::floats) return;
        const Padded w(p.n, p.m, p.pad, 1), y(p.rows, p.n, p.pad, 2);
        const Buffer<float> w_(backend, w.values), y_(backend, y.values);
        const auto run = [&](SumMatrix out) {
            backend.project_transposed({p.n, p.m, w_.data(), w.stride}, {y_.data(), p.rows, p.n, y.stride}, out,
                                       p.accumulate);
        };
        expect_product(p, p.rows, p.m, p.n, p.accumulate, run, [&](Index row, Index j) {
            double sum = 0.0;
            for (Index i = 0; i < p.n; ++i) sum += y.at(row, i) * w.at(i, j);
            return sum;
        });
    });
}

TEST_P(ProductOperations, OuterProductsAreAdded) {
    for_every_product([&](const Product& p) {
        if (!p.accumulate) return;
        const Padded y(p.rows, p.n, p.pad, 1);
        const Buffer<float> y_(backend, y.values);
        const Operand x(backend, p.rows, p.m, p.pad, p.density, p.form);
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

// A sparse projection from neurons [source.begin, source.end) of P shards with N neurons to n neurons.
struct Synapses {
    Index n;
    BlockRange source;
    std::vector<BlockRange> blocks;
    std::vector<Index> row_begin{0};
    std::vector<std::int32_t> column, row;  // [entries]
    Floats values;
    SparsePatterns patterns;
    Buffer<float> values_;

    // density: the share of pairs that have a synapse. Below 1 row 1 and column 2 have none.
    Synapses(Backend& backend, Index n_, Index N, BlockRange source_, Index P, double density, bool by_column)
        : n(n_),
          source(source_),
          blocks(block_ranges(N, P)),
          values(entries(density)),
          patterns(backend, row_begin, column, source, blocks),
          values_(backend, values) {
        if (by_column) patterns.sort_by_column(values_.data());
    }
    Floats entries(double density) {
        const Floats chance = uniform_floats(n * source.size(), 7, 0.0, 1.0);
        for (Index i = 0; i < n; ++i) {
            for (Index j = 0; j < source.size(); ++j)
                if (density >= 1.0 || (chance[i * source.size() + j] < density && i != 1 && j != 2)) {
                    row.push_back(static_cast<std::int32_t>(i));
                    column.push_back(static_cast<std::int32_t>(j));
                }
            row_begin.push_back(static_cast<Index>(column.size()));
        }
        return random_floats(row_begin.back(), 8);
    }
    Index shards() const { return static_cast<Index>(blocks.size()); }
    Weights weights(Index p) const { return patterns.weights(p, values_.data()); }
    Index neuron(Index e) const { return source.begin + column[e]; }
    // work(e, row, neuron of the block) for the synapses from block p, rows and then neurons ascending.
    template <class Work>
    void for_every_synapse(Index p, Work&& work) const {
        for (Index e = 0; e < row_begin.back(); ++e)
            if (blocks[p].contains(neuron(e))) work(e, Index{row[e]}, neuron(e) - blocks[p].begin);
    }
};

class SparseOperations : public ProductOperations {
protected:
    struct Case {
        Index rows, pad;
        bool accumulate;
        Form form;
        double rate;
    };

    template <class Test>
    void for_every_case(Test&& test) {
        struct Shape {
            Index n, N;
            BlockRange source;
            Index P;
            double density;
        };
        for (const Shape& shape : {Shape{1, 1, {0, 1}, 1, 1.0}, Shape{33, 70, {5, 64}, 3, 0.3},
                                   Shape{131, 257, {0, 257}, 1, 0.1}, Shape{40, 90, {50, 60}, 2, 0.5}})
            for (bool by_column : {false, true}) {
                const Synapses synapses(backend, shape.n, shape.N, shape.source, shape.P, shape.density, by_column);
                for (Form form : {Form::floats, Form::sparse_floats, Form::bits, Form::steps_of_bits})
                    for (const double rate : {0.02, 0.5})
                        for (Index rows : {0, 1, 2, 8, 13, 67}) {
                            const Index pad = (rows + by_column) % 2 * 3;
                            const Case c{rows, pad, (rows / 2 + by_column) % 2 == 0, form, rate};
                            SCOPED_TRACE(testing::Message()
                                         << rows << " rows, " << shape.N << " neurons to " << shape.n << ", P "
                                         << shape.P << ", pad " << pad << ", accumulate " << c.accumulate << ", form "
                                         << int(form) << ", rate " << rate << ", by column " << by_column);
                            test(c, synapses);
                            if (HasFailure()) return;
                        }
            }
    }

    std::deque<Operand> operands(const Case& c, const Synapses& synapses) {
        std::deque<Operand> x;
        for (const BlockRange& block : synapses.blocks)
            x.emplace_back(backend, c.rows, block.size(), c.pad, c.rate, c.form, 20 + x.size());
        return x;
    }

    // Scratch is told before it is taken.
    template <class Run>
    void run_with_scratch(Run&& run) {
        const std::size_t before = backend.scratch_bytes(), told = backend.scratch_of(run);
        run();
        EXPECT_EQ(backend.scratch_bytes(), std::max(before, told));
    }

    // The out of `parts` products one after another is that of chains in the order in which add_terms(part, add) calls
    // add(row, column, factor, factor), to the last bit.
    template <class Run, class AddTerms>
    void expect_chains(const Case& c, Index cols, Index parts, bool accumulate, Run&& run, AddTerms&& add_terms) {
        const Index stride = cols + c.pad;
        const auto check = [&]<class Sum, class Out>(Sum, Out, SumMatrix matrix, const auto& start, auto&& found) {
            std::vector<Out> out(start.begin(), start.end());
            run_with_scratch([&] { run(matrix); });
            for (Index part = 0; part < parts; ++part) {
                const bool add = accumulate || part > 0, chain = add && std::is_same_v<Sum, Out>;
                std::vector<Sum> sums(out.size(), Sum(0));
                if (chain) sums.assign(out.begin(), out.end());
                add_terms(part, [&](Index i, Index j, double a, double b) {
                    Sum &sum = sums[i * stride + j], x = static_cast<Sum>(a), y = static_cast<Sum>(b);
                    sum = backend.name() == "cpu" ? multiply_add(x, y, sum) : std::fma(x, y, sum);
                });
                for (std::size_t at = 0; at < out.size(); ++at)
                    if (static_cast<Index>(at) % stride < cols)
                        out[at] = static_cast<Out>(add && !chain ? out[at] + sums[at] : sums[at]);
            }
            const auto results = found();
            for (std::size_t at = 0; at < out.size(); ++at)
                ASSERT_EQ(static_cast<Out>(results[at]), out[at]) << at / stride << ", " << at % stride;
        };
        Floats start(c.rows && cols ? (c.rows - 1) * stride + cols : 0, padding);
        const Floats first = random_floats(static_cast<Index>(start.size()), 3);
        for (std::size_t at = 0; at < start.size(); ++at)
            if (static_cast<Index>(at) % stride < cols) start[at] = accumulate ? first[at] : nan_value;
        Buffer<float> floats(backend, start);
        SumBuffer sums = sums_on_backend(start);
        const Matrix<float> narrow(floats.data(), c.rows, cols, stride);
        const SumMatrix wide{sums.data(), sums.type(), c.rows, cols, stride};
        if (backend.sums() == Sums::float32) return check(0.0f, 0.0f, narrow, start, [&] { return floats.to_host(); });
        check(0.0, 0.0f, narrow, start, [&] { return floats.to_host(); });
        check(0.0, 0.0, wide, start, [&] { return to_host(sums); });
    }
};
SPIKEFLOSS_ON_EVERY_BACKEND(SparseOperations);

TEST_P(SparseOperations, Projections) {
    for_every_case([&](const Case& c, const Synapses& synapses) {
        const std::deque<Operand> x = operands(c, synapses);
        const auto run = [&](SumMatrix out) {
            for (Index p = 0; p < synapses.shards(); ++p)
                backend.project(synapses.weights(p), x[p].activity, out, c.accumulate || p > 0);
        };
        expect_chains(c, synapses.n, synapses.shards(), c.accumulate, run, [&](Index p, auto&& add) {
            synapses.for_every_synapse(p, [&](Index e, Index i, Index j) {
                for (Index r = 0; r < c.rows; ++r) add(r, i, synapses.values[e], x[p].at(r, j));
            });
        });
    });
}

TEST_P(SparseOperations, TransposedProjections) {
    for_every_case([&](const Case& c, const Synapses& synapses) {
        if (c.form != Form::floats) return;
        const Padded y(c.rows, synapses.n, c.pad, 2);
        const Buffer<float> y_(backend, y.values);
        for (Index p = 0; p < synapses.shards(); ++p) {
            const auto run = [&](SumMatrix out) {
                backend.project_transposed(synapses.weights(p), {y_.data(), y.rows, y.cols, y.stride}, out,
                                           c.accumulate);
            };
            expect_chains(c, synapses.blocks[p].size(), 1, c.accumulate, run, [&](Index, auto&& add) {
                synapses.for_every_synapse(p, [&](Index e, Index i, Index j) {
                    for (Index r = 0; r < c.rows; ++r) add(r, j, synapses.values[e], y.at(r, i));
                });
            });
        }
    });
}

TEST_P(SparseOperations, OuterProductsAreAdded) {
    for_every_case([&](const Case& c, const Synapses& synapses) {
        const Index entries = synapses.patterns.entries();
        const Padded y(c.rows, synapses.n, c.pad, 1);
        const Buffer<float> y_(backend, y.values);
        const std::deque<Operand> x = operands(c, synapses);
        const auto run = [&](SumMatrix gradient) {
            run_with_scratch([&] {
                for (Index p = 0; p < synapses.shards(); ++p)
                    backend.add_outer({y_.data(), y.rows, y.cols, y.stride}, x[p].activity, gradient,
                                      &synapses.patterns.pattern(p));
            });
        };
        Doubles expected(static_cast<std::size_t>(entries), 0.0);
        for (Index p = 0; p < synapses.shards(); ++p)
            synapses.for_every_synapse(p, [&](Index e, Index i, Index j) {
                for (Index r = 0; r < c.rows; ++r) expected[e] += y.at(r, i) * x[p].at(r, j);
            });
        expect_product({c.rows, 1, entries, 0, true, c.form, c.rate}, 1, entries, c.rows, true, run,
                       [&](Index, Index e) { return expected[e]; });
    });
}

// A sparse matrix with all entries gives the bits of the dense one: of sums in double, which are rounded once, and of
// sums that are exact.
TEST_P(SparseOperations, WithAllEntriesAreDense) {
    const Index rows = 67, n = 45, m = 70;
    Synapses all(backend, n, m, {0, m}, 1, 1.0, true);
    for (const bool exact : {false, true}) {
        if (!exact && backend.sums() == Sums::float32) continue;
        Padded x(rows, m, 3, 2, 0.4), y(rows, n, 0, 4);
        if (exact) {
            all.values = dyadic_floats(n * m, 5);
            for (Padded* factor : {&x, &y})
                for (float& value : factor->values) value = std::round(value);
            all.values_.copy_in(all.values.data());
            all.patterns.sort_by_column(all.values_.data());
        }
        const Weights dense{n, m, all.values_.data(), m};
        const Buffer<float> y_(backend, y.values);
        const Matrix<const float> y_rows(y_.data(), rows, n);
        const auto expect_same = [&](Index count, auto&& product) {
            const Floats start = dyadic_floats(count, 6);
            Buffer<float> found(backend, start), expected(backend, start);
            product(found.data(), all.weights(0), &all.patterns.pattern(0));
            product(expected.data(), dense, nullptr);
            EXPECT_TRUE(all_equal(found.to_host(), expected.to_host())) << "exact " << exact;
        };
        for (const Form form : {Form::floats, Form::bits}) {
            const Operand operand(backend, x, form);
            expect_same(rows * n, [&](float* out, const Weights& w, const SparsePattern*) {
                backend.project(w, operand.activity, Matrix<float>(out, rows, n), false);
            });
            expect_same(n * m, [&](float* out, const Weights&, const SparsePattern* pattern) {
                backend.add_outer(y_rows, operand.activity,
                                  pattern ? Matrix<float>(out, 1, n * m) : Matrix<float>(out, n, m), pattern);
            });
        }
        expect_same(rows * m, [&](float* out, const Weights& w, const SparsePattern*) {
            backend.project_transposed(w, y_rows, Matrix<float>(out, rows, m), false);
        });
    }
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
