// The whole passes of the CUDA backend.
#pragma once

#include "cuda_backend.hpp"

#include "backend/state_passes.hpp"

namespace spikefloss {

// team_forward.cu, team_backward.cu: W_rec in shared memory, one launch for all steps.
bool fits_team_forward(CudaBackend& backend, const StatePlan& plan);
std::unique_ptr<StateForward> team_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory);
// A lane of a product takes 1 or 4 columns.
template <int lane_columns>
bool fits_team_backward(CudaBackend& backend, const StatePlan& plan);
template <int lane_columns>
std::unique_ptr<StateBackward> team_backward(CudaBackend& backend, const StatePlan& plan, Memory& memory);

// products_forward.cu, digits_backward.cu: a product on the tensor cores and a few kernels per step. The factors are
// int8 digits, or forwards also bfloat16 parts.
std::unique_ptr<StateForward> digits_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory);
bool fits_digits_backward(CudaBackend& backend, const StatePlan& plan);
std::unique_ptr<StateBackward> digits_backward(CudaBackend& backend, const StatePlan& plan, Memory& memory);
std::unique_ptr<StateForward> products_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory);

}  // namespace spikefloss
