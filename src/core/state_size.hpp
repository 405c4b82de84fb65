// The dimension D of the state of a network, on which its tangent vectors live.
#pragma once

#include "core/view.hpp"

#include <cmath>

namespace spikefloss {

// The current and the membrane of every neuron; the membranes alone if no current is left after a step.
constexpr Index state_size(Index neurons, bool has_current) { return has_current ? 2 * neurons : neurons; }

// Whether exp(-1 / tau), tau in steps, is above 0 in float32, in which networks are stored.
inline bool lasts_a_step(double tau) { return tau > 0.0 && static_cast<float>(std::exp(-1.0 / tau)) != 0.0f; }

}  // namespace spikefloss
