#include "network/sparse_patterns.hpp"

#include "core/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace spikefloss {

SparsePatterns::SparsePatterns(Backend& backend, std::span<const Index> row_begin, std::span<const std::int32_t> column,
                               BlockRange source, std::span<const BlockRange> blocks)
    : backend_(backend), rows_(static_cast<Index>(row_begin.size()) - 1) {
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (column.size() > most)
        throw Error(
            Exit::usage,
            fmt::format("a projection has {} synapses onto the neurons of one rank, more than {}", column.size(), most),
            "use more neuron shards, or split a population");
    const auto entries = static_cast<Index>(column.size()), sources = source.size();
    const auto P = static_cast<Index>(blocks.size());
    const auto at = [](Index i) { return static_cast<std::size_t>(i); };

    std::vector<Index> splits(at((P + 1) * rows_));
    std::vector<Index> next(at(sources + 1), 0);  // where the next entry of a column goes
    for (Index i = 0; i < rows_; ++i) {
        const auto row = column.subspan(at(row_begin[at(i)]), at(row_begin[at(i + 1)] - row_begin[at(i)]));
        splits[at(i)] = row_begin[at(i)];
        for (Index p = 0; p < P; ++p)
            splits[at((p + 1) * rows_ + i)] =
                row_begin[at(i)] + (std::ranges::lower_bound(row, blocks[at(p)].end - source.begin) - row.begin());
        for (const std::int32_t j : row) ++next[at(j + 1)];
    }
    for (Index j = 0; j < sources; ++j) next[at(j + 1)] += next[at(j)];

    const Index first = blocks.front().begin, neurons = blocks.back().end - first;
    std::vector<Index> column_begin;
    for (Index j = 0; j <= neurons; ++j)
        column_begin.push_back(next[at(std::clamp<Index>(first + j - source.begin, 0, sources))]);
    std::vector<std::int32_t> rows_of(at(entries));
    std::vector<std::uint32_t> place(at(entries));
    for (Index i = 0; i < rows_; ++i)
        for (Index e = row_begin[at(i)]; e < row_begin[at(i + 1)]; ++e) {
            const std::size_t to = at(next[at(column[at(e)])]++);
            rows_of[to] = static_cast<std::int32_t>(i);
            place[to] = static_cast<std::uint32_t>(e);
        }

    row_begin_ = {backend, splits};
    column_begin_ = {backend, column_begin};
    column_ = {backend, std::vector<std::int32_t>(column.begin(), column.end())};
    row_ = {backend, rows_of};
    place_ = {backend, place};
    by_column_ = {backend, entries};
    for (Index p = 0; p < P; ++p) {
        const BlockRange& block = blocks[at(p)];
        const Index *begin = row_begin_.data() + p * rows_, *by_column = column_begin_.data() + block.begin - first;
        patterns_.push_back({rows_, block.size(), begin, begin + rows_, column_.data(), block.begin - source.begin,
                             by_column, by_column + 1, row_.data(), place_.data()});
    }
}

void SparsePatterns::sort_by_column(const float* values) {
    backend_.repeat_row(1, entries(), values, by_column_.data(), place_.data());
    sorted_ = values;
}

}  // namespace spikefloss
