// What can be set about the emulated device by environment variables, all whole numbers:
//   SPIKEFLOSS_EMULATION_SEED             order of blocks, warps, threads and streams; 0 is the natural one
//   SPIKEFLOSS_EMULATION_MULTIPROCESSORS  8
//   SPIKEFLOSS_EMULATION_MEMORY           bytes of device memory (4 GiB)
//   SPIKEFLOSS_EMULATION_DEVICES          1
//   SPIKEFLOSS_EMULATION_CAPABILITY       90; 80, 90 and 120 have the limits of an A100, an H100 and an RTX PRO 6000
//   SPIKEFLOSS_EMULATION_PLACE            0: allocations end at a guard page; 1: they begin at one
//   SPIKEFLOSS_EMULATION_HIDE             1: device memory is out of the host's reach (costs a system call or two per
//                                         allocation at every wait); 0, the default: the host is not stopped
//   SPIKEFLOSS_EMULATION_PREEMPT          n > 0: a CUDA thread lets others run at a random one of n accesses to memory
//                                         (only with the race detector, races.hpp); 0: only where it waits
//   SPIKEFLOSS_EMULATION_STACK            bytes of stack of one CUDA thread
// All but the size of stacks are read at every use, so that a test can change them.
#pragma once

#include <cstdlib>

namespace emulation {

inline long long setting(const char* name, long long otherwise) {
    const char* text = std::getenv(name);
    return text && *text ? std::strtoll(text, nullptr, 10) : otherwise;
}

inline int multiprocessors() { return static_cast<int>(setting("SPIKEFLOSS_EMULATION_MULTIPROCESSORS", 8)); }
inline int capability() { return static_cast<int>(setting("SPIKEFLOSS_EMULATION_CAPABILITY", 90)); }
inline unsigned threads_per_multiprocessor() { return capability() >= 120 ? 1536 : 2048; }
inline std::size_t shared_per_block_limit() {
    return std::size_t{1024} * (capability() >= 120 ? 99 : capability() >= 90 ? 227 : 163);
}
inline std::size_t device_memory_limit() {
    return static_cast<std::size_t>(setting("SPIKEFLOSS_EMULATION_MEMORY", 4LL << 30));
}

}  // namespace emulation
