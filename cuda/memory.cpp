// Memory, stream and library handles of the CUDA backend. Everything is queued on one stream, which never waits for the
// default stream. The host waits only in wait().
#include "core/error.hpp"
#include "core/stopwatch.hpp"
#include "cuda_backend.hpp"

#include "check.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

namespace spikefloss {
namespace {

constexpr std::size_t alignment = 256;
// The size cuBLAS uses on sm_90 and later. cuBLAS gets it here, because products captured in a graph must not allocate.
constexpr std::size_t blas_workspace = std::size_t{32} << 20;

// A copy from pageable memory does not wait for the stream up to this size (CUDA: API synchronization behavior).
constexpr std::size_t most_pageable = std::size_t{64} << 10;
constexpr std::size_t staging_bytes = std::size_t{4} << 20;

std::size_t padded(std::size_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }

double mebibytes(std::size_t bytes) { return static_cast<double>(bytes) / 0x1p20; }

void* device_memory(std::size_t bytes) {
    void* data = nullptr;
    const cudaError_t result = cudaMalloc(&data, bytes);
    if (result != cudaErrorMemoryAllocation) {
        check(result, "cudaMalloc");
        return data;
    }
    cudaGetLastError();  // reported here; the next call must not report it again
    std::size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
    throw Error(
        Exit::usage,
        fmt::format("no device memory left for an array of {:.1f} MiB: {:.1f} MiB of {:.1f} MiB are free",
                    mebibytes(bytes), mebibytes(available), mebibytes(total)),
        "use a smaller train.batch, fewer neurons or exponents, a shorter horizon, tape = \"segments\", or more "
        "ranks; spikefloss info CONFIG shows what a config needs");
}

// For functions that must not throw: prints the error. The next call will report it again.
void tell(cudaError_t result, const char* call) noexcept {
    if (result != cudaSuccess)
        std::fprintf(stderr, "spikefloss: %s failed: %s (%s)\n", call, cudaGetErrorString(result),
                     cudaGetErrorName(result));
}

}  // namespace

CudaBackend::CudaBackend(const Device& device, Sums sums, Precision precision, std::vector<std::string> without)
    : device_(device), sums_(sums), precision_(precision), without_(std::move(without)) {
    check(cudaSetDevice(device.id), "cudaSetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    check(cublasCreate(&blas_), "cublasCreate");
    check(cublasSetStream(blas_, stream_), "cublasSetStream");
    check(cublasSetWorkspace(blas_, blas_workspace_ = device_memory(blas_workspace), blas_workspace),
          "cublasSetWorkspace");
    check(cusolverDnCreate(&solver_), "cusolverDnCreate");
    check(cusolverDnSetStream(solver_, stream_), "cusolverDnSetStream");
}

CudaBackend::~CudaBackend() {
    if (abandoned_) return;  // every call would wait for the stream; the process ends soon
    tell(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    cusolverDnDestroy(solver_);
    cublasDestroy(blas_);
    for (void* memory : {blas_workspace_, scratch_, static_cast<void*>(arena_)}) tell(cudaFree(memory), "cudaFree");
    for (const Staging& staging : staging_) {
        if (staging.copied) tell(cudaEventDestroy(staging.copied), "cudaEventDestroy");
        tell(cudaFreeHost(staging.memory), "cudaFreeHost");
    }
    tell(cudaStreamDestroy(stream_), "cudaStreamDestroy");
}

void* CudaBackend::allocate(std::size_t bytes) {
    // Every array has its own address, even an empty one.
    const std::size_t size = padded(bytes ? bytes : 1);
    if (static_cast<std::size_t>(arena_end_ - arena_next_) < size) return device_memory(size);
    void* data = arena_next_;
    arena_next_ += size;
    return data;
}

void CudaBackend::deallocate(void* data) noexcept {
    if (data >= arena_ && data < arena_end_) return;  // the arena is freed as a whole
    if (abandoned_) return;
    tell(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    tell(cudaFree(data), "cudaFree");
}

void CudaBackend::reserve(std::size_t bytes) {
    require(arena_ == nullptr, Exit::internal, "the arena of the CUDA backend was reserved twice");
    arena_ = arena_next_ = static_cast<char*>(device_memory(padded(bytes)));
    arena_end_ = arena_ + padded(bytes);
}

std::size_t CudaBackend::free_memory() const {
    std::size_t available = 0, total = 0;
    check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
    return available;
}

// The host's memory is pageable. Up to 64 KiB the runtime has read it when the call returns. A larger copy would wait
// for the stream first, without while_waiting_. So it goes through page-locked buffers, in pieces: the host waits only
// until the buffer of the piece before the last one is free.
void CudaBackend::copy_in(void* destination, const void* host, std::size_t bytes) {
    if (bytes == 0) return;
    if (bytes <= most_pageable)
        return check(cudaMemcpyAsync(destination, host, bytes, cudaMemcpyHostToDevice, stream_), "cudaMemcpyAsync(in)");
    int which = 0;
    for (std::size_t at = 0; at < bytes; at += staging_bytes, which = 1 - which) {
        const std::size_t piece = std::min(staging_bytes, bytes - at);
        char* const memory = staging(which);
        std::memcpy(memory, static_cast<const char*>(host) + at, piece);
        check(cudaMemcpyAsync(static_cast<char*>(destination) + at, memory, piece, cudaMemcpyHostToDevice, stream_),
              "cudaMemcpyAsync(in)");
        check(cudaEventRecord(staging_[which].copied, stream_), "cudaEventRecord");
    }
}

char* CudaBackend::staging(int which) {
    Staging& buffer = staging_[which];
    if (!buffer.memory) {
        check(cudaMallocHost(&buffer.memory, staging_bytes), "cudaMallocHost");
        check(cudaEventCreateWithFlags(&buffer.copied, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    } else {
        wait_for([&] { return cudaEventQuery(buffer.copied); }, "cudaEventQuery");
    }
    return static_cast<char*>(buffer.memory);
}

void CudaBackend::copy_out(void* host, const void* source, std::size_t bytes) {
    if (bytes) {
        wait();  // before the copy: a copy to pageable memory waits without calling while_waiting_
        check(cudaMemcpyAsync(host, source, bytes, cudaMemcpyDeviceToHost, stream_), "cudaMemcpyAsync(out)");
    }
    wait();
}

// Page-locked memory, so that the copy needs no wait, and an event behind the copy.
class CudaBackend::LaterCopy final : public Arrival {
public:
    LaterCopy(CudaBackend& backend, std::size_t most) : backend_(backend) {
        check(cudaMallocHost(&memory_, std::max<std::size_t>(most, 1)), "cudaMallocHost");
        check(cudaEventCreateWithFlags(&copied_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
    ~LaterCopy() override {
        if (backend_.abandoned_) return;  // freeing would wait for the copy
        tell(cudaEventDestroy(copied_), "cudaEventDestroy");
        tell(cudaFreeHost(memory_), "cudaFreeHost");
    }
    LaterCopy(const LaterCopy&) = delete;
    LaterCopy& operator=(const LaterCopy&) = delete;
    void begin(const void* source, std::size_t bytes) override {
        check(cudaMemcpyAsync(memory_, source, bytes, cudaMemcpyDeviceToHost, backend_.stream_),
              "cudaMemcpyAsync(out)");
        check(cudaEventRecord(copied_, backend_.stream_), "cudaEventRecord");
    }
    const void* get() override {
        backend_.wait_for([&] { return cudaEventQuery(copied_); }, "cudaEventQuery");
        return memory_;
    }

private:
    CudaBackend& backend_;
    void* memory_ = nullptr;
    cudaEvent_t copied_ = nullptr;
};

std::unique_ptr<Arrival> CudaBackend::arrival(std::size_t most) { return std::make_unique<LaterCopy>(*this, most); }

void CudaBackend::copy(void* destination, const void* source, std::size_t bytes) {
    if (bytes) check(cudaMemcpyAsync(destination, source, bytes, cudaMemcpyDeviceToDevice, stream_), "cudaMemcpyAsync");
}

void CudaBackend::zero(void* data, std::size_t bytes) {
    if (bytes) check(cudaMemsetAsync(data, 0, bytes, stream_), "cudaMemsetAsync");
}

void CudaBackend::zero_rows(void* data, std::size_t rows, std::size_t bytes, std::size_t stride) {
    if (rows && bytes) check(cudaMemset2DAsync(data, stride, 0, bytes, rows, stream_), "cudaMemset2DAsync");
}

void CudaBackend::synchronize() { wait(); }

void CudaBackend::wait() {
    if (!while_waiting_) return check(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    wait_for([&] { return cudaStreamQuery(stream_); }, "cudaStreamQuery");
}

template <class Query>
void CudaBackend::wait_for(Query&& done, const char* call) {
    Stopwatch stopwatch;
    double called = 0.0;
    for (;;) {
        const cudaError_t result = done();
        if (result != cudaErrorNotReady) return check(result, call);
        const double waited = stopwatch.seconds();
        if (while_waiting_ && waited > called + 0.1) {
            try {
                while_waiting_(waited);
            } catch (...) {
                abandoned_ = true;
                throw;
            }
            called = waited;
        }
        // Most waits are short; a long one must not keep a core busy. A sleep lasts 60 to 110 us, so the first comes
        // after 20 ms: training steps of most networks end without one.
        if (waited > 20e-3) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
}

void CudaBackend::drop_graphs() noexcept {
    for (GraphRecording* recording : recordings_) recording->drop();
}

// Not from the arena, which is full of the run's arrays and is freed as a whole.
void* CudaBackend::replace(void* data, std::size_t bytes) {
    wait();  // queued operations may still use the old array
    drop_graphs();
    check(cudaFree(data), "cudaFree");
    return device_memory(bytes);
}

}  // namespace spikefloss
