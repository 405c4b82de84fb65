// The leaky integrate-and-fire neuron with an exponential synapse, one step:
//
//   i[t+1] = alpha i[t] + total              total = W_in x[t] + W_rec s[t] + b
//   v      = beta u[t] + (1 - beta) i[t+1]
//   u[t+1] = v (1 - s[t])   reset zero,   v - theta s[t]   reset subtract,   v   reset none
//   s[t]   = 1 if u[t] > theta else 0
//
// alpha = 0 is a delta synapse; alpha = beta = 0 with reset none is the binary unit. alpha = exp(-dt/tau_syn),
// beta = exp(-dt/tau_mem). Multiply-adds are explicit so that all backends round alike.
#pragma once

#include "neuron/host_device.hpp"
#include "neuron/surrogate.hpp"

#include <cmath>

namespace spikefloss {

// Constants of all neurons of a network.
struct NeuronModel {
    float threshold = 1.0f;  // theta
    Reset reset = Reset::zero;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    float sharpness = 5.0f;  // g
    bool operator==(const NeuronModel&) const = default;
};

SPIKEFLOSS_HD float spike(float u, float theta) { return u > theta ? 1.0f : 0.0f; }

SPIKEFLOSS_HD float next_current(float alpha, float i, float total) { return fmaf(alpha, i, total); }

SPIKEFLOSS_HD float leaky(float beta, float u, float i_next) { return fmaf(beta, u, (1.0f - beta) * i_next); }

SPIKEFLOSS_HD float after_reset(Reset reset, float v, float s, float theta) {
    if (reset == Reset::zero) return v * (1.0f - s);
    if (reset == Reset::subtract) return fmaf(-theta, s, v);
    return v;
}

// d u[t+1] / d v. The reset multiplies tangents and adjoints by this factor.
SPIKEFLOSS_HD float reset_factor(Reset reset, float s) { return reset == Reset::zero ? 1.0f - s : 1.0f; }

}  // namespace spikefloss
