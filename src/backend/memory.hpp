// Memory of a backend: host memory, the memory of a GPU, or a count of bytes (backend/counting_backend.hpp).
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace spikefloss {

// Copies to the host that are queued now and taken later.
class Arrival {
public:
    virtual ~Arrival() = default;
    // Queues the copy of `bytes` from `source`.
    virtual void begin(const void* source, std::size_t bytes) = 0;
    // Waits for the copy, not for work that was queued after it. The result is valid until the next begin().
    virtual const void* get() = 0;
};

class Memory {
public:
    virtual ~Memory() = default;
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void deallocate(void* data) noexcept = 0;
    // Whether operations can use arrays of the host as they are.
    virtual bool is_host() const { return false; }
    virtual void copy_in(void* destination, const void* host, std::size_t bytes) = 0;
    virtual void copy_out(void* host, const void* source, std::size_t bytes) = 0;
    // Of copies of at most `most` bytes.
    virtual std::unique_ptr<Arrival> arrival(std::size_t most);
    virtual void copy(void* destination, const void* source, std::size_t bytes) = 0;
    virtual void zero(void* data, std::size_t bytes) = 0;
    // `bytes` of each of `rows` rows that begin `stride` bytes apart.
    virtual void zero_rows(void* data, std::size_t rows, std::size_t bytes, std::size_t stride) {
        for (std::size_t r = 0; r < rows; ++r) zero(static_cast<char*>(data) + r * stride, bytes);
    }
    virtual void synchronize() = 0;
    // Frees `data`, which may be null, and returns `bytes`. Recorded work must not use `data` again.
    virtual void* replace(void* data, std::size_t bytes) {
        if (data) deallocate(data);
        return allocate(bytes);
    }
    // Arrays allocated from now on belong to another whole pass (pass_memory.hpp).
    virtual void begin_pass() {}
    // Bytes that the machine or the device has free for allocate(). All its processes share them.
    virtual std::size_t free_memory() const = 0;
    // Takes `bytes` now. allocate() uses them until none is left, so that no step allocates. Call it once.
    virtual void reserve(std::size_t /*bytes*/) {}
};

// Where nothing is queued, the copy is made at once.
inline std::unique_ptr<Arrival> Memory::arrival(std::size_t /*most*/) {
    struct AtOnce final : Arrival {
        explicit AtOnce(Memory& of) : memory(of) {}
        void begin(const void* source, std::size_t bytes) override {
            host.resize(bytes);
            memory.copy_out(host.data(), source, bytes);
        }
        const void* get() override { return host.data(); }
        Memory& memory;
        std::vector<std::byte> host;
    };
    return std::make_unique<AtOnce>(*this);
}

}  // namespace spikefloss
