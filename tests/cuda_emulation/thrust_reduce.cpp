// Reductions by Thrust's C++ system. This file includes no header of the emulation, because Thrust would take it for a
// header of the CUDA toolkit.
#include "core/view.hpp"

#include <thrust/functional.h>
#include <thrust/system/cpp/execution_policy.h>
#include <thrust/transform_reduce.h>

namespace emulation {

double squares_by_thrust(const float* x, spikefloss::Index count);

double squares_by_thrust(const float* x, spikefloss::Index count) {
    const auto square = [](float value) { return static_cast<double>(value) * value; };
    return thrust::transform_reduce(thrust::cpp::par, x, x + count, square, 0.0, thrust::plus<double>{});
}

}  // namespace emulation
