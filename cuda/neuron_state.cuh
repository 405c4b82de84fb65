// The neurons of a step operation, as its kernels read them.
#pragma once

#include "kernel.cuh"

#include "backend/backend.hpp"

namespace spikefloss {

// What the threshold decides for neuron j of a row.
__device__ inline Firing firing_of(const NeuronModel& model, const NeuronVectors& neurons, const NeuronState& state,
                                   Index row, Index n, Index j) {
    const Index at = row * n + j;
    const float theta = neurons.threshold ? neurons.threshold[j] : model.threshold;
    const float w = model.adaptation == Adaptation::threshold ? state.w[at] : 0.0f;
    const bool refractory = state.refractory.steps > 0 && (state.refractory.bits(row, j / 32) >> (j % 32) & 1u);
    return firing(model.adaptation, theta, state.u[at], w, refractory);
}

__device__ inline float psi_of(const NeuronModel& model, const Firing& at) {
    return at.m * surrogate_psi(model.surrogate, at.v, model.sharpness);
}

}  // namespace spikefloss
