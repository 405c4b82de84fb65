// The dimension D of the state of a network, on which its tangent vectors live.
#pragma once

#include "core/view.hpp"

#include <cmath>

namespace spikefloss {

// The current (unless none is left after a step), the membrane and, where neurons adapt, the adaptation of every
// neuron.
constexpr Index state_parts(bool has_current, bool has_adaptation) { return 1 + has_current + has_adaptation; }
constexpr Index state_size(Index neurons, bool has_current, bool has_adaptation = false) {
    return neurons * state_parts(has_current, has_adaptation);
}

// Whether exp(-1 / tau), tau in steps, is above 0 in float32, in which networks are stored.
inline bool lasts_a_step(double tau) { return tau > 0.0 && static_cast<float>(std::exp(-1.0 / tau)) != 0.0f; }

}  // namespace spikefloss
