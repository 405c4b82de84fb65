#include "network/sparse_patterns.hpp"

#include "core/error.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace spikefloss {

SparsePatterns::StoredIndices::StoredIndices(Backend& backend, const std::vector<std::int32_t>& indices) {
    const auto largest = std::ranges::max_element(indices);
    if (largest == indices.end() || *largest > std::numeric_limits<std::uint16_t>::max())
        wide = {backend, indices};
    else
        narrow = {backend, std::vector<std::uint16_t>(indices.begin(), indices.end())};
}

SparsePatterns::SparsePatterns(Backend& backend, Index rows, std::span<const ProjectionRows> projections,
                               std::span<const BlockRange> blocks)
    : backend_(backend), rows_(rows) {
    const auto at = [](Index i) { return static_cast<std::size_t>(i); };
    const auto P = static_cast<Index>(blocks.size());
    const Index first = blocks.front().begin, neurons = blocks.back().end - first;

    // By row: the entries of all projections, and where each row of a projection enters and leaves each block.
    std::vector<std::int32_t> columns;
    std::vector<Index> splits;
    std::vector<Index> next(at(neurons + 1), 0);  // where the next entry of a column goes
    for (const ProjectionRows& from : projections) {
        const auto before = static_cast<Index>(columns.size()), count = static_cast<Index>(from.row_begin.size()) - 1;
        const auto begin = static_cast<Index>(splits.size());
        splits.resize(at(begin + (P + 1) * count));
        for (Index i = 0; i < count; ++i) {
            const Index entry = from.row_begin[at(i)];
            const auto row = from.column.subspan(at(entry), at(from.row_begin[at(i + 1)] - entry));
            splits[at(begin + i)] = before + entry;
            for (Index p = 0; p < P; ++p)
                splits[at(begin + (p + 1) * count + i)] =
                    before + entry +
                    (std::ranges::lower_bound(row, blocks[at(p)].end - from.source.begin) - row.begin());
        }
        columns.insert(columns.end(), from.column.begin(), from.column.end());
        for (const std::int32_t j : from.column) ++next[at(from.source.begin - first + j + 1)];
    }
    constexpr std::size_t most = std::numeric_limits<std::uint32_t>::max();
    if (columns.size() > most)
        throw Error(Exit::usage,
                    fmt::format("the sparse projections of one delay have {} synapses onto the neurons of one rank, "
                                "more than {}",
                                columns.size(), most),
                    "use more neuron shards");
    const auto entries = static_cast<Index>(columns.size());

    // By column: rows ascend, because projections with a source in common are ordered by their first row.
    for (Index j = 0; j < neurons; ++j) next[at(j + 1)] += next[at(j)];
    const std::vector<Index> column_begin = next;
    std::vector<std::int32_t> rows_of(at(entries));
    std::vector<std::uint32_t> place(at(entries));
    Index entry = 0;
    for (const ProjectionRows& from : projections)
        for (std::size_t i = 0; i + 1 < from.row_begin.size(); ++i)
            for (Index e = from.row_begin[i]; e < from.row_begin[i + 1]; ++e, ++entry) {
                const std::size_t to = at(next[at(from.source.begin - first + from.column[at(e)])]++);
                rows_of[to] = static_cast<std::int32_t>(from.first_row + static_cast<Index>(i));
                place[to] = static_cast<std::uint32_t>(entry);
            }

    row_begin_ = {backend, splits};
    column_begin_ = {backend, column_begin};
    column_ = {backend, columns};
    row_ = {backend, rows_of};
    place_ = {backend, place};
    by_column_ = {backend, entries};
    std::vector<PatternRows> parts;
    std::vector<std::size_t> ends;
    for (Index p = 0; p < P; ++p) {
        const BlockRange& block = blocks[at(p)];
        const Index *begin = row_begin_.data(), *of_columns = column_begin_.data() + block.begin - first;
        for (const ProjectionRows& from : projections) {
            const auto count = static_cast<Index>(from.row_begin.size()) - 1;
            if (count > 0 && from.source.begin < block.end && block.begin < from.source.end)
                parts.push_back({from.first_row, count, begin + p * count, begin + (p + 1) * count,
                                 block.begin - from.source.begin});
            begin += (P + 1) * count;
        }
        ends.push_back(parts.size());
        parts.push_back({0, block.size(), of_columns, of_columns + 1, 0});
    }
    parts_ = {backend, parts};
    const PatternRows* from = parts_.data();
    for (Index p = 0; p < P; ++p) {
        const PatternRows* const columns_of = parts_.data() + ends[at(p)];
        patterns_.push_back(
            {rows_, blocks[at(p)].size(), {from, columns_of}, column_.view(), columns_of, row_.view(), place_.data()});
        from = columns_of + 1;
    }
}

void SparsePatterns::sort_by_column(const float* values) {
    backend_.repeat_row(1, entries(), values, by_column_.data(), place_.data());
    sorted_ = values;
}

}  // namespace spikefloss
