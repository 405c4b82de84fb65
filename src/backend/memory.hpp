// Memory of a backend: host memory, the memory of a GPU, or a count of bytes (backend/counting_backend.hpp).
#pragma once

#include <cstddef>

namespace spikefloss {

class Memory {
public:
    virtual ~Memory() = default;
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void deallocate(void* data) noexcept = 0;
    virtual void copy_in(void* destination, const void* host, std::size_t bytes) = 0;
    virtual void copy_out(void* host, const void* source, std::size_t bytes) = 0;
    virtual void copy(void* destination, const void* source, std::size_t bytes) = 0;
    virtual void zero(void* data, std::size_t bytes) = 0;
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

}  // namespace spikefloss
