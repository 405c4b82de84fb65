// Products with sparse weights of every backend against plain chains of sums, from one shard and from several.
#include "backend/product_test.hpp"
#include "network/sparse_patterns.hpp"

#include <algorithm>

namespace spikefloss::testing_support {
namespace {

// The neurons that a projection ends on and those that it comes from.
struct Ends {
    BlockRange target, source;
};

// Sparse projections from neurons of P shards with N neurons to n neurons.
struct Synapses {
    Index n;
    std::vector<Ends> ends;
    std::vector<BlockRange> blocks;
    std::vector<Index> row, neuron;  // [entries], one projection after another
    std::vector<std::vector<Index>> row_begin;
    std::vector<std::vector<std::int32_t>> column;
    Floats values;
    SparsePatterns patterns;
    Buffer<float> values_;

    // density: the share of pairs that have a synapse. Below 1 row 1 and column 2 of a projection have none.
    Synapses(Backend& backend, Index n_, Index N, std::vector<Ends> ends_, Index P, double density, bool by_column)
        : n(n_),
          ends(std::move(ends_)),
          blocks(block_ranges(N, P)),
          values(entries(density)),
          patterns(backend, n, projections(), blocks),
          values_(backend, values) {
        if (by_column) patterns.sort_by_column(values_.data());
    }
    Floats entries(double density) {
        for (const auto& [target, source] : ends) {
            const Floats chance = uniform_floats(target.size() * source.size(), 7, 0.0, 1.0);
            row_begin.push_back({0});
            column.emplace_back();
            for (Index i = 0; i < target.size(); ++i) {
                for (Index j = 0; j < source.size(); ++j)
                    if (density >= 1.0 || (chance[i * source.size() + j] < density && i != 1 && j != 2)) {
                        row.push_back(target.begin + i);
                        neuron.push_back(source.begin + j);
                        column.back().push_back(static_cast<std::int32_t>(j));
                    }
                row_begin.back().push_back(static_cast<Index>(column.back().size()));
            }
        }
        return random_floats(static_cast<Index>(row.size()), 8);
    }
    std::vector<ProjectionRows> projections() const {
        std::vector<ProjectionRows> all;
        for (std::size_t k = 0; k < ends.size(); ++k)
            all.push_back({ends[k].target.begin, ends[k].source, row_begin[k], column[k]});
        return all;
    }
    Index shards() const { return static_cast<Index>(blocks.size()); }
    Weights weights(Index p) const { return patterns.weights(p, values_.data()); }
    // work(e, row, neuron of the block) for the synapses from block p: of a row neurons ascend, of a neuron rows.
    template <class Work>
    void for_every_synapse(Index p, Work&& work) const {
        for (std::size_t e = 0; e < row.size(); ++e)
            if (blocks[p].contains(neuron[e])) work(static_cast<Index>(e), row[e], neuron[e] - blocks[p].begin);
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
            std::vector<Ends> ends;
            Index P;
            double density;
        };
        // The fifth has rows without a projection before, between and after those with two, the sixth a population that
        // this rank has no neuron of. The neurons of the last one need 32 bits.
        for (const Shape& shape :
             {Shape{1, 1, {{{0, 1}, {0, 1}}}, 1, 1.0}, Shape{33, 70, {{{0, 33}, {5, 64}}}, 3, 0.3},
              Shape{131, 257, {{{0, 131}, {0, 257}}}, 1, 0.1}, Shape{40, 90, {{{0, 40}, {50, 60}}}, 2, 0.5},
              Shape{120, 130, {{{3, 50}, {0, 60}}, {{3, 50}, {70, 130}}, {{61, 110}, {60, 130}}}, 2, 0.3},
              Shape{45, 80, {{{0, 0}, {0, 50}}, {{0, 45}, {0, 50}}, {{0, 45}, {50, 80}}}, 1, 0.4},
              Shape{5, 66000, {{{0, 5}, {0, 66000}}}, 1, 0.002}})
            for (bool by_column : {false, true}) {
                const bool wide = shape.N > 65536;
                const Synapses synapses(backend, shape.n, shape.N, shape.ends, shape.P, shape.density, by_column);
                for (Form form : {Form::floats, Form::sparse_floats, Form::bits, Form::steps_of_bits})
                    for (const double rate : {0.02, 0.5})
                        for (Index rows : {0, 1, 2, 8, 13, 67}) {
                            if (wide && (rows > 2 || form == Form::sparse_floats)) continue;
                            const Index pad = (rows + by_column) % 2 * 3;
                            const Case c{rows, pad, (rows / 2 + by_column) % 2 == 0, form, rate};
                            SCOPED_TRACE(testing::Message()
                                         << rows << " rows, " << shape.N << " neurons to " << shape.n << " in "
                                         << shape.ends.size() << " projections, P " << shape.P << ", pad " << pad
                                         << ", accumulate " << c.accumulate << ", form " << int(form) << ", rate "
                                         << rate << ", by column " << by_column);
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
        const bool fused = fuses_products(GetParam());
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
                    sum = fused ? std::fma(x, y, sum) : x * y + sum;
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

// So many targets that a backend may take the rows in pieces (67 rows in 2 or 3 pieces on a GPU).
TEST_P(SparseOperations, OuterProductsOfManyTargets) {
    const Index rows = 67, n = 300'000, m = 40;
    const Synapses synapses(backend, n, m, {{{0, n}, {0, m}}}, 1, 0.03, false);
    const Floats y = dyadic_floats(rows * n, 3);
    const Buffer<float> y_(backend, y);
    for (const Form form : {Form::floats, Form::bits}) {
        Padded x(rows, m, 0, 2, 0.3);
        for (float& value : x.values) value = std::round(value);  // all sums are exact
        const Operand operand(backend, x, form);
        SumBuffer gradient(backend, synapses.patterns.entries());
        backend.add_outer({y_.data(), rows, n}, operand.activity, gradient.matrix(1, gradient.size()),
                          &synapses.patterns.pattern(0));
        Buffer<float> rounded(backend, gradient.size());
        backend.round_sums(gradient.data(), rounded.data(), gradient.size());
        const Floats found = rounded.to_host();
        Index wrong = 0;
        synapses.for_every_synapse(0, [&](Index e, Index i, Index j) {
            double expected = 0.0;
            for (Index r = 0; r < rows; ++r) expected += double(y[r * n + i]) * operand.at(r, j);
            wrong += found[e] != static_cast<float>(expected);
        });
        EXPECT_EQ(wrong, 0) << "form " << int(form);
    }
}

// A sparse matrix with all entries gives the bits of the dense one: of sums in double, which are rounded once, and of
// sums that are exact.
TEST_P(SparseOperations, WithAllEntriesAreDense) {
    const Index rows = 67, n = 45, m = 70;
    Synapses all(backend, n, m, {{{0, n}, {0, m}}}, 1, 1.0, true);
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

}  // namespace
}  // namespace spikefloss::testing_support
