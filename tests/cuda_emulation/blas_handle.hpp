// Common code of the files that emulate cuBLAS.
#pragma once

#include <cublas_v2.h>
#include "streams.hpp"

struct cublasContext {
    cudaStream_t stream = nullptr;
    bool workspace = false;  // given by the caller since the last cublasSetStream, which takes it away
};

namespace emulation {

// In a capture cuBLAS must have the caller's work space: it would record allocations.
inline cublasStatus_t enqueue(cublasHandle_t handle, const char* name, std::function<void()> work) {
    const auto& capture = resolve(handle->stream)->capture;
    if (capture && !handle->workspace) {
        capture->invalid = true;
        return CUBLAS_STATUS_EXECUTION_FAILED;
    }
    return queue(handle->stream, name, std::move(work)) == cudaSuccess ? CUBLAS_STATUS_SUCCESS
                                                                       : CUBLAS_STATUS_EXECUTION_FAILED;
}

}  // namespace emulation
