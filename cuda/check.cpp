#include "check.hpp"

#include "core/error.hpp"

namespace spikefloss {

void check(cudaError_t result, const char* call, std::source_location place) {
    if (result == cudaSuccess) return;
    cudaGetLastError();  // reported here; later calls must not report it again
    const bool memory = result == cudaErrorMemoryAllocation;
    const char* advice =
        memory
            ? "use a smaller batch, fewer neurons or exponents, a shorter horizon, tape = \"segments\", or more ranks; "
              "spikefloss info CONFIG shows what a config needs"
        : result == cudaErrorInsufficientDriver || result == cudaErrorNoDevice
            ? "use a machine with an NVIDIA GPU and a driver for CUDA 13 or later, or parallel.backend = \"cpu\""
        : result == cudaErrorNoKernelImageForDevice
            ? "configure with -DCMAKE_CUDA_ARCHITECTURES=<this GPU's compute capability> and build again"
            : "run the program under compute-sanitizer to find the kernel at fault, and report it";
    throw Error(memory ? Exit::usage : Exit::internal,
                fmt::format("{} failed: {} ({})", call, cudaGetErrorString(result), cudaGetErrorName(result)), advice,
                place);
}

void check(cublasStatus_t result, const char* call, std::source_location place) {
    if (result == CUBLAS_STATUS_SUCCESS) return;
    const bool memory = result == CUBLAS_STATUS_ALLOC_FAILED;
    throw Error(
        memory ? Exit::usage : Exit::internal,
        fmt::format("{} failed: {} ({})", call, cublasGetStatusString(result), cublasGetStatusName(result)),
        memory ? "the device has no memory left for cuBLAS: use a smaller batch or fewer neurons"
               : "this is a defect of spikefloss, or the device is in a bad state (see nvidia-smi); please report it",
        place);
}

void check(cusolverStatus_t result, const char* call, std::source_location place) {
    if (result == CUSOLVER_STATUS_SUCCESS) return;
    const bool memory = result == CUSOLVER_STATUS_ALLOC_FAILED;
    throw Error(
        memory ? Exit::usage : Exit::internal,
        fmt::format("{} failed: cuSOLVER status {}", call, static_cast<int>(result)),
        memory ? "the device has no memory left for cuSOLVER: use fewer exponents or a smaller batch"
               : "this is a defect of spikefloss, or the device is in a bad state (see nvidia-smi); please report it",
        place);
}

}  // namespace spikefloss
