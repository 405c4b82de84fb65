// The flossing penalty L = mean_j (lambda_j - target_j)^2 and its gradients: the direct one, with the trajectory held
// fixed, and the one that also runs through the trajectory by way of the terms e[t] = dL/dv[t].
#pragma once

#include "reference/lyapunov.hpp"

namespace spikefloss::reference {

struct Floss {
    double value = 0.0;
    Parameters direct;  // gradient with the trajectory held fixed (w_rec and the vectors of neurons; the rest is 0)
    Gradients through_state;  // total gradient; its state_gradient_norm is that of the pass with only e
    std::vector<double> e;    // [T+1, B, N] dL/dv[t] through the tangent map; e[T] = 0
    Spectrum spectrum;
};
// target [k]; empty means 0.
double penalty(const std::vector<double>& lambda, const std::vector<double>& target = {});
Floss floss(const Network& net, const Sequences& seq, const Trajectory& trajectory, const SpectrumOptions& options = {},
            const std::vector<double>& target = {});

}  // namespace spikefloss::reference
