// The race detector finds planted faults, and nothing in kernels without one. Compiled as the kernels that it checks.
#include "emulation_test.hpp"
#include "races.hpp"

namespace {

using spikefloss::add_release;
using spikefloss::cluster_peer;
using spikefloss::wait_until;

// Each thread passes a value to its neighbour through shared memory, `steps` times, with one barrier a step. One buffer
// is overwritten while a slower thread reads it; two buffers are not.
__global__ void pass_on_kernel(float* out, int steps, int buffers) {
    auto* shared = spikefloss::dynamic_shared<float>();
    float x = static_cast<float>(threadIdx.x);
    for (int t = 0; t < steps; ++t) {
        float* const now = shared + t % buffers * static_cast<int>(blockDim.x);
        now[threadIdx.x] = x;
        __syncthreads();
        x = now[(threadIdx.x + 1) % blockDim.x];
    }
    out[threadIdx.x] = x;
}

__global__ void warp_kernel(float* out, bool sync) {
    auto* shared = spikefloss::dynamic_shared<float>();
    shared[threadIdx.x] = 1.0f;
    if (sync) __syncwarp();
    out[threadIdx.x] = shared[(threadIdx.x + 1) % 32];
}

// Block 1 reads what block 0 stored, after a meeting.
__global__ void grid_kernel(float* data, float* out, unsigned* counter, bool meet, bool past_cache) {
    if (blockIdx.x == 0) data[threadIdx.x] = 1.0f;
    __syncthreads();
    if (threadIdx.x == 0) add_release(counter);
    if (meet && threadIdx.x == 0) wait_until(counter, 2);
    __syncthreads();
    if (blockIdx.x == 1) out[threadIdx.x] = past_cache ? __ldcg(data + threadIdx.x) : data[threadIdx.x];
}

__global__ void cluster_kernel(float* out, bool meet) {
    auto* shared = spikefloss::dynamic_shared<float>();
    spikefloss::cluster_barrier();
    cluster_peer(shared, 1 - spikefloss::cluster_rank())[threadIdx.x] = 1.0f;
    if (meet) spikefloss::cluster_barrier();
    out[blockIdx.x * blockDim.x + threadIdx.x] = shared[threadIdx.x];
    spikefloss::cluster_barrier();
}

// Each block reads what the other has; without the last meeting the other may have ended.
__global__ void reading_cluster_kernel(float* out, bool meet) {
    auto* shared = spikefloss::dynamic_shared<float>();
    shared[threadIdx.x] = 1.0f;
    spikefloss::cluster_barrier();
    const float read = cluster_peer(shared, 1 - spikefloss::cluster_rank())[threadIdx.x];
    if (meet) spikefloss::cluster_barrier();
    emulation::let_others_run();  // both read before one of them ends
    out[blockIdx.x * blockDim.x + threadIdx.x] = read;
}

__global__ void sum_kernel(float* sum) { atomicAdd(sum, 1.0f); }

class RacesTest : public Emulation {
protected:
    void SetUp() override {
        Emulation::SetUp();
        emulation::forget_races();
    }
    void TearDown() override {
        emulation::forget_races();  // the faults of this test are planted
        Emulation::TearDown();
    }
    // Runs what is queued.
    emulation::Races found() {
        EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
        return emulation::races_found();
    }
    unsigned* counter() { return buffer(std::vector<unsigned>{0}); }
};

TEST_F(RacesTest, ABufferThatIsNotDoubled) {
    launch({1, 64, 512}, pass_on_kernel, buffer<float>(64), 4, 2);
    const emulation::Races two = found();
    EXPECT_EQ(two.races, 0);
    EXPECT_GE(two.accesses, 64 * 9);
    launch({1, 64, 512}, pass_on_kernel, buffer<float>(64), 4, 1);
    EXPECT_GT(found().races, 0);
}

TEST_F(RacesTest, BlocksOneAfterAnotherHaveTheirOwnSharedMemory) {
    launch({3, 64, 512}, pass_on_kernel, buffer<float>(64), 1, 2);
    const long long of_out = found().races;  // all blocks store to `out`: these are races
    EXPECT_EQ(of_out, 2 * 64);
}

TEST_F(RacesTest, LanesOfAWarp) {
    launch({1, 32, 128}, warp_kernel, buffer<float>(32), true);
    EXPECT_EQ(found().races, 0);
    launch({1, 32, 128}, warp_kernel, buffer<float>(32), false);
    EXPECT_GT(found().races, 0);
}

TEST_F(RacesTest, BlocksThatMeetThroughACounter) {
    launch({2, 32, 0, 1, true}, grid_kernel, buffer<float>(32), buffer<float>(32), counter(), true, true);
    emulation::Races races = found();
    EXPECT_EQ(races.races, 0);
    EXPECT_EQ(races.plain_loads, 0);
    launch({2, 32, 0, 1, true}, grid_kernel, buffer<float>(32), buffer<float>(32), counter(), true, false);
    races = found();
    EXPECT_EQ(races.races, 0);
    EXPECT_EQ(races.plain_loads, 32);
    launch({2, 32, 0, 1, true}, grid_kernel, buffer<float>(32), buffer<float>(32), counter(), false, true);
    EXPECT_GT(found().races, 0);
}

TEST_F(RacesTest, BlocksOfACluster) {
    launch({2, 32, 128, 2}, cluster_kernel, buffer<float>(64), true);
    EXPECT_EQ(found().races, 0);
    launch({2, 32, 128, 2}, cluster_kernel, buffer<float>(64), false);
    EXPECT_GT(found().races, 0);
}

TEST_F(RacesTest, BlocksOfAClusterThatEndTooEarly) {
    launch({2, 32, 128, 2}, reading_cluster_kernel, buffer<float>(64), true);
    EXPECT_EQ(found().races, 0);
    launch({2, 32, 128, 2}, reading_cluster_kernel, buffer<float>(64), false);
    EXPECT_EQ(found().races, 2);
}

TEST_F(RacesTest, AtomicsAreNoRaces) {
    float* sum = buffer(std::vector<float>{0});
    launch({2, 64}, sum_kernel, sum);
    EXPECT_EQ(found().races, 0);
    EXPECT_EQ(read(sum, 1)[0], 128.0f);
}

TEST_F(RacesTest, ThreadsStopBetweenAccesses) {
    for (const char* every : {"1", "3"}) {
        set("PREEMPT", every);
        float* out = buffer<float>(64);
        launch({1, 64, 512}, pass_on_kernel, out, 5, 2);
        EXPECT_EQ(found().races, 0);
        EXPECT_EQ(read(out, 64)[0], 5.0f);
    }
}

}  // namespace
