// The reductions of cuda/reduce.cuh by Thrust's C++ system, queued as device work.
#pragma once

#include "check.hpp"

#include "core/view.hpp"

#include <cuda_runtime.h>

namespace emulation {

// The sum of squares of x[count], in double (thrust_reduce.cpp).
double squares_by_thrust(const float* x, spikefloss::Index count);

}  // namespace emulation

namespace spikefloss {

inline void reduce_squares(void* temporary, std::size_t& bytes, const float* x, Index count, double* sum,
                           cudaStream_t stream) {
    if (!temporary) {
        bytes = 1;
        return;
    }
    emulation::enqueue(stream, "reduce_squares", [x, count, sum] { *sum = emulation::squares_by_thrust(x, count); });
    check(cudaPeekAtLastError(), "cub::DeviceReduce::TransformReduce");  // as CUB, which thus returns earlier errors
}

}  // namespace spikefloss
