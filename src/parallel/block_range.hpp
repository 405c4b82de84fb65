// The contiguous part of a global index range that a shard holds.
#pragma once

#include "core/view.hpp"

#include <vector>

namespace spikefloss {

struct BlockRange {
    Index begin = 0;
    Index end = 0;
    Index size() const { return end - begin; }
    bool contains(Index i) const { return begin <= i && i < end; }
};

// Part `part` of `parts` nearly equal blocks of [0, total): sizes differ by at most one, empty when parts > total.
inline BlockRange block_range(Index total, Index parts, Index part) {
    return {total * part / parts, total * (part + 1) / parts};
}

// All blocks, in order.
inline std::vector<BlockRange> block_ranges(Index total, Index parts) {
    std::vector<BlockRange> ranges;
    for (Index part = 0; part < parts; ++part) ranges.push_back(block_range(total, parts, part));
    return ranges;
}

}  // namespace spikefloss
