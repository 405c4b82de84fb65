// Memory of the CPU backend: 64-byte aligned, with guard words on both sides. They are checked when the memory is
// freed, so that a write out of bounds is found and its array is known.
#include "backend/cpu_backend.hpp"
#include "backend/memory_groups.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include <sys/mman.h>

namespace spikefloss {
namespace {

constexpr std::size_t guard_bytes = 64;
constexpr unsigned char guard_value = 0xA5;

// Larger arrays begin at a huge page. The kernel gives them huge pages where it has some, which saves the processor
// most look-ups of addresses.
constexpr std::size_t huge_page = std::size_t{1} << 21;

}  // namespace

CpuBackend::CpuBackend(int threads, Sums sums) : threads_(threads), sums_(sums) {
    require(threads >= 1, Exit::usage, fmt::format("{} threads were asked for", threads), "use at least 1");
}

CpuBackend::~CpuBackend() {
    if (scratch_) CpuBackend::deallocate(scratch_);
}

// Layout: guard (its first 8 bytes hold the size) | data | guard.
void* CpuBackend::allocate(std::size_t bytes) {
    const std::size_t padded = (bytes + 63) / 64 * 64;
    const std::size_t whole = padded + 2 * guard_bytes;
    const bool huge = whole >= huge_page;
    void* memory = nullptr;
    require(posix_memalign(&memory, huge ? huge_page : 64, whole) == 0, Exit::usage,
            fmt::format("no memory left for an array of {:.1f} MiB", bytes / 1048576.0),
            "use a smaller train.batch, fewer exponents or a shorter horizon, or more ranks on more machines");
    if (huge) madvise(memory, whole / huge_page * huge_page, MADV_HUGEPAGE);
    auto* const block = static_cast<unsigned char*>(memory);
    std::memset(block, guard_value, guard_bytes);
    std::memcpy(block, &bytes, sizeof bytes);
    std::memset(block + guard_bytes + bytes, guard_value, padded - bytes + guard_bytes);
    return block + guard_bytes;
}

void CpuBackend::deallocate(void* data) noexcept {
    auto* block = static_cast<unsigned char*>(data) - guard_bytes;
    std::size_t bytes = 0;
    std::memcpy(&bytes, block, sizeof bytes);
    const auto intact = [](const unsigned char* first, const unsigned char* last) {
        return std::all_of(first, last, [](unsigned char c) { return c == guard_value; });
    };
    if (!intact(block + sizeof bytes, block + guard_bytes) ||
        !intact(block + guard_bytes + bytes, block + 2 * guard_bytes + (bytes + 63) / 64 * 64)) {
        std::fprintf(stderr, "spikefloss: a backend operation wrote outside an array of %zu bytes (a defect)\n", bytes);
        std::abort();
    }
    std::free(block);
}

// All threads copy batches. They share no memory with what they are copied to.
void CpuBackend::copy_in(void* destination, const void* host, std::size_t bytes) {
    constexpr Index block = 1 << 18;
    const auto size = static_cast<Index>(bytes);
    if (size < 4 * block) return copy(destination, host, bytes);
#pragma omp parallel for num_threads(threads_) if (threads_ > 1) schedule(static)
    for (Index begin = 0; begin < size; begin += block)
        std::memcpy(static_cast<char*>(destination) + begin, static_cast<const char*>(host) + begin,
                    static_cast<std::size_t>(std::min(block, size - begin)));
}

void CpuBackend::copy(void* destination, const void* source, std::size_t bytes) {
    if (bytes) std::memmove(destination, source, bytes);
}

void CpuBackend::zero(void* data, std::size_t bytes) {
    if (bytes) std::memset(data, 0, bytes);
}

// The memory that Linux gives without swapping, but at most what the limits of a job or a container leave.
std::size_t CpuBackend::free_memory() const {
    std::size_t available = std::numeric_limits<std::size_t>::max();
    std::ifstream file("/proc/meminfo");
    std::size_t kilobytes = 0;
    for (std::string word; file >> word;)
        if (word == "MemAvailable:" && file >> kilobytes) available = kilobytes * 1024;
    return std::min(available, left_by_memory_groups());
}

}  // namespace spikefloss
