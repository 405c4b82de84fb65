// Block ranges: they cover the whole range in order, without gaps, as evenly as possible.
#include "parallel/block_range.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace spikefloss {
namespace {

TEST(BlockRange, BlocksCoverTheWholeInOrderAndEvenly) {
    for (Index total : {0, 1, 2, 5, 7, 31, 32, 33, 100})
        for (Index parts = 1; parts <= 40; ++parts) {
            SCOPED_TRACE(testing::Message() << total << " in " << parts << " parts");
            const std::vector<BlockRange> ranges = block_ranges(total, parts);
            ASSERT_EQ(static_cast<Index>(ranges.size()), parts);
            Index end = 0, smallest = total, largest = 0;
            for (Index part = 0; part < parts; ++part) {
                const BlockRange range = block_range(total, parts, part);
                EXPECT_EQ(range.begin, ranges[part].begin);
                EXPECT_EQ(range.end, ranges[part].end);
                EXPECT_EQ(range.begin, end);
                end = range.end;
                smallest = std::min(smallest, range.size());
                largest = std::max(largest, range.size());
            }
            EXPECT_EQ(end, total);
            EXPECT_LE(largest - smallest, 1);
        }
}

TEST(BlockRange, MorePartsThanElementsLeaveSomeEmpty) {
    Index empty = 0;
    for (const BlockRange range : block_ranges(3, 7)) empty += range.size() == 0;
    EXPECT_EQ(empty, 4);
}

TEST(BlockRange, LargeTotalsDoNotOverflow) {
    const Index total = Index(1) << 50;
    EXPECT_EQ(block_range(total, 4096, 4095).end, total);
    EXPECT_EQ(block_range(total, 4096, 17).size(), total / 4096);
}

TEST(BlockRange, ContainsItsElementsOnly) {
    const BlockRange range{3, 5};
    EXPECT_FALSE(range.contains(2));
    EXPECT_TRUE(range.contains(3));
    EXPECT_TRUE(range.contains(4));
    EXPECT_FALSE(range.contains(5));
    EXPECT_FALSE((BlockRange{4, 4}).contains(4));
}

}  // namespace
}  // namespace spikefloss
