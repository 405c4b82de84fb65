// Reductions by Thrust's C++ system. In a file that sees none of the emulation's headers, which Thrust would take for
// those of the CUDA toolkit.
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
