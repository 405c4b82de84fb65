// Surrogate Lyapunov spectrum: a basis Q [D, k] per sequence is carried by the Jacobian that BPTT uses and
// re-orthonormalised by QR; the exponents are the mean growth of the logarithms of R's diagonal.
//
//   sigma = m psi(v[t]) * Q_u, or (Q_u - Q_w) (adaptation threshold)
//   P_i = alpha Q_i + W_rec sigma      P_w = rho Q_w + a_u c Q_u + a_s sigma
//   P_u = f (beta q Q_u + (1-beta) h)  h = P_i, or P_i - P_w (adaptation current)
//
// The rows of Q are the N currents (unless every alpha is 0), the N membranes and the N adaptations (if neurons adapt).
#pragma once

#include "reference/dynamics.hpp"

namespace spikefloss::reference {

struct QR {
    std::vector<double> q;  // [D, k] orthonormal columns
    std::vector<double> r;  // [k, k] upper triangular, positive diagonal
};
// Modified Gram-Schmidt, twice. Throws std::runtime_error if the columns are dependent.
QR qr(Index D, Index k, const std::vector<double>& a);
// The adjoint of A for dL/dQ = qb [D, k] and dL/dR = diag(rb [k]).
std::vector<double> qr_backward(Index D, Index k, const QR& factors, const std::vector<double>& qb,
                                const std::vector<double>& rb);

enum class JacobianReset { detached, ignored };

struct SpectrumOptions {
    Index qr_interval = 1;  // a QR after steps m, 2m, ...
    Index warmup = 0;       // a QR counts if all the steps it covers come after the first `warmup` ones
    JacobianReset jacobian_reset = JacobianReset::detached;
};

// c is 1 - s for reset zero unless ignored. For reset_delay 0 it is q, else f; the other one is 1.
struct ResetFactors {
    double f, q, c;
};
ResetFactors tangent_reset_factors(const Network& net, JacobianReset jacobian_reset, double reset_spike);

// The N values of one sequence at a step that the tangent map needs.
struct StepView {
    const double *v, *m, *reset_spikes;
    StepView(const Trajectory& tr, Index t, Index b)
        : v(&tr.v[tr.row(t, b)]), m(&tr.m[tr.row(t, b)]), reset_spikes(&tr.reset_spikes[tr.row(t, b)]) {}
};

// The first rows of the membranes and of the adaptations in a basis.
struct BasisRows {
    explicit BasisRows(const Network& net)
        : has_i(net.has_current()),
          u(has_i ? net.neurons : 0),
          w(u + net.neurons),
          on_threshold(net.adaptation == Adaptation::threshold) {}
    bool has_i;
    Index u, w;
    bool on_threshold;
    // Element [n, j] of the tangents of v.
    double of_v(const std::vector<double>& q, Index n, Index j, Index k) const {
        return q[(u + n) * k + j] - (on_threshold ? q[(w + n) * k + j] : 0.0);
    }
};

// P = J[t] Q for one sequence; q is [D, k].
std::vector<double> tangent_step(const Network& net, JacobianReset jacobian_reset, const StepView& step, Index k,
                                 const std::vector<double>& q);

struct Spectrum {
    Index state_size = 0, exponents = 0;  // D, k
    Index counted_qrs = 0, counted_steps = 0;
    std::vector<double> lambda;               // [k] mean over sequences, 1/step
    std::vector<double> lambda_per_sequence;  // [B, k]
    std::vector<double> log_r;                // [counted QRs, B, k] ln R_jj

    // Inputs of the penalty's adjoint, for each sequence: the basis before each step (after the QR, if there was one),
    // and for each step the R of the QR after it ([k, k], or empty without a QR).
    std::vector<std::vector<std::vector<double>>> bases;  // [B][T+1][D, k]
    std::vector<std::vector<std::vector<double>>> r;      // [B][T][k, k]
};
// k and the starting bases are those of seq. Throws if no QR counts.
Spectrum spectrum(const Network& net, const Sequences& seq, const Trajectory& trajectory,
                  const SpectrumOptions& options = {});

// Whether there is a QR after step t (0-based; t + 1 steps are done), and whether it counts.
bool is_qr_step(const SpectrumOptions& options, Index t);
bool is_counted(const SpectrumOptions& options, Index t);

// The dimension at which the sum of the largest exponents reaches zero, linearly interpolated; 0 if the largest is
// negative, k if the sum of all is not negative.
double kaplan_yorke_dimension(std::vector<double> lambda);
// The sum of the positive exponents, 1/step.
double entropy_rate(const std::vector<double>& lambda);
// exp((lambda_1 - lambda_k) T) with the largest and the smallest exponent.
double condition_number(const std::vector<double>& lambda, Index steps);

}  // namespace spikefloss::reference
