// The properties of this machine's GPUs, from the CUDA runtime.
#include "device.hpp"

#include "check.hpp"
#include "core/error.hpp"

namespace spikefloss {
namespace {

int attribute(cudaDeviceAttr which, int id) {
    int value = 0;
    check(cudaDeviceGetAttribute(&value, which, id), "cudaDeviceGetAttribute");
    return value;
}

}  // namespace

int device_count() {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
    cudaGetLastError();  // a missing driver means 0 devices; the next call must not report it as an error
    return 0;
}

Device describe_device(int id) {
    const int devices = device_count();
    require(id >= 0 && id < devices, Exit::usage, fmt::format("there is no GPU {}: this process sees {}", id, devices),
            "start at most one rank per GPU, and check CUDA_VISIBLE_DEVICES");
    cudaDeviceProp properties = {};
    check(cudaGetDeviceProperties(&properties, id), "cudaGetDeviceProperties");
    Device device;
    device.id = id;
    device.name = properties.name;
    device.uuid = "GPU-";
    for (int i = 0; i < 4; ++i)
        device.uuid += fmt::format("{:02x}", static_cast<unsigned char>(properties.uuid.bytes[i]));
    device.major = attribute(cudaDevAttrComputeCapabilityMajor, id);
    device.minor = attribute(cudaDevAttrComputeCapabilityMinor, id);
    device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount, id);
    device.shared_per_block = static_cast<std::size_t>(attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, id));
    device.memory = properties.totalGlobalMem;
    return device;
}

}  // namespace spikefloss
