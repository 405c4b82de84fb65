// Allocation, copies and fills. A copy from pageable host memory reads it at the call; above 64 KiB it waits for the
// stream first. It cannot be captured. A copy from page-locked memory reads when it runs, so that a buffer reused too
// early shows.
#include "memory.hpp"
#include "settings.hpp"
#include "streams.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

namespace emulation {

namespace {

// Reports device memory that the copy would touch out of bounds. The check is at run time, because the memory may have
// been freed by then.
bool valid(const void* data, std::size_t bytes, const char* what) {
    if (!is_device(data) || is_device_range(data, bytes)) return true;
    raise(cudaErrorIllegalAddress, std::string(what) + " of " + std::to_string(bytes) + " bytes begins " +
                                       describe_address(data) + ", and not all of them are there");
    return false;
}

void copy_bytes(void* to, const void* from, std::size_t bytes, const char* what) {
    if (valid(to, bytes, what) && valid(from, bytes, what)) std::memmove(to, from, bytes);
}

// The kind must agree with the addresses.
bool agrees(cudaMemcpyKind kind, bool to_device, bool from_device) {
    switch (kind) {
        case cudaMemcpyHostToDevice: return to_device && !from_device;
        case cudaMemcpyDeviceToHost: return !to_device && from_device;
        case cudaMemcpyDeviceToDevice: return to_device && from_device;
    }
    return false;
}

}  // namespace

}  // namespace emulation

using namespace emulation;

// ---- allocation ----

cudaError_t cudaMalloc(void** data, std::size_t bytes) {
    std::lock_guard lock(device().mutex);
    if (!data) return answer(cudaErrorInvalidValue);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    if (const cudaError_t error = forbid_in_capture(nullptr)) return answer(error);
    *data = nullptr;
    if (bytes == 0) return answer(cudaSuccess);
    *data = allocate_device(bytes);
    return answer(*data ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void* data) {
    std::lock_guard lock(device().mutex);
    if (!data) return answer(cudaSuccess);
    if (const cudaError_t error = forbid_in_capture(nullptr)) return answer(error);
    run_all();
    const std::string wrong = free_device(data);
    if (wrong.empty()) return answer(cudaSuccess);
    std::fprintf(stderr, "emulated device: cudaFree: %s\n", wrong.c_str());
    if (wrong.find("overwritten") == std::string::npos) return answer(cudaErrorInvalidValue);
    raise(cudaErrorIllegalAddress, "");
    return answer(cudaSuccess);
}

cudaError_t cudaHostAlloc(void** data, std::size_t bytes, unsigned) {
    std::lock_guard lock(device().mutex);
    if (!data) return answer(cudaErrorInvalidValue);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    if (const cudaError_t error = forbid_in_capture(nullptr)) return answer(error);
    *data = allocate_pinned(bytes);
    return answer(*data ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaMallocHost(void** data, std::size_t bytes) { return cudaHostAlloc(data, bytes, cudaHostAllocDefault); }

cudaError_t cudaFreeHost(void* data) {
    std::lock_guard lock(device().mutex);
    if (!data) return answer(cudaSuccess);
    run_all();
    return answer(free_pinned(data) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    std::lock_guard lock(device().mutex);
    *total = device_memory_limit();
    *free = *total - std::min(*total, device_bytes_used());
    return answer(cudaSuccess);
}

// ---- copies and fills ----

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    if (bytes == 0) return answer(cudaSuccess);
    if (!to || !from) return answer(cudaErrorInvalidValue);
    const bool to_device = is_device(to), from_device = is_device(from);
    if (!agrees(kind, to_device, from_device)) return answer(cudaErrorInvalidValue);
    stream = resolve(stream);
    if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
    const bool capturing = stream->capture != nullptr;
    const bool pageable = (!from_device && !is_pinned(from)) || (!to_device && !is_pinned(to));
    if (pageable && capturing) {  // the runtime would have to stage it now
        stream->capture->invalid = true;
        return answer(cudaErrorStreamCaptureUnsupported);
    }
    // Above 64 KiB a copy from pageable memory waits for the stream first.
    if (pageable && !from_device && bytes > (std::size_t{64} << 10)) run(stream);
    if (!from_device && !is_pinned(from) && !capturing) {
        const auto* first = static_cast<const char*>(from);
        std::vector<char> snapshot(first, first + bytes);
        return answer(queue(stream, "copy from host",
                            [=, held = std::move(snapshot)] { copy_bytes(to, held.data(), bytes, "copy from host"); }));
    }
    const char* name = to_device ? "copy to device" : "copy to host";
    const cudaError_t error = queue(stream, name, [=] { copy_bytes(to, from, bytes, name); });
    if (error == cudaSuccess && !capturing && !to_device && !is_pinned(to)) run(stream);
    return answer(error);
}

cudaError_t cudaMemset2DAsync(void* data, std::size_t pitch, int value, std::size_t width, std::size_t height,
                              cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    if (width == 0 || height == 0) return answer(device().sticky);
    if (!is_device(data) || width > pitch) return answer(cudaErrorInvalidValue);
    return answer(queue(stream, "cudaMemset2D", [=] {
        if (!valid(data, (height - 1) * pitch + width, "cudaMemset2D")) return;
        for (std::size_t row = 0; row < height; ++row)
            std::memset(static_cast<char*>(data) + row * pitch, value, width);
    }));
}

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
    std::lock_guard lock(device().mutex);
    if (bytes == 0) return answer(device().sticky);
    if (!is_device(data)) return answer(cudaErrorInvalidValue);
    return answer(queue(stream, "cudaMemset", [=] {
        if (valid(data, bytes, "cudaMemset")) std::memset(data, value, bytes);
    }));
}
