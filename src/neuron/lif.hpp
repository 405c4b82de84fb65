// The leaky integrate-and-fire neuron with an exponential synapse, one step:
//
//   i[t+1] = alpha i[t] + total                total = W_in x[t] + W_rec s[t] + b
//   s[t]   = 1 if u[t] > theta else 0
//   R(v)   = v (1 - s[t])   reset zero,   v - theta s[t]   reset subtract,   v   reset none
//   u[t+1] = R(beta u[t] + (1 - beta) i[t+1])  reset_delay 1: the reset acts on the step after the spike
//          = beta R(u[t]) + (1 - beta) i[t+1]  reset_delay 0: it acts at once; the next input counts in full
//
// u[t] is the membrane before the reset of its own spike; threshold, surrogate and readout read it.
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
    int reset_delay = 1;  // steps from a spike to its reset: 1 or 0
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

// The membrane that beta multiplies: R(u[t]) for reset_delay 0, else u[t].
SPIKEFLOSS_HD float leaking_membrane(const NeuronModel& model, float u) {
    return model.reset_delay == 0 ? after_reset(model.reset, u, spike(u, model.threshold), model.threshold) : u;
}

// u[t+1]
SPIKEFLOSS_HD float next_membrane(const NeuronModel& model, float beta, float u, float i_next) {
    const float v = leaky(beta, leaking_membrane(model, u), i_next);
    return model.reset_delay == 0 ? v : after_reset(model.reset, v, spike(u, model.threshold), model.threshold);
}

// c = dR(v) / dv. Tangents and adjoints of the membrane are multiplied by it.
SPIKEFLOSS_HD float reset_factor(Reset reset, float s) { return reset == Reset::zero ? 1.0f - s : 1.0f; }

// d u[t+1] = f (beta q d u[t] + (1 - beta) d i[t+1]) with f = c, q = 1 (reset_delay 1) or f = 1, q = c (reset_delay 0).
SPIKEFLOSS_HD float factor_after(int reset_delay, float c) { return reset_delay == 0 ? 1.0f : c; }   // f
SPIKEFLOSS_HD float factor_before(int reset_delay, float c) { return reset_delay == 0 ? c : 1.0f; }  // q

// The tangent of u[t+1] from those of u[t] and i[t+1].
SPIKEFLOSS_HD float tangent_membrane(int reset_delay, float c, float beta, float q_u, float p_i) {
    return factor_after(reset_delay, c) * leaky(beta, factor_before(reset_delay, c) * q_u, p_i);
}

}  // namespace spikefloss
