// The flossing penalty L = weight mean_j d_j^2 over k surrogate Lyapunov exponents, the leading ones or those after the
// first `skipped`, and its gradient. The
// gradient has two parts: directly through the tangent map, and through the trajectory, on which the tangent map
// depends.
#pragma once

#include "lyapunov/spectrum.hpp"

namespace spikefloss {

// d_j is lambda_j - target_j above the target, lambda_j - target_j + slack below target_j - slack, and 0 between.
struct Penalty {
    std::vector<double> target = {0.0};  // per step; one for all exponents, or one for each
    double slack = 0.0;                  // >= 0, per step
    double weight = 1.0;                 // of the gradient
    Index skipped = 0;                   // exponents before these, which are only measured
    TargetFrom from = TargetFrom::zero;  // what target is counted from
};

struct FlossingOptions {
    TangentOptions tangent;
    bool through_state = true;    // also the gradient through the trajectory
    bool time_constants = false;  // also with respect to alpha and beta
};

struct PenaltyValue {
    double loss = 0.0;  // mean_j d_j^2
    Spectrum spectrum;
};

class FlossingPass {
public:
    // T steps, `batch` sequences on all ranks together. This rank has its share, which can be empty.
    // q0 as in TangentPass::forward.
    FlossingPass(Backend& backend, const ProcessGrid& grid, const Network& network, FlossingOptions options, Index T,
                 Index batch, std::vector<float> q0);

    // Throws Error(Exit::usage) unless there is one target, or one for each of the `exponents` that are not skipped.
    static void check(const Penalty& penalty, Index exponents);

    // Runs the network on x [T, b, M] and adds the penalty's gradient for this rank's sequences to `gradient`. The
    // caller then sums over `batch`. through: state_norms and complete of the last pass, which is the one through the
    // trajectory. Collective.
    PenaltyValue run(const Network& network, InputView x, const Penalty& penalty, SumBuffer& gradient,
                     BackwardOptions through = {});

    StatePass& state() { return state_; }
    TangentPass& tangents() { return tangents_; }

private:
    // The mean of ln rho over all neurons. Collective.
    double log_decay(const Network& network) const;

    Backend& backend_;
    const ProcessGrid& grid_;
    FlossingOptions options_;
    Index batch_;
    BlockRange mine_;
    std::vector<float> q0_;
    StatePass state_;
    TangentPass tangents_;
    Buffer<float> extra_;   // e [T+1, b, n]
    Buffer<float> unused_;  // of this size, for the direct gradient of thresholds; else empty
};

}  // namespace spikefloss
