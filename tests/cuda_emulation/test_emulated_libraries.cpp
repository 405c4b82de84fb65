// Tests of the emulated host calls: streams, events, graphs, copies, memory, cuBLAS, cuSOLVER.
#include "emulation_test.hpp"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cusolverDn.h>
#include <cmath>

namespace {

__global__ void add_kernel(float* data, float x) { data[threadIdx.x] += x; }
__global__ void scale_kernel(float* data, float x) { data[threadIdx.x] *= x; }

struct Pinned {
    explicit Pinned(std::size_t count) { cudaMallocHost(&data, count * sizeof(float)); }
    ~Pinned() { cudaFreeHost(data); }
    float* data = nullptr;
};

TEST_F(Emulation, WorkRunsOnlyWhenSomethingWaits) {
    float* data = buffer(std::vector<float>{1});
    Pinned result(1);
    launch({1, 1}, add_kernel, data, 2.0f);
    cudaMemcpyAsync(result.data, data, 4, cudaMemcpyDeviceToHost, stream_);
    EXPECT_TRUE(std::isnan(result.data[0])) << "nobody waited yet";
    EXPECT_EQ(cudaStreamQuery(stream_), cudaErrorNotReady);
    EXPECT_EQ(cudaStreamQuery(stream_), cudaSuccess);
    EXPECT_EQ(result.data[0], 3.0f);
}

TEST_F(Emulation, PageableIsReadAtTheCallPinnedWhenItRuns) {
    Pinned pinned(1);
    pinned.data[0] = 1;
    std::vector<float> pageable = {1};
    float *from_pinned = buffer<float>(1), *from_pageable = buffer<float>(1);
    cudaMemcpyAsync(from_pinned, pinned.data, 4, cudaMemcpyHostToDevice, stream_);
    cudaMemcpyAsync(from_pageable, pageable.data(), 4, cudaMemcpyHostToDevice, stream_);
    pinned.data[0] = pageable[0] = 2;
    EXPECT_EQ(read(from_pinned, 1)[0], 2.0f);
    EXPECT_EQ(read(from_pageable, 1)[0], 1.0f);
}

// Above 64 KiB a copy from pageable memory waits for the stream, and pageable memory cannot be captured.
TEST_F(Emulation, PageableCopiesWaitAndAreNotCaptured) {
    const std::size_t small = 1 << 14, large = small + 1;  // floats: 64 KiB, and a float more
    const std::vector<float> host(large, 1.0f);
    float *data = buffer<float>(large), *one = buffer(std::vector<float>{1});
    cudaStreamSynchronize(stream_);
    Pinned result(1);
    for (const std::size_t count : {small, large}) {
        result.data[0] = 0;
        cudaMemcpyAsync(result.data, one, 4, cudaMemcpyDeviceToHost, stream_);
        EXPECT_EQ(cudaMemcpyAsync(data, host.data(), 4 * count, cudaMemcpyHostToDevice, stream_), cudaSuccess);
        EXPECT_EQ(result.data[0], count == large ? 1.0f : 0.0f);
        cudaStreamSynchronize(stream_);
    }
    cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    EXPECT_EQ(cudaMemcpyAsync(data, host.data(), 4, cudaMemcpyHostToDevice, stream_),
              cudaErrorStreamCaptureUnsupported);
    cudaGraph_t graph;
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
}

// cublasSetStream takes the work space away, and a capture needs one.
TEST_F(Emulation, CapturedProductsNeedAWorkspace) {
    double *x = buffer(std::vector<double>{2}), *memory = buffer<double>(32);
    cudaStreamSynchronize(stream_);
    cublasHandle_t handle;
    cublasCreate(&handle);
    const double one = 1.0, zero = 0.0;
    for (const bool stream_first : {false, true}) {
        if (stream_first) cublasSetStream(handle, stream_);
        cublasSetWorkspace(handle, memory, 256);
        if (!stream_first) cublasSetStream(handle, stream_);
        cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
        EXPECT_EQ(cublasDgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 1, 1, 1, &one, x, 1, x, 1, &zero, x, 1),
                  stream_first ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED);
        cudaGraph_t graph;
        EXPECT_EQ(cudaStreamEndCapture(stream_, &graph),
                  stream_first ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
        if (graph) cudaGraphDestroy(graph);
    }
    cublasDestroy(handle);
}

// Sums on tensor cores are truncated: blocks of 16 products below the last bit of the sum are lost.
TEST_F(Emulation, TensorCoresTruncateTheirSums) {
    const int k = 16384;
    std::vector<__nv_bfloat16> values(k, __float2bfloat16_rn(0x1p-7f)), ones(k, __float2bfloat16_rn(1.0f));
    values[0] = __float2bfloat16_rn(0x1.0p21f);  // its last bit is 2^-2; 16 of the others are 2^-3
    auto* a = buffer(values);
    auto* b = buffer(ones);
    float* c = buffer(std::vector<float>{0});
    cublasHandle_t handle;
    cublasCreate(&handle);
    cublasSetStream(handle, stream_);
    const float one = 1.0f, zero = 0.0f;
    ASSERT_EQ(cublasGemmEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, k, &one, a, CUDA_R_16BF, k, b, CUDA_R_16BF, k, &zero,
                           c, CUDA_R_32F, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(read(c, 1)[0], 0x1p21f) << "the exact sum is larger by 128";
    cublasDestroy(handle);
}

TEST_F(Emulation, OnlyAnEventOrdersTwoStreams) {
    cudaStream_t other;
    cudaEvent_t event;
    cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&event, cudaEventDisableTiming);
    for (bool wait : {false, true}) {
        float* data = buffer(std::vector<float>{1});
        cudaStreamSynchronize(stream_);
        launch({1, 1}, add_kernel, data, 2.0f);
        cudaEventRecord(event, stream_);
        launch({1, 1}, add_kernel, data, 4.0f);  // after the event: not waited for
        if (wait) cudaStreamWaitEvent(other, event);
        float result = 0;
        cudaMemcpyAsync(&result, data, 4, cudaMemcpyDeviceToHost, other);
        EXPECT_EQ(result, wait ? 3.0f : 1.0f);
    }
    EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(other), cudaSuccess);
}

TEST_F(Emulation, EventsAreReachedInOrder) {
    cudaEvent_t first, second;
    cudaEventCreateWithFlags(&first, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&second, cudaEventDisableTiming);
    float* data = buffer(std::vector<float>{1});
    cudaEventRecord(first, stream_);
    launch({1, 1}, add_kernel, data, 2.0f);
    cudaEventRecord(second, stream_);
    for (cudaEvent_t event : {first, second}) {
        EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
        EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
        cudaEventDestroy(event);
    }
}

TEST_F(Emulation, CaptureRecordsAndReplays) {
    float* data = buffer(std::vector<float>{1});
    cudaStreamSynchronize(stream_);
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    launch({1, 1}, add_kernel, data, 1.0f);
    launch({1, 1}, scale_kernel, data, 2.0f);
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(read(data, 1)[0], 1.0f) << "capture must not run anything";
    for (int i = 0; i < 3; ++i) EXPECT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
    EXPECT_EQ(read(data, 1)[0], 22.0f);
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
}

TEST_F(Emulation, OtherStreamsForkFromACaptureAndMustJoinIt) {
    cudaStream_t side;
    cudaEvent_t fork, join;
    cudaStreamCreateWithFlags(&side, cudaStreamNonBlocking);
    cudaEventCreateWithFlags(&fork, cudaEventDisableTiming);
    cudaEventCreateWithFlags(&join, cudaEventDisableTiming);
    for (bool joined : {true, false}) {
        float* data = buffer(std::vector<float>{1});
        cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
        launch({1, 1}, add_kernel, data, 1.0f);
        cudaEventRecord(fork, stream_);
        cudaStreamWaitEvent(side, fork);
        cudaMemsetAsync(data, 0, 4, side);
        cudaEventRecord(join, side);
        if (joined) cudaStreamWaitEvent(stream_, join);
        launch({1, 1}, add_kernel, data, 5.0f);
        cudaGraph_t graph = nullptr;
        EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), joined ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        if (!joined) continue;
        cudaGraphExec_t exec;
        cudaGraphInstantiate(&exec, graph);
        cudaGraphLaunch(exec, stream_);
        EXPECT_EQ(read(data, 1)[0], 5.0f);
        cudaGraphExecDestroy(exec);
        cudaGraphDestroy(graph);
    }
}

TEST_F(Emulation, CallsThatACaptureForbids) {
    cudaGraph_t graph = nullptr;
    cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
    cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
    void* data = nullptr;
    EXPECT_EQ(cudaMalloc(&data, 4), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaErrorStreamCaptureInvalidated);
}

TEST_F(Emulation, MemoryRunsOut) {
    set("MEMORY", "1000000");
    std::size_t free = 0, total = 0;
    void *data = nullptr, *more = nullptr;
    EXPECT_EQ(cudaMalloc(&data, 900000), cudaSuccess);
    EXPECT_EQ(cudaMalloc(&more, 200000), cudaErrorMemoryAllocation);
    EXPECT_EQ(more, nullptr);
    cudaMemGetInfo(&free, &total);
    EXPECT_EQ(free, 100000u);
    EXPECT_EQ(total, 1000000u);
    cudaFree(data);
    EXPECT_EQ(cudaMalloc(&more, 200000), cudaSuccess) << "running out is no lasting error";
}

TEST_F(Emulation, CopiesOfAWrongKindOrOutOfBounds) {
    float* data = buffer(std::vector<float>{1, 2, 3, 4, 5, 6});
    const float one = 1;
    EXPECT_EQ(cudaMemcpyAsync(data, &one, 4, cudaMemcpyDeviceToHost, stream_), cudaErrorInvalidValue);
    cudaMemsetAsync(data, 0, 28, stream_);
    expect_fault(cudaErrorIllegalAddress, {"cudaMemset of 28 bytes", "allocation of 24 bytes"});
}

TEST_F(Emulation, TheDeviceIsWhatIsAskedFor) {
    set("MULTIPROCESSORS", "20");
    set("CAPABILITY", "80");
    set("DEVICES", "2");
    int count = 0, value = 0;
    cudaDeviceProp properties;
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
    EXPECT_EQ(count, 2);
    EXPECT_EQ(cudaGetDeviceProperties(&properties, 1), cudaSuccess);
    EXPECT_EQ(properties.multiProcessorCount, 20);
    EXPECT_EQ(properties.major, 8);
    EXPECT_EQ(cudaDeviceGetAttribute(&value, cudaDevAttrMultiProcessorCount, 0), cudaSuccess);
    EXPECT_EQ(value, 20);
    EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
    set("DEVICES", "0");
    EXPECT_EQ(cudaGetDeviceCount(&count), cudaErrorNoDevice);
}

// ---- cuBLAS and cuSOLVER ----

class EmulatedLibraries : public Emulation {
protected:
    void SetUp() override {
        Emulation::SetUp();
        ASSERT_EQ(cublasCreate(&blas_), CUBLAS_STATUS_SUCCESS);
        ASSERT_EQ(cublasSetStream(blas_, stream_), CUBLAS_STATUS_SUCCESS);
        ASSERT_EQ(cusolverDnCreate(&solver_), CUSOLVER_STATUS_SUCCESS);
        ASSERT_EQ(cusolverDnSetStream(solver_, stream_), CUSOLVER_STATUS_SUCCESS);
    }
    void TearDown() override {
        cublasDestroy(blas_);
        cusolverDnDestroy(solver_);
        Emulation::TearDown();
    }
    cublasHandle_t blas_ = nullptr;
    cusolverDnHandle_t solver_ = nullptr;
};

TEST_F(EmulatedLibraries, ProductsAreColumnMajorAndQueued) {
    const double one = 1, zero = 0;
    // A is 2 x 3, B 3 x 1, by columns.
    double *a = buffer(std::vector<double>{1, 4, 2, 5, 3, 6}), *b = buffer(std::vector<double>{1, 10, 100});
    double* c = buffer<double>(2);  // NaN: it is not read, because beta is 0
    EXPECT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 1, 3, &one, a, 2, b, 3, &zero, c, 2),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(read(c, 2), (std::vector<double>{321, 654}));
    double* d = buffer<double>(3);
    EXPECT_EQ(cublasDgemm(blas_, CUBLAS_OP_T, CUBLAS_OP_N, 3, 1, 2, &one, a, 2, c, 2, &zero, d, 3),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(read(d, 3), (std::vector<double>{321 + 4 * 654, 2 * 321 + 5 * 654, 3 * 321 + 6 * 654}));
    EXPECT_EQ(cublasDgemm(blas_, CUBLAS_OP_N, CUBLAS_OP_N, 2, 1, 3, &one, a, 1, b, 3, &zero, c, 2),
              CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(EmulatedLibraries, BatchesAndBfloat16) {
    const double once = 1, twice = 2;
    double* a = buffer(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8});
    double* c = buffer(std::vector<double>(8, 1.0));
    EXPECT_EQ(cublasDgemmStridedBatched(blas_, CUBLAS_OP_N, CUBLAS_OP_T, 2, 2, 2, &once, a, 2, 4, a, 2, 4, &twice, c, 2,
                                        4, 2),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(read(c, 8), (std::vector<double>{12, 16, 16, 22, 76, 88, 88, 102}));
    auto* w = buffer(std::vector<__nv_bfloat16>{__float2bfloat16(1.00390625f), __float2bfloat16(3.0f)});
    float* product = buffer<float>(1);
    const float one = 1, zero = 0;
    EXPECT_EQ(cublasGemmEx(blas_, CUBLAS_OP_T, CUBLAS_OP_N, 1, 1, 2, &one, w, CUDA_R_16BF, 2, w, CUDA_R_16BF, 2, &zero,
                           product, CUDA_R_32F, 1, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(read(product, 1)[0], 10.0f) << "1.00390625 lies between two bfloat16 numbers and goes to the even one, 1";
}

TEST_F(EmulatedLibraries, BatchedCholeskyReadsOneTriangleAndSaysWhereItFails) {
    const double nan = std::nan("");
    double *good = buffer(std::vector<double>{4, 2, nan, 5}), *bad = buffer(std::vector<double>{1, 2, nan, 1});
    double** pointers = buffer(std::vector<double*>{good, bad});
    int* info = buffer<int>(2);
    EXPECT_EQ(cusolverDnDpotrfBatched(solver_, CUBLAS_FILL_MODE_LOWER, 2, pointers, 2, info, 2),
              CUSOLVER_STATUS_SUCCESS);
    EXPECT_EQ(read(info, 2), (std::vector<int>{0, 2}));
    const auto l = read(good, 4);
    EXPECT_EQ(l[0], 2);
    EXPECT_EQ(l[1], 1);
    EXPECT_TRUE(std::isnan(l[2]));
    EXPECT_EQ(l[3], 2);
    // X L^T = B, from the right, for an array of matrices
    const double one = 1;
    double* b = buffer(std::vector<double>{2, 5});
    double** bs = buffer(std::vector<double*>{b});
    EXPECT_EQ(cublasDtrsmBatched(blas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT, 1,
                                 2, &one, pointers, 2, bs, 1, 1),
              CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(read(b, 2), (std::vector<double>{1, 2}));
}

TEST_F(EmulatedLibraries, HouseholderGivesBackTheMatrix) {
    const std::vector<double> original = {3, 4, 0, 1, 2, 2};
    double *a = buffer(original), *tau = buffer<double>(2);
    int elements = 0, *info = buffer<int>(1);
    ASSERT_EQ(cusolverDnDgeqrf_bufferSize(solver_, 3, 2, a, 3, &elements), CUSOLVER_STATUS_SUCCESS);
    double* work = buffer<double>(static_cast<std::size_t>(elements));
    EXPECT_EQ(cusolverDnDgeqrf(solver_, 3, 2, a, 3, tau, work, elements, info), CUSOLVER_STATUS_SUCCESS);
    const auto r = read(a, 6);
    EXPECT_NEAR(std::abs(r[0]), 5.0, 1e-14);
    EXPECT_EQ(cusolverDnDorgqr(solver_, 3, 2, 2, a, 3, tau, work, elements, info), CUSOLVER_STATUS_SUCCESS);
    const auto q = read(a, 6);
    for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_NEAR(q[i] * r[0], original[i], 1e-14);
        EXPECT_NEAR(q[i] * r[3] + q[3 + i] * r[4], original[3 + i], 1e-14);
    }
    EXPECT_EQ(read(info, 1)[0], 0);
}

}  // namespace
