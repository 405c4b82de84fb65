// The network's trajectory, its losses, and backpropagation through time.
//
//   i[t+1] = alpha i[t] + W_in x[t] + W_rec s[t] + b          h = i[t+1], or i[t+1] - w[t+1] (adaptation current)
//   w[t+1] = rho w[t] + a_u R(u[t]) + a_s s[t]                R(u) = u (1-s[t]) | u - theta s[t] | u
//   u[t+1] = R(beta u[t] + (1-beta) h) | beta R(u[t]) + (1-beta) h                        (reset_delay 1 | 0)
//   s[t] = m H(v[t]),  v = u - theta, or u - theta - w (adaptation threshold);  m = 0 for `refractory` steps after a
//   spike r[t+1] = kappa r[t] + (1-kappa) (W_out z[t+1] + b_out)    z = u or s,  y[t] = r[t+1],  r[0] = 0
#pragma once

#include "reference/model.hpp"

namespace spikefloss::reference {

struct Trajectory {
    Index steps = 0, batch = 0, neurons = 0;  // T, B, N
    std::vector<double> current;              // [T+1, B, N] i
    std::vector<double> membrane;             // [T+1, B, N] u
    std::vector<double> adaptation;           // [T+1, B, N] w, 0 without adaptation
    std::vector<double> v, m;                 // [T+1, B, N]
    std::vector<double> spikes;               // [T+1, B, N] s, input of W_rec and of the readout
    std::vector<double> reset_spikes;         // [T+1, B, N] input of the reset; equal to spikes unless smooth
    std::vector<double> readout;              // [T, B, O] y

    // The place of the N values of step t, sequence b.
    Index row(Index t, Index b) const { return (t * batch + b) * neurons; }
};

// With `smooth`, the surrogate's primitive Psi(v) replaces the spike H(v), so that the same code has a
// true gradient. The reset and m are constants for every derivative. They then use the given reset_spikes [T+1, B, N]
// of an unperturbed run, or without them the steps m H(v) of this run.
struct ForwardOptions {
    bool smooth = false;
    const std::vector<double>* reset_spikes = nullptr;
};
Trajectory forward(const Network& net, const Sequences& seq, const ForwardOptions& options = {});

struct Loss {
    double value = 0.0;
    double accuracy = 0.0;         // fraction of correct terms
    Index terms = 0;               // number of averaged elements: masked (step, sequence, output), or sequences
    std::vector<double> gradient;  // [T, B, O] dL/dy
};
// The loss seq.loss. binary_cross_entropy (of logits) and mean_squared_error: the mean over the elements with mask 1.
// Correct: the logit has the right sign. cross_entropy_*: softmax cross-entropy, mean over sequences, of each
// sequence's mean of y over its steps with mask 1, largest y (the first one of equal y), sum, or last y. Correct: the
// largest logit (the first one of equal logits) is the label.
Loss task_loss(const Sequences& seq, const std::vector<double>& readout);

// The penalty on firing. With C_j the mean over sequences of the number of spikes of neuron j in steps 1..T, and its
// rate r_j = C_j / T: the mean over neurons of l1 C_j + l2 C_j^2 + bound (max(0, lower - r_j) + max(0, r_j - upper)).
struct RateWeights {
    double l1 = 0.0, l2 = 0.0, bound = 0.0, lower = 0.0, upper = 1.0;
};
struct RatePenalty {
    double value = 0.0;
    std::vector<double> rate;   // [N] r_j
    std::vector<double> extra;  // [T+1, B, N], m psi(v[t]) dR/ds[t], 0 at t = 0
};
RatePenalty rate_penalty(const Network& net, const Sequences& seq, const Trajectory& trajectory,
                         const RateWeights& weights);

struct BackwardOptions {
    // [T+1, B, N], adjoint of v at each t (the penalty's terms e[t]); null for none.
    const std::vector<double>* extra = nullptr;
    // The largest norm of the adjoint (di, du, dw) of one sequence at t = T..1; 0 for no cap.
    double adjoint_limit = 0.0;
};
struct Gradients : Parameters {
    // [T+1] Frobenius norm of (di, du, dw) over all sequences, after the readout and extra were added, before the cap.
    std::vector<double> state_gradient_norm;
};
// dy [T, B, O] is dL/dy, or empty for no loss. Gradients of alpha, beta and kappa are those of the recurrences above.
Gradients backward(const Network& net, const Sequences& seq, const Trajectory& trajectory,
                   const std::vector<double>& dy, const BackwardOptions& options = {});

// 0.5 |W_out|_F / terms, the size of one readout injection: an adjoint cap of c is adjoint_limit = c times this.
double readout_injection(const Network& net, Index loss_terms);

}  // namespace spikefloss::reference
