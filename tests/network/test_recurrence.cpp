// The sharded recurrent product and its transpose on every grid: against the dense product, and as adjoints of each
// other.
#include "network/recurrence.hpp"

#include "backend/instruction_sets.hpp"
#include "core/random.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <cmath>
#include <numeric>

namespace spikefloss {
namespace {

using namespace testing_support;

constexpr Index rows = 5;

// The same [count] numbers on all ranks.
std::vector<double> numbers(std::uint64_t seed, Index count) {
    std::vector<double> values;
    for (Index i = 0; i < count; ++i) values.push_back(normal(seed, Stream::test, static_cast<std::uint32_t>(i), 0, 0));
    return values;
}

// Columns `columns` of [r, N] as floats.
std::vector<float> part(const std::vector<double>& all, Index r, BlockRange columns) {
    const Index N = static_cast<Index>(all.size()) / r;
    std::vector<float> mine;
    for (Index row = 0; row < r; ++row)
        mine.insert(mine.end(), all.begin() + row * N + columns.begin, all.begin() + row * N + columns.end);
    return mine;
}

// This rank's rows of W [N, N].
std::vector<float> weights_part(const std::vector<double>& w, Index N, const ProcessGrid& grid) {
    const BlockRange mine = grid.neurons_of(N);
    return {w.begin() + mine.begin * N, w.begin() + mine.end * N};
}

// [rows, n] of the neuron shards of this grid as [rows, N]. All batch shards have the same; only the first contributes.
std::vector<double> whole(const ProcessGrid& grid, const Buffer<float>& mine, Index N) {
    const std::vector<float> host = mine.to_host();
    const BlockRange columns = grid.neurons_of(N);
    std::vector<double> all(static_cast<std::size_t>(rows * N), 0.0);
    for (Index r = 0; r < rows && grid.batch_shard() == 0; ++r)
        for (Index j = 0; j < columns.size(); ++j)
            all[static_cast<std::size_t>(r * N + columns.begin + j)] =
                host[static_cast<std::size_t>(r * columns.size() + j)];
    grid.control().all_reduce_sum(all.data(), Scalar::float64, rows * N);
    return all;
}

// Sizes: not divisible by the shards; one neuron per shard; more than a word of bits would hold.
std::vector<Index> sizes(const ProcessGrid& grid) { return {7, grid.shape().neuron_shards, 67}; }

TEST(Recurrence, IsTheDenseProductAndItsTransposeOnEveryGrid) {
    on_every_grid([](const ProcessGrid& grid) {
        for (const Sums sums : {Sums::float32, Sums::float64})
            for (const Index N : sizes(grid)) {
                SCOPED_TRACE(testing::Message() << "N " << N);
                const std::unique_ptr<Backend> made = make_cpu_backend(1, sums);
                Backend& backend = *made;
                Recurrence recurrence(backend, grid, N, plain_terms(grid.neurons_of(N).size(), N, 1).recurrent, rows);
                const auto w = numbers(1, N * N), x = numbers(2, rows * N), y = numbers(3, rows * N);
                const Buffer<float> w_local(backend, weights_part(w, N, grid));
                const Buffer<float> x_local(backend, part(x, rows, grid.neurons_of(N)));
                const Buffer<float> y_local(backend, part(y, rows, grid.neurons_of(N)));
                Buffer<float> wx(backend, rows * recurrence.n()), wy(backend, rows * recurrence.n());
                const auto gathered = recurrence.blocks_of(rows, recurrence.gather(rows, x_local.data()));
                recurrence.apply(
                    w_local.data(), rows, [&](Index) { return gathered; }, wx.data());
                recurrence.apply_transposed(
                    w_local.data(), rows, [&](Index) { return y_local.data(); }, wy.data());

                std::vector<double> dense(x.size(), 0.0), transposed(x.size(), 0.0);
                for (Index r = 0; r < rows; ++r)
                    for (Index i = 0; i < N; ++i)
                        for (Index j = 0; j < N; ++j) {
                            const auto at = [](Index k) { return static_cast<std::size_t>(k); };
                            dense[at(r * N + i)] += w[at(i * N + j)] * x[at(r * N + j)];
                            transposed[at(r * N + j)] += w[at(i * N + j)] * y[at(r * N + i)];
                        }
                const auto product = whole(grid, wx, N), product_transposed = whole(grid, wy, N);
                EXPECT_TRUE(near_in_norm(product, dense, 1e-6));
                EXPECT_TRUE(near_in_norm(product_transposed, transposed, 1e-6));
                // <W x, y> = <x, W' y>
                const double left = std::inner_product(product.begin(), product.end(), y.begin(), 0.0);
                const double right = std::inner_product(x.begin(), x.end(), product_transposed.begin(), 0.0);
                EXPECT_NEAR(left, right,
                            2e-6 * std::sqrt(std::inner_product(dense.begin(), dense.end(), dense.begin(), 0.0) *
                                             std::inner_product(y.begin(), y.end(), y.begin(), 0.0)));
            }
    });
}

// Copies of W for faster products are of the weights after begin(). Spikes and numbers give the same product.
TEST(Recurrence, CopiesOfWeightsAreMadeAfterBegin) {
    const auto test = [](const ProcessGrid& grid, Backend& backend) {
        const Index N = 171, n = grid.neurons_of(N).size();
        Recurrence spikes(backend, grid, N, plain_terms(n, N, 1).recurrent, rows, Product::spikes);
        Recurrence values(backend, grid, N, plain_terms(n, N, 1).recurrent, rows, Product::values);
        std::vector<double> x = numbers(2, rows * N);
        for (double& one : x) one = one > 1.0 ? 1.0 : 0.0;
        std::vector<std::vector<std::uint32_t>> bits(static_cast<std::size_t>(spikes.shards()));
        std::vector<Activity> as_bits;
        for (Index p = 0; p < spikes.shards(); ++p) {
            const BlockRange block = spikes.block(p);
            std::vector<std::uint32_t>& words = bits[static_cast<std::size_t>(p)];
            words.assign(static_cast<std::size_t>(rows * spike_words(block.size())), 0);
            for (Index r = 0; r < rows; ++r)
                for (Index j = 0; j < block.size(); ++j)
                    if (x[static_cast<std::size_t>(r * N + block.begin + j)] > 0.0)
                        words[static_cast<std::size_t>(r * spike_words(block.size()) + j / 32)] |= 1u << j % 32;
            as_bits.push_back({.bits = words.data(), .stride = spike_words(block.size())});
        }
        const Buffer<float> x_local(backend, part(x, rows, grid.neurons_of(N)));
        const auto as_values = values.blocks_of(rows, values.gather(rows, x_local.data()));
        Buffer<float> w_local(backend, n * N), out(backend, rows * n);
        for (const std::uint64_t seed : {1u, 5u}) {  // the second weights have the place of the first
            const std::vector<double> w = numbers(seed, N * N);
            w_local.copy_in(weights_part(w, N, grid).data());
            std::vector<double> product(x.size(), 0.0), transposed(x.size(), 0.0);
            for (Index r = 0; r < rows; ++r)
                for (Index i = 0; i < N; ++i)
                    for (Index j = 0; j < N; ++j) {
                        const auto at = [N](Index row, Index k) { return static_cast<std::size_t>(row * N + k); };
                        product[at(r, i)] += w[at(i, j)] * x[at(r, j)];
                        transposed[at(r, j)] += w[at(i, j)] * x[at(r, i)];
                    }
            for (Recurrence* const with : {&spikes, &values}) {
                with->begin();
                for (const auto& operand : {as_bits, as_values}) {
                    with->apply(
                        w_local.data(), rows, [&](Index) { return operand; }, out.data());
                    EXPECT_TRUE(near_in_norm(whole(grid, out, N), product, 1e-6));
                }
                with->apply_transposed(
                    w_local.data(), rows, [&](Index) { return x_local.data(); }, out.data());
                EXPECT_TRUE(near_in_norm(whole(grid, out, N), transposed, 1e-6));
            }
        }
    };
    on_every_grid([&](const ProcessGrid& grid) {
        for (const Sums sums : {Sums::float32, Sums::float64}) test(grid, *make_cpu_backend(2, sums));
    });
}

// dW += y' x, the derivative of <W x, y>, is added to the existing values.
TEST(Recurrence, OuterProductIsTheGradientOfTheProduct) {
    on_every_grid([](const ProcessGrid& grid) {
        const Index N = 7;
        const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float64);
        Backend& backend = *made;
        Recurrence recurrence(backend, grid, N, plain_terms(grid.neurons_of(N).size(), N, 1).recurrent, rows);
        const auto x = numbers(2, rows * N), y = numbers(3, rows * N);
        const Buffer<float> x_local(backend, part(x, rows, grid.neurons_of(N)));
        const Buffer<float> y_local(backend, part(y, rows, grid.neurons_of(N)));
        const Index n = recurrence.n();
        SumBuffer dw(backend, n * N);
        const auto gathered = recurrence.blocks_of(rows, recurrence.gather(rows, x_local.data()));
        for (int time = 0; time < 2; ++time)
            recurrence.add_outer(recurrence.terms()[0], rows, y_local.data(), gathered, dw.matrix(n, N));
        Buffer<float> rounded(backend, n * N);
        backend.round_sums(dw.data(), rounded.data(), n * N);
        std::vector<double> outer(static_cast<std::size_t>(N * N), 0.0);
        for (Index r = 0; r < rows; ++r)
            for (Index i = 0; i < N; ++i)
                for (Index j = 0; j < N; ++j)
                    outer[static_cast<std::size_t>(i * N + j)] +=
                        2.0 * y[static_cast<std::size_t>(r * N + i)] * x[static_cast<std::size_t>(r * N + j)];
        EXPECT_TRUE(near_in_norm(rounded.to_host(), weights_part(outer, N, grid), 1e-6));
    });
}

}  // namespace
}  // namespace spikefloss
