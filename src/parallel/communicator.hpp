// A group of ranks and the five collectives that the algorithms use. The buffers are backend memory. Operations
// enter the backend's queue (stream-ordered), so on a GPU they return before they are done. Every rank of the
// group must make the same calls in the same order.
#pragma once

#include "core/view.hpp"

#include <cstddef>
#include <span>

namespace spikefloss {

// An array to be summed over ranks, `count` elements.
struct SumRange {
    void* data;
    Index count;
};

class Communicator {
public:
    virtual ~Communicator() = default;

    virtual int rank() const = 0;
    virtual int size() const = 0;

    // receive = the blocks of all ranks one after another; bytes[r] is the size of rank r's block, send is this rank's.
    virtual void all_gather(const void* send, void* receive, std::span<const Index> bytes) = 0;
    // send holds one block for every rank, one after another, counts[r] elements each; receive = the sum over ranks of
    // this rank's block.
    virtual void reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) = 0;
    // data = the sum over ranks, the same bits on all of them.
    virtual void all_reduce_sum(void* data, Scalar type, Index count) = 0;
    virtual void broadcast(void* data, Index bytes, int root) = 0;
    virtual void barrier() = 0;

    // all_reduce_sum of several arrays in two halves. If overlaps(), work that is queued on the backend in between runs
    // at the same time. This work must not use the arrays or call a collective of any group, except begin_sums of this
    // one.
    virtual bool overlaps() const { return false; }
    virtual void begin_sums(std::span<const SumRange> ranges, Scalar type) {
        for (const SumRange& range : ranges) all_reduce_sum(range.data, type, range.count);
    }
    virtual void finish_sums() {}

    // Whether its collectives may be part of a Recording of the backend.
    virtual bool recorded() const { return false; }
};

}  // namespace spikefloss
