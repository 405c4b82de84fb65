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
#include <deque>
#include <fstream>
#include <iterator>
#include <limits>
#include <mutex>
#include <string>

#include <sys/mman.h>

namespace spikefloss {
namespace {

constexpr std::size_t guard_bytes = 64;
constexpr unsigned char guard_value = 0xA5;

// Larger arrays begin at a huge page. The kernel gives them huge pages where it has some, which saves the processor
// most look-ups of addresses.
constexpr std::size_t huge_page = std::size_t{1} << 21;

std::size_t padded_bytes(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

// Blocks that were freed, for the next array of the same size: a library makes a backend for every call, and the kernel
// clears the pages that it gives.
class FreedBlocks {
public:
    // Null if there is none of this size.
    void* take(std::size_t size) {
        const std::lock_guard lock(mutex_);
        const auto found = std::find_if(blocks_.rbegin(), blocks_.rend(), [&](Block b) { return b.size == size; });
        if (found == blocks_.rend()) return nullptr;
        void* const memory = found->memory;
        blocks_.erase(std::next(found).base());
        bytes_ -= size;
        return memory;
    }
    void give(void* memory, std::size_t size) {
        const std::lock_guard lock(mutex_);
        blocks_.push_back({memory, size});
        bytes_ += size;
        keep(most);
    }
    void release() {
        const std::lock_guard lock(mutex_);
        keep(0);
    }

private:
    // Frees the oldest until at most `bytes` are left.
    void keep(std::size_t bytes) {
        for (; bytes_ > bytes; blocks_.pop_front()) {
            bytes_ -= blocks_.front().size;
            std::free(blocks_.front().memory);
        }
    }

    static constexpr std::size_t most = std::size_t{256} << 20;
    struct Block {
        void* memory;
        std::size_t size;
    };
    std::mutex mutex_;
    std::deque<Block> blocks_;
    std::size_t bytes_ = 0;
};
FreedBlocks& freed_blocks() {
    static auto* const blocks = new FreedBlocks;  // never destroyed: backends may be, later
    return *blocks;
}

// Calls work(first byte, bytes) for all of an array; for parts of a large one, by all threads.
template <class Work>
void in_blocks(int threads, std::size_t bytes, Work&& work) {
    constexpr std::size_t block = std::size_t{1} << 18;
    if (bytes == 0) return;
    if (bytes < 4 * block) return work(std::size_t{0}, bytes);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (std::size_t begin = 0; begin < bytes; begin += block) work(begin, std::min(block, bytes - begin));
}

}  // namespace

CpuBackend::CpuBackend(int threads, Sums sums) : threads_(threads), sums_(sums) {
    require(threads >= 1, Exit::usage, fmt::format("{} threads were asked for", threads), "use at least 1");
}

CpuBackend::~CpuBackend() {
    if (scratch_) CpuBackend::deallocate(scratch_);
}

// Layout: guard (its first 8 bytes hold the size) | data | guard.
void* CpuBackend::allocate(std::size_t bytes) {
    const std::size_t padded = padded_bytes(bytes), whole = padded + 2 * guard_bytes;
    const bool huge = whole >= huge_page;
    void* memory = huge ? freed_blocks().take(whole) : nullptr;
    if (!memory) {
        const auto allocated = [&] { return posix_memalign(&memory, huge ? huge_page : 64, whole) == 0; };
        const bool found = allocated() || (freed_blocks().release(), allocated());
        require(found, Exit::usage, fmt::format("no memory left for an array of {:.1f} MiB", bytes / 1048576.0),
                "use a smaller train.batch, fewer exponents or a shorter horizon, or more ranks on more machines");
        if (huge) madvise(memory, whole / huge_page * huge_page, MADV_HUGEPAGE);
    }
    auto* const block = static_cast<unsigned char*>(memory);
    std::memset(block, guard_value, guard_bytes);
    std::memcpy(block, &bytes, sizeof bytes);
    std::memset(block + guard_bytes + bytes, guard_value, padded - bytes + guard_bytes);
#ifdef __SANITIZE_ADDRESS__
    std::memset(block + guard_bytes, 0xff, bytes);  // NaN: tests of this build find what is read before it is written
#endif
    return block + guard_bytes;
}

void CpuBackend::deallocate(void* data) noexcept {
    auto* block = static_cast<unsigned char*>(data) - guard_bytes;
    std::size_t bytes = 0;
    std::memcpy(&bytes, block, sizeof bytes);
    const std::size_t whole = padded_bytes(bytes) + 2 * guard_bytes;
    const auto intact = [](const unsigned char* first, const unsigned char* last) {
        return std::all_of(first, last, [](unsigned char c) { return c == guard_value; });
    };
    if (!intact(block + sizeof bytes, block + guard_bytes) || !intact(block + guard_bytes + bytes, block + whole)) {
        std::fprintf(stderr, "spikefloss: a backend operation wrote outside an array of %zu bytes (a defect)\n", bytes);
        std::abort();
    }
    if (whole >= huge_page)
        freed_blocks().give(block, whole);
    else
        std::free(block);
}

// The two share no memory.
void CpuBackend::copy_in(void* destination, const void* host, std::size_t bytes) {
    in_blocks(threads_, bytes, [&](std::size_t begin, std::size_t size) {
        std::memcpy(static_cast<char*>(destination) + begin, static_cast<const char*>(host) + begin, size);
    });
}

void CpuBackend::copy(void* destination, const void* source, std::size_t bytes) {
    if (bytes) std::memmove(destination, source, bytes);
}

void CpuBackend::zero(void* data, std::size_t bytes) {
    in_blocks(threads_, bytes,
              [&](std::size_t begin, std::size_t size) { std::memset(static_cast<char*>(data) + begin, 0, size); });
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
