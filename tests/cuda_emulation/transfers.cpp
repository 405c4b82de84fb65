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

struct Rows {
    std::size_t pitch, width, height;
    std::size_t span() const { return height == 0 ? 0 : (height - 1) * pitch + width; }
};

bool empty(Rows rows) { return rows.width == 0 || rows.height == 0; }

// Reports device memory that the copy would touch out of bounds. The check is at run time, because the memory may have
// been freed by then.
bool valid(const void* data, Rows rows, const char* what) {
    if (!is_device(data) || is_device_range(data, rows.span())) return true;
    raise(cudaErrorIllegalAddress, std::string(what) + " of " + std::to_string(rows.span()) + " bytes begins " +
                                       describe_address(data) + ", and not all of them are there");
    return false;
}

void copy_rows(void* to, Rows to_rows, const void* from, Rows from_rows, const char* what) {
    if (!valid(to, to_rows, what) || !valid(from, from_rows, what)) return;
    for (std::size_t row = 0; row < to_rows.height; ++row)
        std::memmove(static_cast<char*>(to) + row * to_rows.pitch,
                     static_cast<const char*>(from) + row * from_rows.pitch, to_rows.width);
}

// cudaMemcpyDefault depends on the addresses. The other kinds must agree with the addresses.
bool agrees(cudaMemcpyKind kind, bool to_device, bool from_device) {
    switch (kind) {
        case cudaMemcpyHostToHost: return !to_device && !from_device;
        case cudaMemcpyHostToDevice: return to_device && !from_device;
        case cudaMemcpyDeviceToHost: return !to_device && from_device;
        case cudaMemcpyDeviceToDevice: return to_device && from_device;
        default: return true;
    }
}

cudaError_t copy(void* to, Rows to_rows, const void* from, Rows from_rows, cudaMemcpyKind kind, CUstream_st* stream) {
    std::lock_guard lock(device().mutex);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    if (empty(to_rows)) return answer(cudaSuccess);
    if (!to || !from || to_rows.pitch < to_rows.width || from_rows.pitch < from_rows.width)
        return answer(cudaErrorInvalidValue);
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
    if (pageable && !from_device && from_rows.width * from_rows.height > (std::size_t{64} << 10)) run(stream);
    if (!from_device && !is_pinned(from) && !capturing) {
        const auto* first = static_cast<const char*>(from);
        std::vector<char> snapshot(first, first + from_rows.span());
        return answer(queue(stream, "copy from host", [=, held = std::move(snapshot)] {
            copy_rows(to, to_rows, held.data(), from_rows, "copy from host");
        }));
    }
    const char* name = to_device ? "copy to device" : "copy to host";
    const cudaError_t error = queue(stream, name, [=] { copy_rows(to, to_rows, from, from_rows, name); });
    if (error == cudaSuccess && !capturing && !to_device && !is_pinned(to)) run(stream);
    return answer(error);
}

cudaError_t copy_and_wait(void* to, Rows to_rows, const void* from, Rows from_rows, cudaMemcpyKind kind) {
    std::lock_guard lock(device().mutex);
    if (!device().captures.empty()) {
        const cudaError_t error = forbid_in_capture(nullptr);
        if (error != cudaSuccess) return answer(cudaErrorStreamCaptureImplicit);
    }
    const cudaError_t error = copy(to, to_rows, from, from_rows, kind, nullptr);
    run(resolve(nullptr));
    return answer(error);
}

cudaError_t fill(void* data, int value, Rows rows, CUstream_st* stream) {
    std::lock_guard lock(device().mutex);
    if (empty(rows)) return answer(device().sticky);
    if (!is_device(data) || rows.pitch < rows.width) return answer(cudaErrorInvalidValue);
    return answer(queue(stream, "cudaMemset", [=] {
        if (!valid(data, rows, "cudaMemset")) return;
        for (std::size_t row = 0; row < rows.height; ++row)
            std::memset(static_cast<char*>(data) + row * rows.pitch, value, rows.width);
    }));
}

Rows line(std::size_t bytes) { return {bytes, bytes, 1}; }

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

cudaError_t cudaMallocAsync(void** data, std::size_t bytes, cudaStream_t) {
    std::lock_guard lock(device().mutex);
    if (!data || bytes == 0) return answer(cudaErrorInvalidValue);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    *data = allocate_device(bytes);
    return answer(*data ? cudaSuccess : cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
    return queue(stream, "cudaFreeAsync", [data] {
        const std::string wrong = free_device(data);
        if (!wrong.empty()) raise(cudaErrorIllegalAddress, "cudaFreeAsync: " + wrong);
    });
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
    std::lock_guard lock(device().mutex);
    *total = device_memory_limit();
    *free = *total - std::min(*total, device_bytes_used());
    return answer(cudaSuccess);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* data) {
    std::lock_guard lock(device().mutex);
    const bool on_device = is_device_range(data, 1), on_host = is_pinned(data);
    void* address = const_cast<void*>(data);
    attributes->type = on_device ? cudaMemoryTypeDevice : on_host ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
    attributes->device = on_device || on_host ? 0 : -2;
    attributes->devicePointer = on_device || on_host ? address : nullptr;
    attributes->hostPointer = on_device ? nullptr : address;
    return answer(cudaSuccess);
}

// ---- copies and fills ----

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    return copy_and_wait(to, line(bytes), from, line(bytes), kind);
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, line(bytes), from, line(bytes), kind, stream);
}

cudaError_t cudaMemcpy2D(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch, std::size_t width,
                         std::size_t height, cudaMemcpyKind kind) {
    return copy_and_wait(to, {to_pitch, width, height}, from, {from_pitch, width, height}, kind);
}

cudaError_t cudaMemcpy2DAsync(void* to, std::size_t to_pitch, const void* from, std::size_t from_pitch,
                              std::size_t width, std::size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
    return copy(to, {to_pitch, width, height}, from, {from_pitch, width, height}, kind, stream);
}

cudaError_t cudaMemset(void* data, int value, std::size_t bytes) { return fill(data, value, line(bytes), nullptr); }

cudaError_t cudaMemsetAsync(void* data, int value, std::size_t bytes, cudaStream_t stream) {
    return fill(data, value, line(bytes), stream);
}

cudaError_t cudaMemset2DAsync(void* data, std::size_t pitch, int value, std::size_t width, std::size_t height,
                              cudaStream_t stream) {
    return fill(data, value, {pitch, width, height}, stream);
}
