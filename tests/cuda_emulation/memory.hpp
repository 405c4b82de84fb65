// Device memory and shared memory: each allocation a mapping of its own between pages that may not be touched, poisoned
// with 0xFF (a NaN) at birth, out of bounds for good after its end.
#pragma once

#include <cstddef>
#include <string>

namespace emulation {

inline constexpr int poison = 0xFF;
inline constexpr int guard_pattern = 0xA5;

// ---- device memory ----
// Null where the limit of the device is passed.
void* allocate_device(std::size_t bytes);
// Empty, or what is wrong: not an allocation, already freed, or written out of bounds.
std::string free_device(void* data);
void free_all_device();
std::size_t device_bytes_used();
// Whether the bytes lie within one live allocation.
bool is_device(const void* data);
bool is_device_range(const void* data, std::size_t bytes);
// Which allocation the address belongs to or is near, in words.
std::string describe_address(const void* address);
// What was written into the slack around allocations; empty: nothing.
std::string check_slack();

// Queued work runs within such a scope; outside it the host cannot touch device memory.
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
    void open();  // poisons it; until then and after close() no thread may touch it
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

// The handler of SIGSEGV that names kernel, block, thread and address.
void install_fault_handler();

}  // namespace emulation
