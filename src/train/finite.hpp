// Errors for results that are not finite, of the commands and of the library.
#pragma once

#include "network/state_pass.hpp"
#include "train/gradient.hpp"

namespace spikefloss {

// Throws Error(Exit::numerics) if a membrane is not finite. The error names the first such step and these sequences and
// neurons, which are those of this rank. Needs the full tape. Collective.
void require_finite_states(Backend& backend, const ProcessGrid& grid, const StatePass& state, BlockRange sequences,
                           BlockRange neurons);

// The same for a loss and its gradient. Collective.
void require_finite_gradients(const ProcessGrid& grid, double loss, const GradientNorms& norms);

}  // namespace spikefloss
