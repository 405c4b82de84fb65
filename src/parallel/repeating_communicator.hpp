// A Communicator of a rank whose other ranks do not exist. Each of them has the data of this one: a gather repeats its
// block. So a step of the rank takes as long as in a run, but for the communication.
#pragma once

#include "parallel/communicator.hpp"

#include <algorithm>
#include <functional>

namespace spikefloss {

class RepeatingCommunicator final : public Communicator {
public:
    // copy(destination, source, bytes) in backend memory.
    using Copy = std::function<void(void*, const void*, std::size_t)>;
    RepeatingCommunicator(int rank, int size, Copy copy) : rank_(rank), size_(size), copy_(std::move(copy)) {}

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    // Where another block is longer, by less than a word of each row, its end keeps what it has.
    void all_gather(const void* send, void* receive, std::span<const Index> bytes) override {
        auto* to = static_cast<std::byte*>(receive);
        for (const Index block : bytes) {
            if (to != send) copy_(to, send, static_cast<std::size_t>(std::min(block, bytes[own()])));
            to += block;
        }
    }
    void reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) override {
        const auto* from = static_cast<const std::byte*>(send);
        for (std::size_t r = 0; r < own(); ++r) from += counts[r] * static_cast<Index>(size_of(type));
        copy_(receive, from, static_cast<std::size_t>(counts[own()]) * size_of(type));
    }
    void all_reduce_sum(void*, Scalar, Index) override {}
    void broadcast(void*, Index, int) override {}
    void barrier() override {}

private:
    std::size_t own() const { return static_cast<std::size_t>(rank_); }

    int rank_, size_;
    Copy copy_;
};

}  // namespace spikefloss
