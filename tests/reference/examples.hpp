// Small random networks and inputs for tests, the same for the same seed on every machine.
#pragma once

#include "reference/model.hpp"

namespace spikefloss::reference {

struct Example {
    Index neurons = 5, inputs = 3, outputs = 2, steps = 12, batch = 2, exponents = 3;
    Reset reset = Reset::zero;
    int reset_delay = 1;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    Readout readout = Readout::membrane;
    LossKind loss = LossKind::binary_cross_entropy;
    double sharpness = 1.0;
    double gain = 1.0;           // W_rec ~ Gaussian of variance gain^2 / N
    bool has_current = true;     // false: alpha = 0, D = N
    bool initial_state = false;  // i[0], u[0], w[0] Gaussian instead of absent
    Adaptation adaptation = Adaptation::none;
    bool own_thresholds = false;
    Index refractory = 0;
    bool own_lengths = false;  // of the sequences
    std::uint64_t seed = 1;
};

// Every neuron has its own alpha in (0.3, 0.9) (or 0), beta in (0.4, 0.95), theta in (0.5, 1.5) or 1, rho in (0.5,
// 0.95), a_u in (-0.1, 0.3), a_s in (0.1, 0.5), every readout its own kappa in (0.2, 0.9); the bias keeps rates around
// one half.
Network random_network(const Example& example);
// x Gaussian; mask 0 in the first quarter of the steps, or with own_lengths also from a random step of each sequence
// on; targets or labels for the loss; orthonormal q0 [B, D, k].
Sequences random_sequences(const Example& example);

}  // namespace spikefloss::reference
