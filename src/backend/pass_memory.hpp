// The scratch of whole passes. Two passes of a backend never run at the same time, so all of them use the same arrays.
#pragma once

#include "backend/memory.hpp"

#include <vector>

namespace spikefloss {

class PassMemory final : public Memory {
public:
    explicit PassMemory(Memory& memory) : memory_(memory) {}

    void begin_pass() override {
        for (Block& block : blocks_) block.taken = false;
    }
    // The smallest array that this pass does not have yet, or a new one.
    void* allocate(std::size_t bytes) override {
        Block* best = nullptr;
        for (Block& block : blocks_)
            if (!block.taken && block.bytes >= bytes && (!best || block.bytes < best->bytes)) best = &block;
        if (!best) best = &blocks_.emplace_back(memory_.allocate(bytes), bytes);
        best->taken = true;
        ++in_use_;
        return best->data;
    }
    // The arrays are freed with the last pass.
    void deallocate(void*) noexcept override {
        if (--in_use_ > 0) return;
        for (const Block& block : blocks_) memory_.deallocate(block.data);
        blocks_.clear();
    }
    void copy_in(void* destination, const void* host, std::size_t bytes) override {
        memory_.copy_in(destination, host, bytes);
    }
    void copy_out(void* host, const void* source, std::size_t bytes) override { memory_.copy_out(host, source, bytes); }
    void copy(void* destination, const void* source, std::size_t bytes) override {
        memory_.copy(destination, source, bytes);
    }
    void zero(void* data, std::size_t bytes) override { memory_.zero(data, bytes); }
    void synchronize() override { memory_.synchronize(); }
    std::size_t free_memory() const override { return memory_.free_memory(); }

private:
    struct Block {
        void* data;
        std::size_t bytes;
        bool taken = false;
    };
    Memory& memory_;
    std::vector<Block> blocks_;
    int in_use_ = 0;  // arrays of all passes
};

}  // namespace spikefloss
