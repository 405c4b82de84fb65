// The reductions of cuda/reduce.cuh by Thrust's C++ system, queued as device work.
#pragma once

#include "core/view.hpp"

#include <cuda_runtime.h>

#include <thrust/functional.h>
#include <thrust/system/cpp/execution_policy.h>
#include <thrust/transform_reduce.h>

namespace spikefloss {

inline void reduce_squares(void* temporary, std::size_t& bytes, const float* x, Index count, double* sum,
                           cudaStream_t stream) {
    if (!temporary) {
        bytes = 1;
        return;
    }
    emulation::enqueue(stream, "reduce_squares", [x, count, sum] {
        const auto square = [](float value) { return static_cast<double>(value) * value; };
        *sum = thrust::transform_reduce(thrust::cpp::par, x, x + count, square, 0.0, thrust::plus<double>{});
    });
}

}  // namespace spikefloss
