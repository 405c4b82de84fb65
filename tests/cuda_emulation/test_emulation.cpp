// Tests of emulated kernels: threads, barriers, warps, clusters; every fault is found and reported.
#include "emulation_test.hpp"

#include <cmath>
#include <numeric>

namespace {

using spikefloss::add_release;
using spikefloss::cluster_barrier;
using spikefloss::cluster_peer;
using spikefloss::cluster_rank;
using spikefloss::commit_copies;
using spikefloss::copy_async;
using spikefloss::dynamic_shared;
using spikefloss::store_shared;
using spikefloss::wait_copies;
using spikefloss::wait_until;

__global__ void indices_kernel(unsigned* out) {
    const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1000 * block + thread;
}

__global__ void reverse_kernel(const float* in, float* out) {
    float* held = dynamic_shared<float>();
    held[threadIdx.x] = in[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = held[blockDim.x - 1 - threadIdx.x];
}

__global__ void reverse_without_barrier_kernel(const float* in, float* out) {
    float* held = dynamic_shared<float>();
    held[threadIdx.x] = in[threadIdx.x];
    out[threadIdx.x] = held[blockDim.x - 1 - threadIdx.x];
}

__global__ void warp_kernel(int* out) {
    const int lane = static_cast<int>(threadIdx.x) % 32, at = static_cast<int>(threadIdx.x) * 6;
    out[at] = __shfl_sync(~0u, lane, 5);
    out[at + 1] = __shfl_up_sync(~0u, lane, 3);
    out[at + 2] = __shfl_xor_sync(~0u, lane, 16);
    out[at + 3] = __shfl_sync(~0u, lane, 9, 8);
    out[at + 4] = static_cast<int>(__ballot_sync(~0u, lane % 3 == 0));
    if (lane < 16)
        out[at + 5] = __shfl_xor_sync(0xFFFFu, lane, 1);
    else
        out[at + 5] = static_cast<int>(__ballot_sync(0xFFFF0000u, 1));
}

__global__ void atomic_kernel(float* f, double* d, int* least) {
    atomicAdd(f, 0.5f);
    atomicAdd(d, 0.25);
    atomicMin(least, static_cast<int>(threadIdx.x + blockIdx.x * blockDim.x));
}

// Each block of a cluster writes its rank, and reads its neighbour's.
__global__ void cluster_kernel(unsigned* out) {
    unsigned* held = dynamic_shared<unsigned>();
    held[threadIdx.x] = cluster_rank() * 100 + threadIdx.x;
    cluster_barrier();
    const unsigned size = 4, next = (cluster_rank() + 1) % size;
    out[blockIdx.x * blockDim.x + threadIdx.x] = cluster_peer(held, next)[threadIdx.x];
    cluster_barrier();
}

__global__ void early_exit_cluster_kernel(unsigned* out) {
    unsigned* held = dynamic_shared<unsigned>();
    held[threadIdx.x] = 1;
    cluster_barrier();
    if (cluster_rank() == 0) return;
    emulation::let_others_run();
    emulation::let_others_run();
    out[threadIdx.x] = cluster_peer(held, 0)[threadIdx.x];
}

// A ring of two copies. `newer` groups may be incomplete when a copy is read; with 1, each is complete.
template <int newer>
__global__ void copies_kernel(const float* in, int count, float* out) {
    float* ring = dynamic_shared<float>();
    copy_async(ring, in);
    commit_copies();
    for (int at = 0; at < count; ++at) {
        if (at + 1 < count) copy_async(ring + (at + 1) % 2, in + at + 1);
        commit_copies();
        wait_copies<newer>();
        out[at] = ring[at % 2];
    }
}

__global__ void store_four_kernel(int at) { store_shared(dynamic_shared<float>() + at, 1.0f, 2.0f, 3.0f, 4.0f); }

// All blocks count and wait for each other, several times.
__global__ void grid_barrier_kernel(unsigned* counter, unsigned* values, int* mismatches) {
    for (unsigned round = 1; round <= 5; ++round) {
        if (threadIdx.x == 0) values[blockIdx.x] = round;
        __syncthreads();
        if (threadIdx.x == 0) {
            add_release(counter);
            wait_until(counter, 2 * round * gridDim.x - gridDim.x);
        }
        __syncthreads();
        if (values[(blockIdx.x + 1) % gridDim.x] != round) atomicAdd(mismatches, 1);
        __syncthreads();
        if (threadIdx.x == 0) {
            add_release(counter);
            wait_until(counter, 2 * round * gridDim.x);
        }
        __syncthreads();
    }
}

__global__ void ends_before_barrier_kernel() {
    if (threadIdx.x == 7) return;
    __syncthreads();
}
__global__ void two_barriers_kernel() {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}
__global__ void waits_forever_kernel(const unsigned* counter) {
    if (threadIdx.x == 3) wait_until(counter, 1);
    __syncthreads();
}
__global__ void shuffle_beside_barrier_kernel(int* out) {
    if (threadIdx.x == 0) __syncthreads();
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
    if (threadIdx.x != 0) __syncthreads();
}
__global__ void shuffle_with_ended_lane_kernel(int* out) {
    if (threadIdx.x == 31) return;
    out[threadIdx.x] = __shfl_xor_sync(~0u, 1, 1);
}
__global__ void shuffle_outside_mask_kernel(int* out) {
    if (threadIdx.x < 8) out[threadIdx.x] = __shfl_xor_sync(0xFFu, 1, 8);
}
__global__ void write_at_kernel(float* data, int at) { data[at] = 1.0f; }
__global__ void write_shared_at_kernel(int at) { dynamic_shared<float>()[at] = 1.0f; }
__global__ void copy_kernel(const float* in, float* out, int count) {
    for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) out[i] = in[i];
}
__global__ void read_shared_kernel(float* out) { out[threadIdx.x] = dynamic_shared<float>()[threadIdx.x]; }
__global__ void recursion_kernel(float* out, int depth) {
    volatile float held[256];
    held[depth % 256] = static_cast<float>(depth);
    if (depth > 0) recursion_kernel(out, depth - 1);
    *out = held[depth % 256];
}

std::vector<float> counted(std::size_t n) {
    std::vector<float> v(n);
    std::iota(v.begin(), v.end(), 1.0f);
    return v;
}

TEST_F(Emulation, EveryThreadRunsOnceWithItsIndices) {
    for (const char* seed : {"0", "1", "2", "77"}) {
        set("SEED", seed);
        const std::size_t blocks = 3 * 2 * 2, threads = 5 * 3 * 4;
        unsigned* out = buffer<unsigned>(blocks * threads);
        cudaMemsetAsync(out, 0, blocks * threads * sizeof(unsigned), stream_);
        ASSERT_EQ(launch({{3, 2, 2}, {5, 3, 4}}, indices_kernel, out), cudaSuccess);
        const auto values = read(out, blocks * threads);
        for (unsigned i = 0; i < values.size(); ++i)
            ASSERT_EQ(values[i], 1000 * (i / threads) + i % threads) << "seed " << seed;
    }
}

// A second stream reads data of a first stream without waiting for it. With one seed the first stream has not run yet;
// with the other seed it has.
TEST_F(Emulation, StreamsWithoutEventsRunInEitherOrder) {
    for (const bool waits : {false, true})
        for (const bool early : {false, true}) {
            set("SEED", early ? "1" : "0");
            cudaStream_t second = nullptr;
            cudaEvent_t event = nullptr;
            cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking);
            cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
            float *from = buffer(std::vector<float>{1.0f}), *to = buffer(std::vector<float>{0.0f});
            cudaStreamSynchronize(stream_);
            cudaMemsetAsync(from, 0, sizeof(float), stream_);
            cudaEventRecord(event, stream_);
            if (waits) cudaStreamWaitEvent(second, event);
            cudaMemcpyAsync(to, from, sizeof(float), cudaMemcpyDeviceToDevice, second);
            cudaStreamSynchronize(stream_);
            cudaStreamSynchronize(second);
            EXPECT_EQ(read(to, 1)[0], early && !waits ? 1.0f : 0.0f) << "waits " << waits << ", early " << early;
            cudaEventDestroy(event);
            cudaStreamDestroy(second);
        }
}

TEST_F(Emulation, BarrierOrdersSharedMemory) {
    for (const char* seed : {"0", "5", "6"}) {
        set("SEED", seed);
        const auto in = counted(200);
        float* out = buffer<float>(200);
        ASSERT_EQ(launch({1, 200, 800}, reverse_kernel, buffer(in), out), cudaSuccess);
        EXPECT_EQ(read(out, 200), std::vector<float>(in.rbegin(), in.rend()));
    }
}

TEST_F(Emulation, AMissingBarrierShowsAsNaN) {
    float* out = buffer<float>(64);
    launch({1, 64, 256}, reverse_without_barrier_kernel, buffer(counted(64)), out);
    EXPECT_TRUE(std::isnan(read(out, 64)[0]));
}

TEST_F(Emulation, WarpOperations) {
    for (const char* seed : {"0", "3", "4"}) {
        set("SEED", seed);
        int* out = buffer<int>(64 * 6);
        ASSERT_EQ(launch({1, 64}, warp_kernel, out), cudaSuccess);
        const auto values = read(out, 64 * 6);
        for (int t = 0; t < 64; ++t) {
            const int lane = t % 32;
            const std::vector<int> expected = {5,          lane < 3 ? lane : lane - 3,
                                               lane ^ 16,  lane / 8 * 8 + 1,
                                               0x49249249, lane < 16 ? lane ^ 1 : static_cast<int>(0xFFFF0000u)};
            EXPECT_EQ(std::vector<int>(values.begin() + t * 6, values.begin() + t * 6 + 6), expected)
                << "lane " << lane;
        }
    }
}

TEST_F(Emulation, Atomics) {
    float* f = buffer(std::vector<float>{0});
    double* d = buffer(std::vector<double>{0});
    int* least = buffer(std::vector<int>{7});
    launch({3, 40}, atomic_kernel, f, d, least);
    EXPECT_EQ(read(f, 1)[0], 60.0f);
    EXPECT_EQ(read(d, 1)[0], 30.0);
    EXPECT_EQ(read(least, 1)[0], 0);
}

TEST_F(Emulation, ClustersShareMemoryAndBarriers) {
    for (const char* seed : {"0", "9", "10"}) {
        set("SEED", seed);
        unsigned* out = buffer<unsigned>(8 * 40);
        ASSERT_EQ(launch({8, 40, 160, 4}, cluster_kernel, out), cudaSuccess);
        const auto values = read(out, 8 * 40);
        for (unsigned i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], (i / 40 + 1) % 4 * 100 + i % 40);
    }
}

TEST_F(Emulation, CopiesArriveWhenTheirGroupIsWaitedFor) {
    const std::vector<float> in{1, 2, 3, 4, 5};
    const float* data = buffer(in);
    float* out = buffer<float>(5);
    launch({1, 1, 8}, copies_kernel<1>, data, 5, out);
    EXPECT_EQ(read(out, 5), in);
    launch({1, 1, 8}, copies_kernel<2>, data, 5, out);  // waits for one group too few
    const std::vector<float> early = read(out, 5);
    for (std::size_t i = 0; i < 5; ++i) EXPECT_NE(early[i], in[i]);
}

TEST_F(Emulation, FourNumbersAreStoredAtMultiplesOf16Bytes) {
    launch({1, 1, 64}, store_four_kernel, 4);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    launch({1, 1, 64}, store_four_kernel, 6);
    expect_fault(cudaErrorMisalignedAddress, {"store_four_kernel", "16 bytes at byte 24"});
    SetUp();
    launch({1, 1, 64}, store_four_kernel, 16);
    expect_fault(cudaErrorIllegalAddress, {"not in its own shared memory"});
}

TEST_F(Emulation, SharedMemoryOfAnEndedBlockIsOutOfReach) {
    launch({2, 1, 64, 2}, early_exit_cluster_kernel, buffer<unsigned>(1));
    expect_fault(cudaErrorIllegalAddress, {"early_exit_cluster_kernel", "block (1, 0, 0)", "which has ended"});
}

TEST_F(Emulation, BlocksOfACooperativeLaunchWaitForEachOther) {
    for (const char* seed : {"0", "1", "2"}) {
        set("SEED", seed);
        unsigned* counter = buffer(std::vector<unsigned>{0});
        int* mismatches = buffer(std::vector<int>{0});
        ASSERT_EQ(launch({12, 64, 0, 1, true}, grid_barrier_kernel, counter, buffer<unsigned>(12), mismatches),
                  cudaSuccess);
        EXPECT_EQ(read(mismatches, 1)[0], 0);
    }
}

TEST_F(Emulation, BlocksThatAreNotResidentTogetherDoNot) {
    launch({12, 64}, grid_barrier_kernel, buffer(std::vector<unsigned>{0}), buffer<unsigned>(12),
           buffer(std::vector<int>{0}));
    expect_fault(cudaErrorLaunchFailure, {"deadlock", "waits for a counter that is 1 to reach 12"});
}

TEST_F(Emulation, BarrierThatAThreadNeverReaches) {
    launch({1, 64}, ends_before_barrier_kernel);
    expect_fault(cudaErrorLaunchFailure, {"ends_before_barrier_kernel", "thread (7, 0, 0)", "__syncthreads"});
}

TEST_F(Emulation, BarriersOfDifferentBranches) {
    launch({1, 64}, two_barriers_kernel);
    expect_fault(cudaErrorLaunchFailure, {"two_barriers_kernel", "others another one"});
}

TEST_F(Emulation, Deadlock) {
    launch({1, 64}, waits_forever_kernel, buffer(std::vector<unsigned>{0}));
    expect_fault(cudaErrorLaunchFailure, {"waits_forever_kernel", "deadlock", "thread (3, 0, 0) waits for a counter",
                                          "thread (4, 0, 0) waits at __syncthreads"});
}

TEST_F(Emulation, WarpCallsThatLanesMiss) {
    launch({1, 32}, shuffle_beside_barrier_kernel, buffer<int>(32));
    expect_fault(cudaErrorLaunchFailure, {"deadlock", "waits at __shfl_xor_sync with mask 0xFFFFFFFF"});
    SetUp();
    launch({1, 32}, shuffle_with_ended_lane_kernel, buffer<int>(32));
    expect_fault(cudaErrorLaunchFailure, {"thread (31, 0, 0)", "whose mask names it"});
    SetUp();
    launch({1, 32}, shuffle_outside_mask_kernel, buffer<int>(32));
    expect_fault(cudaErrorLaunchFailure, {"reads lane 8, which takes no part"});
}

TEST_F(Emulation, OutOfBounds) {
    launch({1, 1}, write_at_kernel, buffer<float>(100), 100);
    expect_fault(cudaErrorIllegalAddress, {"write_at_kernel", "byte 400 of an allocation of 400 bytes"});
    SetUp();
    set("PLACE", "1");
    launch({1, 1}, write_at_kernel, buffer<float>(100), -1);
    expect_fault(cudaErrorIllegalAddress, {"byte -4 of an allocation"});
}

TEST_F(Emulation, SmallOverrunsAreFoundWhenMemoryIsFreed) {
    float* data = buffer<float>(98);  // 392 bytes: 8 bytes of slack up to the end of the page
    launch({1, 1}, write_at_kernel, data, 98);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    EXPECT_EQ(cudaFree(data), cudaErrorIllegalAddress);
    SetUp();
    data = buffer<float>(98);
    launch({1, 1}, write_at_kernel, data, -1);
    EXPECT_EQ(cudaFree(data), cudaErrorIllegalAddress);
}

TEST_F(Emulation, SharedMemoryOutOfBounds) {
    launch({1, 1, 400}, write_shared_at_kernel, 100);
    expect_fault(cudaErrorIllegalAddress, {"write_shared_at_kernel", "byte 400 of the 400 bytes of shared memory"});
    SetUp();
    launch({1, 1, 400}, write_shared_at_kernel, -1);
    expect_fault(cudaErrorIllegalAddress, {"before the beginning of its shared memory"});
    SetUp();
    launch({1, 1, 0}, write_shared_at_kernel, 0);
    expect_fault(cudaErrorIllegalAddress, {"shared memory"});
}

TEST_F(Emulation, UseAfterFree) {
    float* data = buffer<float>(10);
    cudaFree(data);
    EXPECT_EQ(cudaFree(data), cudaErrorInvalidValue);
    launch({1, 1}, write_at_kernel, data, 0);
    expect_fault(cudaErrorIllegalAddress, {"allocation of 40 bytes, freed"});
}

TEST_F(Emulation, NeverWrittenMemoryIsNaN) {
    float* out = buffer<float>(64);
    for (float x : read(out, 64)) EXPECT_TRUE(std::isnan(x));
    launch({1, 64, 256}, read_shared_kernel, out);
    for (float x : read(out, 64)) EXPECT_TRUE(std::isnan(x));
    // A block does not see the shared memory that the previous block has left, either.
    launch({1, 64, 256}, reverse_kernel, buffer(counted(64)), buffer<float>(64));
    launch({1, 64, 256}, read_shared_kernel, out);
    for (float x : read(out, 64)) EXPECT_TRUE(std::isnan(x));
}

TEST_F(Emulation, StackOverflow) {
    launch({1, 1}, recursion_kernel, buffer<float>(1), 100000);
    expect_fault(cudaErrorIllegalAddress, {"stack overflowed"});
}

TEST_F(Emulation, AfterAFaultAndAResetKernelsRun) {
    launch({1, 64}, ends_before_barrier_kernel);
    expect_fault(cudaErrorLaunchFailure, {});
    SetUp();
    float* out = buffer<float>(200);
    launch({1, 200, 800}, reverse_kernel, buffer(counted(200)), out);
    EXPECT_EQ(read(out, 200)[0], 200.0f);
}

using EmulationDeathTest = Emulation;

TEST_F(EmulationDeathTest, HostCannotTouchFreedMemory) {
    float* data = buffer<float>(10);
    cudaFree(data);
    EXPECT_DEATH(*data = 1.0f, "the host, outside of any queued work: it touched .* freed");
}

TEST_F(EmulationDeathTest, HostCannotTouchDeviceMemoryWhereAsked) {
    float* data = buffer<float>(10);
    EXPECT_DEATH(
        {
            set("HIDE", "1");
            read(data, 10);
            *data = 1.0f;
        },
        "the host, outside of any queued work: it touched .* byte 0 of an allocation of 40 bytes");
}

TEST_F(Emulation, LaunchesADeviceRefuses) {
    float* data = buffer<float>(1);
    EXPECT_EQ(launch({1, 1025}, write_at_kernel, data, 0), cudaErrorInvalidConfiguration);
    EXPECT_EQ(launch({1, 0}, write_at_kernel, data, 0), cudaErrorInvalidConfiguration);
    EXPECT_EQ(launch({{1, 65536}, 1}, write_at_kernel, data, 0), cudaErrorInvalidConfiguration);
    EXPECT_EQ(launch({1, 1, 48 * 1024 + 1}, write_at_kernel, data, 0), cudaErrorInvalidValue);
    EXPECT_EQ(launch({9, 1, 0, 9}, write_at_kernel, data, 0), cudaErrorInvalidClusterSize);
    EXPECT_EQ(launch({9, 1, 0, 2}, write_at_kernel, data, 0), cudaErrorInvalidConfiguration);
    EXPECT_EQ(launch({17, 1024, 0, 1, true}, copy_kernel, data, data, 0), cudaErrorCooperativeLaunchTooLarge);
    EXPECT_EQ(launch({16, 1024, 0, 1, true}, copy_kernel, data, data, 0), cudaSuccess);
    EXPECT_EQ(cudaFuncSetAttribute(write_at_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024 + 1),
              cudaErrorInvalidValue);
    EXPECT_EQ(cudaFuncSetAttribute(write_at_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 * 1024),
              cudaSuccess);
    EXPECT_EQ(cudaFuncSetAttribute(write_at_kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1), cudaSuccess);
    EXPECT_EQ(launch({1, 1, 227 * 1024}, write_at_kernel, data, 0), cudaSuccess);
    EXPECT_EQ(launch({16, 1, 0, 16}, write_at_kernel, data, 0), cudaSuccess);
    EXPECT_EQ(launch({16, 1, 227 * 1024, 16}, write_at_kernel, data, 0), cudaErrorLaunchOutOfResources);
    EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchOutOfResources);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
}

// The blocks of a cluster lie in one group of 16 multiprocessors.
TEST_F(Emulation, ClustersLieInGroupsOfMultiprocessors) {
    cudaFuncSetAttribute(write_at_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 200 * 1024);
    const auto active = [](unsigned size) {
        cudaLaunchAttribute attribute = {};
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim = {size, 1, 1};
        cudaLaunchConfig_t config = {};
        config.gridDim = size;
        config.blockDim = 32;
        config.dynamicSmemBytes = 200 * 1024;  // one block for each multiprocessor
        config.attrs = &attribute;
        config.numAttrs = 1;
        int clusters = -1;
        const auto* kernel = reinterpret_cast<const void*>(&write_at_kernel);
        EXPECT_EQ(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config), cudaSuccess);
        return clusters;
    };
    set("MULTIPROCESSORS", "132");
    EXPECT_EQ(active(4), 33);
    EXPECT_EQ(active(6), 16);  // two in each of 8 groups, none in the last 4 multiprocessors
    EXPECT_EQ(active(8), 16);
    set("MULTIPROCESSORS", "4");
    EXPECT_EQ(active(6), 0);
}

}  // namespace
