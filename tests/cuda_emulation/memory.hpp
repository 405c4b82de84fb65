// Device memory and shared memory. Each allocation is a separate mapping between pages that may not be touched. It is
// filled with 0xFF (a NaN) at first, and stays out of bounds after it is freed.
#pragma once

#include <cstddef>
#include <string>

namespace emulation {

inline constexpr int poison = 0xFF;
inline constexpr int guard_pattern = 0xA5;

// ---- device memory ----
// Null if the limit of the device is exceeded.
void* allocate_device(std::size_t bytes);
// Empty, or the error: not an allocation, already freed, or written out of bounds.
std::string free_device(void* data);
void free_all_device();
std::size_t device_bytes_used();
// Whether the bytes are within one live allocation.
bool is_device(const void* data);
bool is_device_range(const void* data, std::size_t bytes);
// The allocation that contains the address or is near it, as text.
std::string describe_address(const void* address);

// Queued work runs within this scope. Outside it the host cannot touch device memory.
class DeviceAccess {
public:
    DeviceAccess();
    ~DeviceAccess();
    DeviceAccess(const DeviceAccess&) = delete;
    DeviceAccess& operator=(const DeviceAccess&) = delete;
};

// ---- page-locked host memory ----
void* allocate_pinned(std::size_t bytes);
bool free_pinned(void* data);
bool is_pinned(const void* data);

// ---- the shared memory of one block ----
class SharedMemory {
public:
    SharedMemory() = default;
    ~SharedMemory();
    SharedMemory(const SharedMemory&) = delete;
    SharedMemory& operator=(const SharedMemory&) = delete;

    void resize(std::size_t bytes);
    void open();  // poisons it; before open() and after close() no thread may touch it
    void close();
    bool slack_intact() const;
    char* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    bool near(const void* address) const;

private:
    char* region_ = nullptr;
    char* data_ = nullptr;
    std::size_t pages_ = 0, bytes_ = 0;  // pages: usable bytes of the region
    bool open_ = false;
};

// The handler of SIGSEGV, which reports kernel, block, thread and address.
void install_fault_handler();

}  // namespace emulation
