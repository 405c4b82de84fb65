// The leaky integrate-and-fire neuron with an exponential synapse, one step:
//
//   A[t]   = theta + w[t]   adaptation threshold,   theta   otherwise
//   s[t]   = m[t] if u[t] > A[t] else 0             m[t] = 0 while the neuron is refractory, else 1
//   R(v)   = v (1 - s[t])   reset zero,   v - theta s[t]   reset subtract,   v   reset none
//   i[t+1] = alpha i[t] + total                     total = W_in x[t] + W_rec s[t] + b
//   w[t+1] = rho w[t] + a_u R(u[t]) + a_s s[t]      only with adaptation
//   h      = i[t+1] - w[t+1]   adaptation current,   i[t+1]   otherwise
//   u[t+1] = R(beta u[t] + (1 - beta) h)            reset_delay 1: the reset acts on the step after the spike
//          = beta R(u[t]) + (1 - beta) h            reset_delay 0: it acts at once; the next input counts in full
//
// u[t] is the membrane before the reset of its own spike; threshold, surrogate and readout read it. In derivatives the
// s of R and the m are constants; that of a_s s is psi = m psi(u - A).
//
// alpha = 0 is a delta synapse; alpha = beta = 0 with reset none is the binary unit. alpha = exp(-dt/tau_syn),
// beta = exp(-dt/tau_mem), rho = exp(-dt/tau_adapt). Multiply-adds are explicit so that all backends round alike.
#pragma once

#include "neuron/fused.hpp"
#include "neuron/host_device.hpp"
#include "neuron/surrogate.hpp"

#include <cmath>

namespace spikefloss {

// Constants of all neurons of a network.
struct NeuronModel {
    float threshold = 1.0f;  // theta, unless neurons have their own
    Reset reset = Reset::zero;
    int reset_delay = 1;  // steps from a spike to its reset: 1 or 0
    Surrogate surrogate = Surrogate::fast_sigmoid;
    float sharpness = 5.0f;  // g
    Adaptation adaptation = Adaptation::none;
    bool operator==(const NeuronModel&) const = default;
};

SPIKEFLOSS_HD float spike(float u, float threshold) { return u > threshold ? 1.0f : 0.0f; }

// A
SPIKEFLOSS_HD float adapted_threshold(Adaptation adaptation, float theta, float w) {
    return adaptation == Adaptation::threshold ? theta + w : theta;
}

// What the threshold decides for a neuron in a step: theta, v = u - A, m and s.
struct Firing {
    float theta, v, m, s;
};
SPIKEFLOSS_HD Firing firing(Adaptation adaptation, float theta, float u, float w, bool refractory) {
    const float threshold = adapted_threshold(adaptation, theta, w), m = refractory ? 0.0f : 1.0f;
    return {theta, u - threshold, m, m * spike(u, threshold)};
}

SPIKEFLOSS_HD float next_current(float alpha, float i, float total) { return fmaf(alpha, i, total); }

// w[t+1] from R(u[t]) and s[t]. Its tangent from those of w[t], R(u[t]) and s[t].
SPIKEFLOSS_HD float next_adaptation(float rho, float w, float a_u, float reset_u, float a_s, float s) {
    return fmaf(rho, w, fmaf(a_u, reset_u, a_s * s));
}

// h, and its tangent.
SPIKEFLOSS_HD float adapted_current(Adaptation adaptation, float i_next, float w_next) {
    return adaptation == Adaptation::current ? i_next - w_next : i_next;
}

SPIKEFLOSS_HD float leaky(float beta, float u, float h) { return fmaf(beta, u, (1.0f - beta) * h); }

SPIKEFLOSS_HD float after_reset(Reset reset, float v, float s, float theta) {
    if (reset == Reset::zero) return v * (1.0f - s);
    if (reset == Reset::subtract) return fmaf(-theta, s, v);
    return v;
}

// The membrane that beta multiplies: R(u[t]) for reset_delay 0, else u[t].
SPIKEFLOSS_HD float leaking_membrane(const NeuronModel& model, float theta, float s, float u) {
    return model.reset_delay == 0 ? after_reset(model.reset, u, s, theta) : u;
}

// u[t+1]
SPIKEFLOSS_HD float next_membrane(const NeuronModel& model, float theta, float s, float beta, float u, float h) {
    const float v = leaky(beta, leaking_membrane(model, theta, s, u), h);
    return model.reset_delay == 0 ? v : after_reset(model.reset, v, s, theta);
}
// Without adaptation, refractory steps and own thresholds.
SPIKEFLOSS_HD float next_membrane(const NeuronModel& model, float beta, float u, float i_next) {
    return next_membrane(model, model.threshold, spike(u, model.threshold), beta, u, i_next);
}

// c = dR(v) / dv. Tangents and adjoints of the membrane are multiplied by it.
SPIKEFLOSS_HD float reset_factor(Reset reset, float s) { return reset == Reset::zero ? 1.0f - s : 1.0f; }

// d u[t+1] = f (beta q d u[t] + (1 - beta) d h) with f = c, q = 1 (reset_delay 1) or f = 1, q = c (reset_delay 0).
SPIKEFLOSS_HD float factor_after(int reset_delay, float c) { return reset_delay == 0 ? 1.0f : c; }   // f
SPIKEFLOSS_HD float factor_before(int reset_delay, float c) { return reset_delay == 0 ? c : 1.0f; }  // q

// The tangent of u[t+1] from those of u[t] and h.
SPIKEFLOSS_HD float tangent_membrane(int reset_delay, float c, float beta, float q_u, float p_h) {
    return factor_after(reset_delay, c) * leaky(beta, factor_before(reset_delay, c) * q_u, p_h);
}

// The adjoints of k = beta q u[t] + (1 - beta) h, of i[t+1] and of w[t+1], from those of the state of step t+1.
struct StepAdjoint {
    float dk, g, gw;
};
SPIKEFLOSS_HD StepAdjoint step_adjoint(const NeuronModel& model, float c, float beta, float di, float du, float dw) {
    const float dk = du * factor_after(model.reset_delay, c);
    return {dk, fmaf(1.0f - beta, dk, di), model.adaptation == Adaptation::current ? fmaf(beta - 1.0f, dk, dw) : dw};
}

}  // namespace spikefloss
