// The interface of the emulation for the emulated headers: the queue of every asynchronous call, the launch of a kernel
// whose arguments are already bound, and the points where a CUDA thread waits for others.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

struct cudaLaunchConfig_st;
struct CUstream_st;

namespace emulation {

using Place = std::source_location;

// Queues `work` on `stream` (or records it, while the stream is captured). name: for reports, a string constant.
int enqueue(CUstream_st* stream, const char* name, std::function<void()> work);

// Of all streams since the start of the process.
struct Counts {
    long queued = 0;  // kernels, copies, fills, calls of libraries and of graphs
    long idle = 0;    // waits of the host after which a stream had no work left
};
Counts& counts();

// Checks the launch as a device does and queues it. `body` is the work of one thread.
int launch_kernel(const cudaLaunchConfig_st& config, const void* kernel, std::function<void()> body);

// ---- called by the threads of a kernel ----
enum class WarpCall : unsigned char { shfl, shfl_up, shfl_xor, ballot, syncwarp };

void block_barrier(Place place);
void cluster_barrier(Place place);
std::uint64_t warp_call(WarpCall call, unsigned mask, std::uint64_t value, int argument, int width, Place place);
// The numbers a of the 32 lanes, then their b. Valid until the next call but one.
const double* exchange(double a, double b, Place place);
void wait_until(const unsigned* counter, unsigned target, Place place);
void let_others_run();
unsigned cluster_rank();
void* block_shared_memory();
void* cluster_peer(void* mine, unsigned rank);
// Fails if the `bytes` bytes are not in the block's shared memory, or not at a multiple of `bytes`.
void require_shared(const void* address, std::size_t bytes);
// An asynchronous copy happens as late as it may: when the thread waits for its group.
void copy_async(void* shared, const void* global, std::size_t bytes);
void commit_copies();
void wait_copies(unsigned newer);

}  // namespace emulation
