// The flossing penalty L = mean_j d_j^2 over the k leading surrogate Lyapunov exponents, and its gradient. d_j is the
// distance of lambda_j from target_j. The gradient has two parts: directly through the tangent map, and through the
// trajectory, on which the tangent map depends.
#pragma once

#include "lyapunov/spectrum.hpp"

namespace spikefloss {

struct PenaltyOptions {
    TangentOptions tangent;
    std::vector<double> target = {0.0};  // per step; one for all exponents, or one for each
    bool through_state = true;           // also the gradient through the trajectory
    bool time_constants = false;         // also with respect to alpha and beta
};

struct Penalty {
    double loss = 0.0;
    Spectrum spectrum;
};

class FlossingPass {
public:
    // T steps, `batch` sequences on all ranks together. This rank has its share, which can be empty.
    // q0 as in TangentPass::forward.
    FlossingPass(Backend& backend, const ProcessGrid& grid, const Network& network, PenaltyOptions options, Index T,
                 Index batch, std::vector<float> q0);

    // Returns the options. Throws Error(Exit::usage) unless there is one target, or one for each exponent.
    static PenaltyOptions checked(PenaltyOptions options);

    // Runs the network on x [T, b, M] and adds weight times the penalty's gradient for this rank's sequences to
    // `gradient`. The caller then sums over `batch`. through: state_norms and complete of the last pass, which is the
    // one through the trajectory. slack >= 0, per step: exponents between target - slack and target are not
    // penalised. Collective.
    Penalty run(const Network& network, const float* x, double weight, SumBuffer& gradient,
                BackwardOptions through = {}, double slack = 0.0);

    StatePass& state() { return state_; }
    TangentPass& tangents() { return tangents_; }

private:
    // d [k], per step: lambda_j - target_j above the target, lambda_j - target_j + slack below target_j - slack, 0
    // between.
    std::vector<double> distances(const std::vector<double>& exponents, double slack) const;

    const ProcessGrid& grid_;
    PenaltyOptions options_;
    Index batch_;
    BlockRange mine_;
    std::vector<float> q0_;
    StatePass state_;
    TangentPass tangents_;
    Buffer<float> extra_;  // e [T+1, b, n]
};

}  // namespace spikefloss
