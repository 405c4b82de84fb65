// The synapses of sparse projections onto this rank's neurons, in backend memory: one pattern for each shard of their
// sources. All shards share one array of entries by row (CSR) and one by column.
#pragma once

#include "backend/buffer.hpp"
#include "parallel/block_range.hpp"

#include <span>
#include <vector>

namespace spikefloss {

// The synapses of one projection onto `rows` neurons of this rank from first_row on.
struct ProjectionRows {
    Index first_row;
    BlockRange source;
    std::span<const Index> row_begin;      // [rows + 1] the entries of each row
    std::span<const std::int32_t> column;  // [entries] ascend within a row and count from source.begin
};

class SparsePatterns {
public:
    // Of projections onto `rows` neurons, on the host: entries lie one projection after the other. Two of them have no
    // source and target in common, and those onto the same neurons come in the order of their sources. blocks: the
    // neurons of each shard, in order, which cover the sources. A source of inputs is one block, [0, M).
    SparsePatterns(Backend& backend, Index rows, std::span<const ProjectionRows> projections,
                   std::span<const BlockRange> blocks);

    // Of the sources' neurons in block p; the operand is the whole block, [rows, blocks[p].size()].
    const SparsePattern& pattern(Index p) const { return patterns_[static_cast<std::size_t>(p)]; }
    Index shards() const { return static_cast<Index>(patterns_.size()); }
    Index entries() const { return by_column_.size(); }

    // Copies values [entries] to the order by column. Products of these weights until the next call take less time.
    void sort_by_column(const float* values);
    Weights weights(Index p, const float* values) const {
        return {rows_, pattern(p).cols, values, 0, &pattern(p), values == sorted_ ? by_column_.data() : nullptr};
    }

private:
    struct StoredIndices {
        Buffer<std::uint16_t> narrow;
        Buffer<std::int32_t> wide;

        StoredIndices() = default;
        StoredIndices(Backend& backend, const std::vector<std::int32_t>& indices);
        EntryIndices view() const { return {narrow.data(), wide.data()}; }
    };
    Backend& backend_;
    Index rows_;
    Buffer<Index> row_begin_;     // of each projection [P + 1, rows]: row p + 1 is the end of block p
    Buffer<Index> column_begin_;  // [neurons of all blocks + 1]
    StoredIndices column_, row_;
    Buffer<std::uint32_t> place_;
    Buffer<float> by_column_;
    const float* sorted_ = nullptr;  // whose values by_column_ has
    Buffer<PatternRows> parts_;      // of each block, then its columns
    std::vector<SparsePattern> patterns_;
};

}  // namespace spikefloss
