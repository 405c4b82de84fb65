// The penalty on firing. With s[t, s, j] the spike of neuron j at step t of sequence s,
//
//   C_j = mean over the B sequences of the sum over t = 1..T of s[t, s, j]        r_j = C_j / T
//   R   = mean over the N neurons of
//         l1 C_j + l2 C_j^2 + bound (max(0, lower - r_j) + max(0, r_j - upper))
//
// Both means are over all ranks, so R does not depend on the grid. dR/ds[t, s, j] is the same for all t and s.
#pragma once

#include "backend/buffer.hpp"
#include "network/spike_tape.hpp"

namespace spikefloss {

struct RateOptions {
    double l1 = 0.0, l2 = 0.0, bound = 0.0;  // weights
    double lower = 0.0, upper = 1.0;         // spikes per step
    bool active() const { return l1 > 0.0 || l2 > 0.0 || bound > 0.0; }
};

class RatePenalty {
public:
    // N neurons; T steps, b sequences of this rank, B of all ranks.
    RatePenalty(Backend& backend, const ProcessGrid& grid, RateOptions options, Index N, Index T, Index b, Index B);

    // R of these spikes; then spike_adjoint() is dR/ds [n]. Collective.
    double evaluate(const SpikeTape& spikes);
    const float* spike_adjoint() const { return adjoint_.data(); }

private:
    Backend& backend_;
    const ProcessGrid& grid_;
    RateOptions options_;
    Index N_, n_, T_, b_, B_;
    Index chunk_;          // steps that are counted at a time
    Buffer<float> ones_;   // [chunk b]
    SumBuffer counts_;     // [n], over steps and sequences
    Buffer<float> count_;  // rounded
    Buffer<float> adjoint_;
};

}  // namespace spikefloss
