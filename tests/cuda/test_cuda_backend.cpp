// Waits, errors and graphs of the CUDA backend, on an emulated device.
#include "backend/buffer.hpp"
#include "check.hpp"
#include "core/error.hpp"
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

// Kernels with the names, and so the registers, of the backend's own.
namespace limited {
__global__ void softmax_cross_entropy_kernel(int) {}
template <int lane_columns, int R>
__global__ void backward_steps_kernel(int) {}
}  // namespace limited

namespace spikefloss::testing_support {
namespace {

class CudaBackendTest : public testing::Test {
protected:
    void TearDown() override { cudaDeviceReset(); }

    // Queues `work` of the host on the backend's stream.
    template <class Work>
    void queue(CudaBackend& backend, Work& work) {
        ASSERT_EQ(cudaLaunchHostFunc(
                      backend.stream(), [](void* data) { (*static_cast<Work*>(data))(); }, &work),
                  cudaSuccess);
    }

    const Device device_ = describe_device(0);
};

TEST_F(CudaBackendTest, AReportedErrorIsNotReportedAgain) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    EXPECT_THROW(check(cudaSetDevice(99), "cudaSetDevice"), Error);
    EXPECT_EQ(cudaPeekAtLastError(), cudaSuccess);
}

// The host takes a result while later work is still queued.
TEST_F(CudaBackendTest, AnArrivalWaitsForItsCopyOnly) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    const Buffer<float> x(backend, std::vector<float>{3.0f, 4.0f});
    Readback<float> results(backend, 2);
    bool ran = false;
    auto work = [&] { ran = true; };
    for (Index count : {2, 1, 0}) {
        ran = false;
        results.begin(x.data(), count);
        queue(backend, work);
        const std::span<const float> values = results.get();
        EXPECT_EQ(static_cast<Index>(values.size()), count);
        for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], 3.0f + static_cast<float>(i));
        EXPECT_FALSE(ran) << "get() has waited for the work behind the copy";
        backend.synchronize();
    }
}

// The holes of a matrix, in one call.
TEST_F(CudaBackendTest, ZeroesRows) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    Buffer<float> x(backend, std::vector<float>(12, 1.0f));  // [3, 4]
    backend.zero_rows(x.data() + 1, 3, 2 * sizeof(float), 4 * sizeof(float));
    EXPECT_EQ(x.to_host(), (std::vector<float>{1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1}));
}

// A copy from pageable memory of more than 64 KiB would wait for the stream.
TEST_F(CudaBackendTest, LargeCopiesDoNotWaitForTheStream) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    bool ran = false;
    auto work = [&] { ran = true; };
    std::vector<float> values(50'000);  // 200 kB
    std::iota(values.begin(), values.end(), 1.0f);
    Buffer<float> data(backend, static_cast<Index>(values.size()));
    queue(backend, work);
    data.copy_in(values.data());
    EXPECT_FALSE(ran) << "the copy has waited for the work before it";
    const std::vector<float> expected = values;
    values.assign(values.size(), 0.0f);  // the caller's memory is free when copy_in returns
    EXPECT_EQ(data.to_host(), expected);
    EXPECT_TRUE(ran);
}

// More than the two buffers hold.
TEST_F(CudaBackendTest, CopiesInPieces) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    std::vector<float> values(5'000'001);  // 20 MB
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 100'003);
    const Buffer<float> data(backend, values);
    EXPECT_EQ(data.to_host(), values);
}

// After a lost rank the stream may never end. Memory is then given up without a wait.
TEST_F(CudaBackendTest, NothingWaitsAfterAWaitIsGivenUp) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    void* data = backend.allocate(1 << 20);
    int runs = 0;
    auto slow = [&] {
        ++runs;
        std::this_thread::sleep_for(std::chrono::milliseconds(150));
    };
    auto later = [&] { ++runs; };
    backend.while_waiting([](double) { throw Error(Exit::lost, "rank 1 is lost", ""); });
    queue(backend, slow);
    EXPECT_THROW(backend.synchronize(), Error);
    EXPECT_EQ(runs, 1);
    queue(backend, later);
    backend.deallocate(data);
    EXPECT_EQ(runs, 1) << "deallocate has waited for the stream";
}

TEST_F(CudaBackendTest, DroppedGraphsAreRecordedAgain) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    Buffer<float> x(backend, std::vector<float>{1.0f});
    const std::unique_ptr<Recording> recording = backend.recording();
    int calls = 0;
    const UpdateView view{1, 1, 1, x.data(), nullptr, nullptr, x.data()};
    const auto twice = [&] {
        ++calls;
        backend.update(Sgd{-1.0f, 0.0f}, 1.0f, {&view, 1});  // x += x
    };
    for (int i = 0; i < 3; ++i) recording->run(twice);
    EXPECT_EQ(calls, 2) << "one call, one recording, one replay";
    backend.drop_graphs();
    recording->run(twice);
    EXPECT_EQ(calls, 3);
    EXPECT_EQ(x.to_host()[0], 16.0f);
}

// Kernels have the registers that nvcc gave them, so a block of too many threads is refused.
TEST_F(CudaBackendTest, LaunchesHaveRegisters) {
    CudaBackend backend(device_, Sums::float32, Precision::fp32);
    const Buffer<float> x(backend, std::vector<float>(4, 1.0f));
    EXPECT_EQ(resident_blocks(limited::softmax_cross_entropy_kernel, 1024, 0), 1);  // 64 registers: the whole file
    EXPECT_EQ(resident_blocks(limited::backward_steps_kernel<1, 8>, 512, 0), 1);    // 128 registers
    EXPECT_EQ(resident_blocks(limited::backward_steps_kernel<1, 8>, 544, 0), 0);
    const Launch how{.grid = dim3(1), .block = dim3(544), .stream = backend.stream()};
    EXPECT_THROW(launch(how, limited::backward_steps_kernel<1, 8>, 0), Error);
}

}  // namespace
}  // namespace spikefloss::testing_support
