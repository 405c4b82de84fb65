// The whole passes of the CUDA backend.
#pragma once

#include "cuda_backend.hpp"

#include "backend/state_passes.hpp"

#include <optional>

namespace spikefloss {

// Predicted microseconds of one step of all sequences. Empty: the pass does not fit, or steps take less.
using StepTime = std::optional<double>;

// team_forward.cu, team_backward.cu: W_rec in shared memory, one launch for all steps. In the products of the backward
// pass a lane takes 1 or 4 columns.
StepTime team_forward_time(CudaBackend& backend, const StatePlan& plan);
std::unique_ptr<StateForward> team_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory);
template <int lane_columns>
StepTime team_backward_time(CudaBackend& backend, const StatePlan& plan);
template <int lane_columns>
std::unique_ptr<StateBackward> team_backward(CudaBackend& backend, const StatePlan& plan, Memory& memory);

// A backward call: the readout's part, take_steps, and the sums over all steps. take_steps turns adjoint [steps, b, N]
// from the gradient of the readout, if the call has one, into g.
void run_backward(CudaBackend& backend, const StatePlan& plan, const StateBackwardCall& call, float* adjoint,
                  const std::function<void()>& take_steps, const std::function<void()>& recurrent_done);

// products_forward.cu, digits_backward.cu: a product on the tensor cores and a few kernels per step. The factors are
// int8 digits, or forwards also bfloat16 parts. The times of these steps are in team_plan.hpp.
std::unique_ptr<StateForward> digits_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory);
std::unique_ptr<StateForward> products_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory);
std::unique_ptr<StateBackward> digits_backward(CudaBackend& backend, const StatePlan& plan, Memory& memory);

}  // namespace spikefloss
