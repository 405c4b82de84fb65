// The clock (CUDA events on the backend's own stream) and the limits of a GPU: copies, cuBLAS products of random
// numbers (products of zeros draw less power and so run faster), launches, and the barriers that fused kernels wait at.
#include "device.hpp"

#include "backend/buffer.hpp"
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <cuda_bf16.h>

#include <algorithm>
#include <vector>

namespace spikefloss::bench {
namespace {

class CudaTimer final : public Timer {
public:
    explicit CudaTimer(cudaStream_t stream) : stream_(stream) {
        check(cudaEventCreate(&begin_), "cudaEventCreate");
        check(cudaEventCreate(&end_), "cudaEventCreate");
    }
    ~CudaTimer() override {
        cudaEventDestroy(begin_);
        cudaEventDestroy(end_);
    }
    CudaTimer(const CudaTimer&) = delete;
    CudaTimer& operator=(const CudaTimer&) = delete;
    double seconds(const std::function<void()>& work) override {
        check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
        check(cudaEventRecord(begin_, stream_), "cudaEventRecord");
        work();
        check(cudaEventRecord(end_, stream_), "cudaEventRecord");
        check(cudaEventSynchronize(end_), "cudaEventSynchronize");
        float milliseconds = 0.0f;
        check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
        return 1e-3 * static_cast<double>(milliseconds);
    }

private:
    cudaStream_t stream_;
    cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Numbers in (-1, 1) without structure.
template <class T>
__global__ void scramble_kernel(Index count, T* out) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        unsigned x = static_cast<unsigned>(at) * 0x9E3779B9u + 1u;
        x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
        x = (x ^ (x >> 13)) * 0xC2B2AE35u;
        out[at] = static_cast<T>(static_cast<float>(static_cast<int>(x ^ (x >> 16))) * 0x1p-31f);
    }
}

__global__ void empty_kernel() {}

// Each team makes `rounds` barriers.
__global__ void barrier_kernel(TeamKind kind, unsigned size, unsigned* counter, int rounds) {
    Team team{kind, size, counter};
    for (int round = 0; round < rounds; ++round) team.wait();
}

struct Probe {
    CudaBackend& backend;
    CudaTimer timer;
    explicit Probe(CudaBackend& backend_) : backend(backend_), timer(backend_.stream()) {}

    double copy_rate() {
        constexpr Index count = Index(1) << 28;  // 1 GiB, beyond every cache
        Buffer<float> from(backend, count), to(backend, count);
        const auto copy = [&] { backend.copy(to.data(), from.data(), from.bytes()); };
        return 2.0 * static_cast<double>(from.bytes()) / median_seconds(timer, copy, 10);
    }

    template <class T>
    double product_rate(int n, cudaDataType type, cudaDataType out_type, cublasComputeType_t compute) {
        const Index size = static_cast<Index>(n) * n;
        Buffer<T> a(backend, size), b(backend, size);
        Buffer<double> c(backend, size);  // large enough for either type of result
        for (T* x : {a.data(), b.data()})
            launch({.grid = grid_for(size, 256), .block = dim3(256), .stream = backend.stream()}, scramble_kernel<T>,
                   size, x);
        cublasHandle_t blas = nullptr;
        check(cublasCreate(&blas), "cublasCreate");
        check(cublasSetStream(blas, backend.stream()), "cublasSetStream");
        const float one = 1.0f, zero = 0.0f;
        const double one64 = 1.0, zero64 = 0.0;
        const bool wide = out_type == CUDA_R_64F;
        const auto product = [&] {
            for (int i = 0; i < 4; ++i)
                check(cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, n, n, n,
                                   wide ? static_cast<const void*>(&one64) : &one, a.data(), type, n, b.data(), type, n,
                                   wide ? static_cast<const void*>(&zero64) : &zero, c.data(), out_type, n, compute,
                                   CUBLAS_GEMM_DEFAULT),
                      "cublasGemmEx");
        };
        const double rate = 4.0 * 2.0 * n * static_cast<double>(size) / median_seconds(timer, product, 10);
        check(cublasDestroy(blas), "cublasDestroy");
        return rate;
    }

    double launch_time() {
        constexpr int launches = 1000;
        return median_seconds(
                   timer,
                   [&] {
                       for (int i = 0; i < launches; ++i)
                           launch({.grid = dim3(1), .block = dim3(32), .stream = backend.stream()}, empty_kernel);
                   },
                   10) /
               launches;
    }

    double graph_node_time() {
        constexpr int nodes = 1000;
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t ready = nullptr;
        check(cudaStreamBeginCapture(backend.stream(), cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
        for (int i = 0; i < nodes; ++i)
            launch({.grid = dim3(1), .block = dim3(32), .stream = backend.stream()}, empty_kernel);
        check(cudaStreamEndCapture(backend.stream(), &graph), "cudaStreamEndCapture");
        check(cudaGraphInstantiate(&ready, graph, 0), "cudaGraphInstantiate");
        const auto run = [&] { check(cudaGraphLaunch(ready, backend.stream()), "cudaGraphLaunch"); };
        const double time = median_seconds(timer, run, 10) / nodes;
        check(cudaGraphExecDestroy(ready), "cudaGraphExecDestroy");
        check(cudaGraphDestroy(graph), "cudaGraphDestroy");
        return time;
    }

    // The time of a barrier of teams of `size` blocks. `blocks` is a multiple of `size`.
    double barrier_time(TeamKind kind, unsigned size, unsigned blocks) {
        constexpr int rounds = 2000;
        Buffer<unsigned> counter(backend, 1);
        const Launch how{.grid = dim3(blocks),
                         .block = dim3(512),
                         .stream = backend.stream(),
                         .cluster = kind == TeamKind::cluster ? size : 1u,
                         .cooperative = kind == TeamKind::grid};
        const auto run = [&](int times) {
            counter.zero();
            launch(how, barrier_kernel, kind, size, counter.data(), times);
        };
        const double most = median_seconds(
            timer, [&] { run(rounds); }, 5);
        const double none = median_seconds(
            timer, [&] { run(0); }, 5);  // the launch itself
        return std::max(0.0, most - none) / rounds;
    }
};

CudaBackend& cuda_backend(Backend& backend) { return dynamic_cast<CudaBackend&>(backend); }

}  // namespace

std::unique_ptr<Timer> cuda_timer(Backend& backend) {
    return std::make_unique<CudaTimer>(cuda_backend(backend).stream());
}

Limits cuda_limits(Backend& backend, const std::function<void(const Limits&)>& known) {
    Probe probe(cuda_backend(backend));
    const Device& device = probe.backend.device();
    const auto blocks = static_cast<unsigned>(device.multiprocessors);
    Limits limits;
    limits.device = device.name;
    limits.multiprocessors = device.multiprocessors;
    limits.on_chip_block = static_cast<double>(device.shared_per_block);
    const auto measure = [&](double Limits::*value, double found) {
        limits.*value = found;
        known(limits);
    };
    // Plain kernels come first, and teams of blocks that wait for each other last.
    measure(&Limits::launch_time, probe.launch_time());
    measure(&Limits::graph_node_time, probe.graph_node_time());
    measure(&Limits::copy_rate, probe.copy_rate());
    measure(&Limits::bf16_rate, probe.product_rate<__nv_bfloat16>(8192, CUDA_R_16BF, CUDA_R_32F, CUBLAS_COMPUTE_32F));
    measure(&Limits::fp32_rate, probe.product_rate<float>(8192, CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F));
    measure(&Limits::fp64_rate, probe.product_rate<double>(4096, CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F));
    measure(&Limits::block_barrier, probe.barrier_time(TeamKind::block, 1, 1));
    if (device.clusters()) measure(&Limits::cluster_barrier, probe.barrier_time(TeamKind::cluster, 8, 8));
    measure(&Limits::grid_barrier, probe.barrier_time(TeamKind::grid, blocks, blocks));
    return limits;
}

}  // namespace spikefloss::bench
