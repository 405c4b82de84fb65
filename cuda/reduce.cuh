// Reductions over a whole array on the device, by CUB. The caller provides the temporary memory. The order of the sum
// depends only on the shape and the device. Without __CUDACC__, emulated_reduce.hpp (tests/cuda_emulation) replaces it,
// with Thrust's host system. Only sums.cu includes this file, because CUB takes long to compile.
#pragma once

#include "check.hpp"

#include "core/view.hpp"

#include <cuda_runtime.h>

#ifdef __CUDACC__

#include <cub/device/device_reduce.cuh>

namespace spikefloss {

struct WideSquare {
    __host__ __device__ double operator()(float x) const { return static_cast<double>(x) * x; }
};

// *sum = the sum of squares of x[count], in double. If `temporary` is null, only writes the size it must have to
// `bytes`.
inline void reduce_squares(void* temporary, std::size_t& bytes, const float* x, Index count, double* sum,
                           cudaStream_t stream) {
    check(cub::DeviceReduce::TransformReduce(temporary, bytes, x, sum, count, cuda::std::plus<double>{}, WideSquare{},
                                             0.0, stream),
          "cub::DeviceReduce::TransformReduce");
}

}  // namespace spikefloss

#else
#include "emulated_reduce.hpp"
#endif
