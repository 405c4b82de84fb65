// A Communicator that sends nothing and leaves its buffers as they are. It only counts the bytes that one rank would
// pass to its collectives. A step of a run on it and on a CountingBackend gives the amount of data that is sent.
#pragma once

#include "parallel/communicator.hpp"

#include <cstdint>

namespace spikefloss {

// The data that a rank passes to a collective: its own block of an all-gather, the whole array of sums and broadcasts.
struct Traffic {
    std::int64_t calls = 0, bytes = 0;
    void add(Index more) { ++calls, bytes += more; }
    Traffic operator-(const Traffic& other) const { return {calls - other.calls, bytes - other.bytes}; }
};

class CountingCommunicator final : public Communicator {
public:
    // traffic must outlive it. A group of one rank sends nothing.
    CountingCommunicator(int rank, int size, Traffic& traffic) : rank_(rank), size_(size), traffic_(traffic) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_gather(const void*, void*, std::span<const Index> bytes) override {
        count(bytes[static_cast<std::size_t>(rank_)]);
    }
    void reduce_scatter_sum(const void*, void*, Scalar type, std::span<const Index> counts) override {
        Index elements = 0;
        for (Index block : counts) elements += block;
        count(elements * static_cast<Index>(size_of(type)));
    }
    void all_reduce_sum(void*, Scalar type, Index elements) override {
        count(elements * static_cast<Index>(size_of(type)));
    }
    void broadcast(void*, Index bytes, int) override { count(bytes); }
    void barrier() override { count(0); }

private:
    void count(Index bytes) {
        if (size_ > 1) traffic_.add(bytes);
    }

    int rank_, size_;
    Traffic& traffic_;
};

}  // namespace spikefloss
