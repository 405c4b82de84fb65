// The whole passes of the CPU backend.
#pragma once

#include "backend/cpu_backend.hpp"
#include "backend/state_passes.hpp"

namespace spikefloss {

// cpu_network_pass.cpp: fuses inputs and readout, for networks whose gradients fit the cache of a core.
inline constexpr Index largest_fused_network = 160, largest_side = 8;
std::unique_ptr<StateForward> network_forward(CpuBackend& backend, const StatePlan& plan, Memory& memory);
std::unique_ptr<StateBackward> network_backward(CpuBackend& backend, const StatePlan& plan, Memory& memory);

// cpu_row_pass.cpp: a product for all inputs, then the steps of each sequence, then a product for the readout.
std::unique_ptr<StateForward> row_forward(CpuBackend& backend, const StatePlan& plan, Memory& memory);
std::unique_ptr<StateBackward> row_backward(CpuBackend& backend, const StatePlan& plan, Memory& memory);

}  // namespace spikefloss
