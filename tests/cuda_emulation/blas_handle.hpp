// Common code of the files that emulate cuBLAS.
#pragma once

#include <cublas_v2.h>
#include "streams.hpp"

struct cublasContext {
    cudaStream_t stream = nullptr;
    cublasMath_t math = CUBLAS_DEFAULT_MATH;
    cublasPointerMode_t pointers = CUBLAS_POINTER_MODE_HOST;
    bool workspace = false;  // given by the caller since the last cublasSetStream, which takes it away
};

namespace emulation {

// A scalar argument.
template <class T>
class Scalar {
public:
    Scalar(cublasHandle_t handle, const T* source)
        : source_(handle->pointers == CUBLAS_POINTER_MODE_DEVICE ? source : nullptr), value_(source_ ? T{} : *source) {}
    T get() const { return source_ ? *source_ : value_; }

private:
    const T* source_;
    T value_;
};

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
