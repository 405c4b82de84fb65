// Reductions over a whole array on the device, by CUB, with temporary memory given by the caller. Their result depends
// on the shape and the device alone. Where __CUDACC__ is missing, emulated_reduce.hpp (tests/cuda_emulation) stands in,
// with Thrust's host system. Included by sums.cu only: CUB takes long to compile.
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

// *sum = the sum of squares of x[count], in double. With temporary null only `bytes`, the temporary memory it needs, is
// written.
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
