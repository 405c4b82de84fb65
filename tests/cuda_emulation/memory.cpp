#include "memory.hpp"

#include "settings.hpp"

#include <sys/mman.h>
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>

namespace emulation {

namespace {

constexpr std::size_t page = 4096;

std::size_t pages_for(std::size_t bytes) { return (bytes + page - 1) / page * page; }

struct Allocation {
    char* region;        // first byte that may be touched; there is a guard page below and above
    std::size_t usable;  // bytes of the region, whole pages
    char* data;
    std::size_t bytes;
    bool freed;
};

struct DeviceMemory {
    std::map<const char*, Allocation> by_region;  // also freed allocations
    std::size_t used = 0;
    int access = 0;       // depth of DeviceAccess
    bool hidden = false;  // no page of the allocations can be touched
};

DeviceMemory& memory() {
    static DeviceMemory& m = *new DeviceMemory;
    return m;
}

bool hide() { return setting("SPIKEFLOSS_EMULATION_HIDE", 0) != 0; }

const Allocation* find(const void* address) {
    const char* p = static_cast<const char*>(address);
    auto it = memory().by_region.upper_bound(p + page);
    for (int step = 0; step < 2 && it != memory().by_region.begin(); ++step) {
        const Allocation& a = (--it)->second;
        if (p >= a.region - page && p < a.region + a.usable + page) return &a;
    }
    return nullptr;
}

const Allocation* find_live(const void* data) {
    const Allocation* a = find(data);
    return a && !a->freed ? a : nullptr;
}

bool slack_intact(const Allocation& a) {
    const auto untouched = [](char c) { return c == static_cast<char>(guard_pattern); };
    return std::all_of(a.region, a.data, untouched) && std::all_of(a.data + a.bytes, a.region + a.usable, untouched);
}

void protect_all(int protection) {
    for (auto& [region, a] : memory().by_region)
        if (!a.freed) mprotect(a.region, a.usable, protection);
}

std::string words(const Allocation& a) {
    return "allocation of " + std::to_string(a.bytes) + " bytes" + (a.freed ? ", freed" : "");
}

}  // namespace

void* allocate_device(std::size_t bytes) {
    install_fault_handler();
    if (memory().used + bytes > device_memory_limit() || bytes > device_memory_limit()) return nullptr;
    const std::size_t usable = pages_for(std::max<std::size_t>(bytes, 1));
    void* mapping = mmap(nullptr, usable + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) return nullptr;
    char* region = static_cast<char*>(mapping) + page;
    mprotect(region, usable, PROT_READ | PROT_WRITE);
    const std::size_t rounded = (bytes + 15) / 16 * 16;
    char* data =
        setting("SPIKEFLOSS_EMULATION_PLACE", 0) ? region : region + usable - std::max<std::size_t>(rounded, 16);
    std::memset(region, guard_pattern, static_cast<std::size_t>(data - region));
    std::memset(data, poison, bytes);
    std::memset(data + bytes, guard_pattern, static_cast<std::size_t>(region + usable - data) - bytes);
    if (memory().hidden) mprotect(region, usable, PROT_NONE);
    memory().by_region[region] = {region, usable, data, bytes, false};
    memory().used += bytes;
    const DeviceAccess hides_it_where_asked;
    return data;
}

std::string free_device(void* data) {
    const Allocation* found = find(data);
    if (!found || found->data != data) return "this is not the address of an allocation";
    if (found->freed) return "it was freed before";
    Allocation& a = memory().by_region[found->region];
    mprotect(a.region, a.usable, PROT_READ);
    const bool intact = slack_intact(a);
    a.freed = true;
    memory().used -= a.bytes;
    // A new mapping at the same addresses releases the pages. The addresses stay reserved, so that later use is found.
    mmap(a.region, a.usable, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    return intact ? "" : "the bytes beside an allocation of " + std::to_string(a.bytes) + " bytes were overwritten";
}

void free_all_device() {
    for (auto& [region, a] : memory().by_region) munmap(a.region - page, a.usable + 2 * page);
    memory().by_region.clear();
    memory().used = 0;
    memory().hidden = false;
}

std::size_t device_bytes_used() { return memory().used; }

bool is_device(const void* data) { return find(data) != nullptr; }

bool is_device_range(const void* data, std::size_t bytes) {
    const Allocation* a = find_live(data);
    const char* p = static_cast<const char*>(data);
    return a && p >= a->data && p + bytes <= a->data + a->bytes;
}

std::string describe_address(const void* address) {
    const Allocation* a = find(address);
    if (!a) return "outside every allocation of device memory";
    const auto offset = static_cast<const char*>(address) - a->data;
    return "at byte " + std::to_string(offset) + " of an " + words(*a);
}

DeviceAccess::DeviceAccess() {
    if (memory().access++ > 0 || !memory().hidden) return;
    protect_all(PROT_READ | PROT_WRITE);
    memory().hidden = false;
}

DeviceAccess::~DeviceAccess() {
    if (--memory().access > 0 || !hide()) return;
    protect_all(PROT_NONE);
    memory().hidden = true;
}

// ---- page-locked host memory ----

namespace {
std::map<const char*, std::size_t>& pinned() {
    static auto& map = *new std::map<const char*, std::size_t>;
    return map;
}
}  // namespace

void* allocate_pinned(std::size_t bytes) {
    void* data = std::aligned_alloc(4096, pages_for(std::max<std::size_t>(bytes, 1)));
    if (!data) return nullptr;
    std::memset(data, poison, bytes);
    pinned()[static_cast<char*>(data)] = bytes;
    return data;
}

bool free_pinned(void* data) {
    if (pinned().erase(static_cast<char*>(data)) == 0) return false;
    std::free(data);
    return true;
}

bool is_pinned(const void* data) {
    const char* p = static_cast<const char*>(data);
    auto it = pinned().upper_bound(p);
    if (it == pinned().begin()) return false;
    --it;
    return p < it->first + it->second;
}

// ---- shared memory ----

SharedMemory::~SharedMemory() {
    if (region_) munmap(region_ - page, pages_ + 2 * page);
}

void SharedMemory::resize(std::size_t bytes) {
    const std::size_t needed = pages_for(bytes);
    if (!region_ || needed != pages_) {
        if (region_) munmap(region_ - page, pages_ + 2 * page);
        void* mapping = mmap(nullptr, needed + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED) std::abort();
        region_ = static_cast<char*>(mapping) + page;
        pages_ = needed;
        open_ = false;
    }
    bytes_ = bytes;
    data_ = region_ + pages_ - (bytes + 15) / 16 * 16;
}

void SharedMemory::open() {
    if (pages_ == 0) return;
    if (!open_) mprotect(region_, pages_, PROT_READ | PROT_WRITE);
    open_ = true;
    std::memset(region_, guard_pattern, static_cast<std::size_t>(data_ - region_));
    std::memset(data_, poison, bytes_);
    std::memset(data_ + bytes_, guard_pattern, static_cast<std::size_t>(region_ + pages_ - data_) - bytes_);
}

void SharedMemory::close() {
    if (open_) mprotect(region_, pages_, PROT_NONE);
    open_ = false;
}

bool SharedMemory::slack_intact() const {
    if (!open_) return true;
    const auto untouched = [](char c) { return c == static_cast<char>(guard_pattern); };
    return std::all_of(region_, data_, untouched) && std::all_of(data_ + bytes_, region_ + pages_, untouched);
}

bool SharedMemory::near(const void* address) const {
    const char* p = static_cast<const char*>(address);
    return region_ && p >= region_ - page && p < region_ + pages_ + page;
}

}  // namespace emulation
