// Makes the CUDA backend on the GPU of a rank, and describes the GPUs for `info`.
#include "make_cuda.hpp"

#include "core/error.hpp"
#include "cuda_backend.hpp"

#include <algorithm>

namespace spikefloss {

std::unique_ptr<Backend> make_cuda_backend(const BackendChoice& choice) {
    const std::string fault = cuda_fault();
    require(fault.empty(), Exit::usage, fmt::format("backend 'cuda' cannot run here: {}", fault),
            "use a machine with an NVIDIA GPU and a driver for CUDA 13 or later, or backend cpu");
    const int devices = device_count();
    require(choice.share_device || choice.local_ranks <= devices, Exit::usage,
            fmt::format("{} ranks on this machine, but it has {} GPU{}", choice.local_ranks, devices,
                        devices == 1 ? "" : "s"),
            "start one rank per GPU; or set parallel.comm = \"staged\", which lets ranks share a GPU (slower)");
    Device device = describe_device(choice.local_rank % devices);
    if (choice.limits.shared_per_block) device.shared_per_block = choice.limits.shared_per_block;
    if (choice.limits.multiprocessors)
        device.multiprocessors = std::min(device.multiprocessors, choice.limits.multiprocessors);
    if (!choice.limits.clusters) device.major = std::min(device.major, 8);
    return std::make_unique<CudaBackend>(device, choice.sums, choice.precision, choice.without_passes);
}

std::string cuda_fault() {
    int devices = 0;
    const cudaError_t result = cudaGetDeviceCount(&devices);
    if (result != cudaSuccess) {
        cudaGetLastError();  // an error that is reported here must not appear again at the next call
        return fmt::format("no CUDA device: {} ({})", cudaGetErrorString(result), cudaGetErrorName(result));
    }
    return devices > 0 ? "" : "no CUDA device: the driver finds none";
}

std::vector<std::string> cuda_device_texts() {
    const std::string fault = cuda_fault();
    if (!fault.empty()) return {fault};
    std::vector<std::string> texts;
    for (int id = 0; id < device_count(); ++id) {
        const Device device = describe_device(id);
        texts.push_back(fmt::format("GPU {}: {}, compute capability {}.{}, {} multiprocessors, {:.1f} GiB, {}", id,
                                    device.name, device.major, device.minor, device.multiprocessors,
                                    static_cast<double>(device.memory) / 0x1p30, device.uuid));
    }
    return texts;
}

}  // namespace spikefloss
