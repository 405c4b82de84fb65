// What all kernels use: the launch, and the few device operations that C++ lacks. Kernels also use CUDA's own names
// (threadIdx, __syncthreads, __shfl_xor_sync, __ballot_sync, atomicAdd, ...). The list is short, so that the same
// kernels can run on the host: without __CUDACC__, emulated_device.hpp (tests/cuda_emulation) replaces the device
// part.
//
// Rules for kernels: shared memory is dynamic, from dynamic_shared(); no static __shared__ and no __constant__
// variables; all threads of a block reach the same barriers; blocks synchronise only through Team::wait or
// cluster_barrier.
#pragma once

#include "check.hpp"
#include "team_plan.hpp"

#include "core/view.hpp"
#include "neuron/surrogate.hpp"

#include <cuda_runtime.h>

#include <algorithm>
#include <type_traits>

#ifdef __CUDACC__

namespace spikefloss {

// The block's dynamic shared memory, 16-byte aligned.
template <class T>
__device__ T* dynamic_shared() {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    return reinterpret_cast<T*>(shared_memory);
}

// Thread-block clusters (sm_90 and later; a kernel launched without one is a cluster of one block).
__device__ inline unsigned cluster_rank() {
#if __CUDA_ARCH__ >= 900
    unsigned rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
#else
    return 0;
#endif
}

// A barrier of all threads of the cluster. It orders their accesses to shared and global memory.
__device__ inline void cluster_barrier() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#else
    __syncthreads();
#endif
}

// The address in block `rank` of the cluster that corresponds to `mine` in this block's shared memory.
template <class T>
__device__ T* cluster_peer(T* mine, unsigned rank) {
#if __CUDA_ARCH__ >= 900
    unsigned long long peer;
    asm("mapa.u64 %0, %1, %2;" : "=l"(peer) : "l"(reinterpret_cast<unsigned long long>(mine)), "r"(rank));
    return reinterpret_cast<T*>(peer);
#else
    return mine;
#endif
}

// A counter in global memory through which co-resident blocks wait for each other. The release orders the block's
// earlier accesses, which a barrier of the block has ordered before it. The loads of the loop are relaxed, because an
// acquiring load throws the first-level cache away each time; the fence after the loop acquires once.
__device__ inline void add_release(unsigned* counter) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
__device__ inline void wait_until(const unsigned* counter, unsigned target) {
    unsigned value;
    do asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
    while (static_cast<int>(value - target) < 0);
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
}

// Copies a float from global to shared memory without waiting. The copies of a thread since its last commit_copies form
// a group. wait_copies<newer> waits until all its groups but the newest `newer` are complete; then it sees the copies.
__device__ inline void copy_async(float* shared, const float* global) {
    asm volatile(
        "cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))),
        "l"(global)
        : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int newer>
__device__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(newer) : "memory");
}

// A warp adds the product a b of an 8 x 4 and a 4 x 8 matrix to c: lane l holds a(l / 4, l % 4), b(l % 4, l / 4) and
// c(l / 4, 2 (l % 4) + {0, 1}). volatile: the compiler must not move an instruction of the whole warp under a
// condition.
__device__ inline void multiply_add_tile(double (&c)[2], double a, double b) {
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+d"(c[0]), "+d"(c[1])
                 : "d"(a), "d"(b));
}

// to[0..3] in shared memory = the numbers, in one store; `to` is a multiple of 16 bytes. nvcc makes four stores of a
// float4.
__device__ inline void store_shared(float* to, float a, float b, float c, float d) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(to))),
                 "f"(a), "f"(b), "f"(c), "f"(d)
                 : "memory");
}

}  // namespace spikefloss

#else
#include "emulated_device.hpp"
#endif

namespace spikefloss {

inline constexpr unsigned all_lanes = 0xFFFFFFFFu;
inline constexpr int warp_size = 32;

__device__ inline float warp_sum(float x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
    return x;
}
__device__ inline double warp_sum(double x) {
    for (int offset = 16; offset > 0; offset /= 2) x += __shfl_xor_sync(all_lanes, x, offset);
    return x;
}

// The sum over all threads of the block, a multiple of 32. Every thread returns it. `partial` has 33 doubles of shared
// memory; they can be reused after the next barrier.
__device__ inline double block_sum(double x, double* partial) {
    const unsigned lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, warps = blockDim.x / warp_size;
    x = warp_sum(x);
    if (lane == 0) partial[warp] = x;
    __syncthreads();
    if (warp == 0) {
        const double total = warp_sum(lane < warps ? partial[lane] : 0.0);
        if (lane == 0) partial[32] = total;
    }
    __syncthreads();
    return partial[32];
}

// Counters of different teams are 128 bytes apart, so that two teams do not wait on one line of the cache.
inline constexpr int counter_stride = 32;

// Blocks that work on the same sequences and wait for each other in every step. A team is one block, a cluster, or
// co-resident blocks of a cooperative launch that share a counter in global memory (0 at the start). After wait(), all
// threads of the team see what any of them wrote to global memory before, if they read it by __ldcg, which bypasses the
// first-level cache.
struct Team {
    TeamKind kind;
    unsigned size;      // blocks
    unsigned* counter;  // TeamKind::grid; one in each counter_stride
    unsigned target = 0;

    __device__ void wait() {
        if (kind == TeamKind::block) return __syncthreads();
        if (kind == TeamKind::cluster) return cluster_barrier();
        __syncthreads();
        target += size;
        if (threadIdx.x == 0) {
            add_release(counter);
            wait_until(counter, target);
        }
        __syncthreads();
    }
};

// Surrogate derivatives by kind. All threads of a launch take the same branch.
__device__ inline float surrogate_psi(Surrogate kind, float v, float g) {
    switch (kind) {
        case Surrogate::fast_sigmoid: return FastSigmoid::psi(v, g);
        case Surrogate::arctan: return Arctan::psi(v, g);
        case Surrogate::sigmoid: return Sigmoid::psi(v, g);
        case Surrogate::gaussian: return Gaussian::psi(v, g);
        case Surrogate::triangle: return Triangle::psi(v, g);
        default: return Exponential::psi(v, g);
    }
}
__device__ inline float surrogate_derivative(Surrogate kind, float v, float g) {
    switch (kind) {
        case Surrogate::fast_sigmoid: return FastSigmoid::derivative(v, g);
        case Surrogate::arctan: return Arctan::derivative(v, g);
        case Surrogate::sigmoid: return Sigmoid::derivative(v, g);
        case Surrogate::gaussian: return Gaussian::derivative(v, g);
        case Surrogate::triangle: return Triangle::derivative(v, g);
        default: return Exponential::derivative(v, g);
    }
}

struct Launch {
    dim3 grid, block;
    cudaStream_t stream;
    std::size_t shared = 0;    // bytes of dynamic shared memory
    unsigned cluster = 1;      // blocks along x that form a cluster
    bool cooperative = false;  // all blocks resident at once
};

// Queues kernel(arguments...). An empty grid launches nothing.
template <class... Parameters, class... Arguments>
void launch(const Launch& how, void (*kernel)(Parameters...), Arguments... arguments) {
    if (how.grid.x == 0 || how.grid.y == 0 || how.grid.z == 0) return;
    if (how.shared > 48 * 1024)
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(how.shared)),
              "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
    if (how.cluster > 8)
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                   cudaFuncAttributeNonPortableClusterSizeAllowed, 1),
              "cudaFuncSetAttribute(NonPortableClusterSizeAllowed)");
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = how.grid;
    config.blockDim = how.block;
    config.dynamicSmemBytes = how.shared;
    config.stream = how.stream;
    config.attrs = attributes;
    if (how.cluster > 1) {
        attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config.numAttrs].val.clusterDim.x = how.cluster;
        attributes[config.numAttrs].val.clusterDim.y = 1;
        attributes[config.numAttrs++].val.clusterDim.z = 1;
    }
    if (how.cooperative) {
        attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
        attributes[config.numAttrs++].val.cooperative = 1;
    }
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), "cudaLaunchKernelEx");
}

// Blocks of a kernel that one multiprocessor holds at once.
template <class Kernel>
int resident_blocks(Kernel* kernel, int threads, std::size_t shared) {
    // Set only above the default of 48 KiB: a smaller value would lower the default.
    if (shared > 48 * 1024)
        check(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(shared)),
              "cudaFuncSetAttribute(MaxDynamicSharedMemorySize)");
    int blocks = 0;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared),
          "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
    return blocks;
}

// Teams of this plan that the device holds at once. The blocks of a cluster must fit into one of the groups of
// multiprocessors (GPCs) that the device has, so fewer clusters fit than the number of multiprocessors says.
template <class Kernel>
int teams_at_once(Kernel* kernel, const TeamPlan& plan, const Device& device) {
    const int teams = resident_blocks(kernel, plan.threads, plan.shared) * device.multiprocessors / plan.size;
    if (plan.kind != TeamKind::cluster || teams == 0) return teams;
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(plan.size);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(plan.size));
    config.blockDim = dim3(static_cast<unsigned>(plan.threads));
    config.dynamicSmemBytes = plan.shared;
    config.attrs = &attribute;
    config.numAttrs = 1;
    int clusters = 0;
    check(cudaOccupancyMaxActiveClusters(&clusters, reinterpret_cast<const void*>(kernel), &config),
          "cudaOccupancyMaxActiveClusters");
    return std::min(teams, clusters);
}

// How the blocks of a pass are launched.
inline Launch launch_of(const TeamPlan& plan, cudaStream_t stream) {
    return {.grid = dim3(static_cast<unsigned>(plan.teams * plan.size)),
            .block = dim3(static_cast<unsigned>(plan.threads)),
            .stream = stream,
            .shared = plan.shared,
            .cluster = plan.kind == TeamKind::cluster ? static_cast<unsigned>(plan.size) : 1u,
            .cooperative = plan.kind == TeamKind::grid};
}

// The grid for one thread per element, in blocks of `block` threads. It has at most 2^16 blocks. Kernels loop in
// strides of the whole grid, so they handle any count.
inline dim3 grid_for(Index count, int block) {
    constexpr Index most = 1 << 16;
    const Index blocks = (count + block - 1) / block;
    return dim3(static_cast<unsigned>(blocks < most ? blocks : most));
}
__device__ inline Index first_element() { return static_cast<Index>(blockIdx.x) * blockDim.x + threadIdx.x; }
__device__ inline Index element_stride() { return static_cast<Index>(gridDim.x) * blockDim.x; }

}  // namespace spikefloss
