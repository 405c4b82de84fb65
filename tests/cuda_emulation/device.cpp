// The emulated device itself, and the names of errors.
#include "memory.hpp"
#include "settings.hpp"
#include "streams.hpp"

#include <cstdio>
#include <cstring>

using namespace emulation;

namespace {

int devices() { return static_cast<int>(setting("SPIKEFLOSS_EMULATION_DEVICES", 1)); }
thread_local int current_device = 0;

bool is_device_number(int n) { return n >= 0 && n < devices(); }

struct Named {
    cudaError_t error;
    const char *name, *text;
};
constexpr Named errors[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration", "invalid configuration argument"},
    {cudaErrorInsufficientDriver, "cudaErrorInsufficientDriver",
     "CUDA driver version is insufficient for CUDA runtime version"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoKernelImageForDevice, "cudaErrorNoKernelImageForDevice",
     "no kernel image is available for execution on the device"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress", "an illegal memory access was encountered"},
    {cudaErrorMisalignedAddress, "cudaErrorMisalignedAddress", "misaligned address"},
    {cudaErrorLaunchOutOfResources, "cudaErrorLaunchOutOfResources", "too many resources requested for launch"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorCooperativeLaunchTooLarge, "cudaErrorCooperativeLaunchTooLarge", "too many blocks in cooperative launch"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureUnmatched, "cudaErrorStreamCaptureUnmatched",
     "capture was not ended in the same stream as it began"},
    {cudaErrorStreamCaptureUnjoined, "cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorInvalidClusterSize, "cudaErrorInvalidClusterSize", "cluster misconfiguration"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"},
};

const Named& named(cudaError_t error) {
    for (const Named& entry : errors)
        if (entry.error == error) return entry;
    static constexpr Named unrecognised = {cudaErrorUnknown, "unrecognized error code", "unrecognized error code"};
    return unrecognised;
}

}  // namespace

const char* cudaGetErrorString(cudaError_t error) { return named(error).text; }
const char* cudaGetErrorName(cudaError_t error) { return named(error).name; }

cudaError_t cudaGetLastError() {
    std::lock_guard lock(device().mutex);
    const cudaError_t error = device().sticky != cudaSuccess ? device().sticky : device().last;
    device().last = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError() {
    std::lock_guard lock(device().mutex);
    return device().sticky != cudaSuccess ? device().sticky : device().last;
}

cudaError_t cudaGetDeviceCount(int* count) {
    *count = devices();
    return answer(*count > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int n) {
    if (!is_device_number(n)) return answer(devices() > 0 ? cudaErrorInvalidDevice : cudaErrorNoDevice);
    current_device = n;
    return answer(cudaSuccess);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int n) {
    if (!is_device_number(n)) return answer(cudaErrorInvalidDevice);
    *p = {};
    std::snprintf(p->name, sizeof p->name, "emulated device");
    std::memset(p->uuid.bytes, n + 1, sizeof p->uuid.bytes);
    p->totalGlobalMem = device_memory_limit();
    p->major = capability() / 10;
    p->minor = capability() % 10;
    p->multiProcessorCount = multiprocessors();
    p->sharedMemPerBlockOptin = shared_per_block_limit();
    return answer(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int n) {
    cudaDeviceProp p;
    if (const cudaError_t error = cudaGetDeviceProperties(&p, n)) return error;
    switch (attribute) {
        case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
        case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
        case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
        case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = static_cast<int>(p.sharedMemPerBlockOptin); break;
    }
    return answer(cudaSuccess);
}

cudaError_t cudaDeviceReset() {
    std::lock_guard lock(device().mutex);
    Device& d = device();
    for (CUstream_st* stream : d.streams) delete stream;
    d.streams.clear();
    d.captures.clear();
    d.default_stream.queue.clear();
    d.sticky = d.last = cudaSuccess;
    free_all_device();
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return answer(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int* version) {
    *version = devices() > 0 ? CUDART_VERSION : 0;
    return answer(cudaSuccess);
}
