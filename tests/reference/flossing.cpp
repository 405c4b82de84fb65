// The adjoint of the tangent propagation, backwards over the steps of each sequence, from dL/dlambda of flossing.hpp:
//   (A_i, A_u) = dL/dP;  A_u *= (1-s);  G = A_i + (1-beta) A_u;  dW_rec += G (psi * Q_u)';  back = W_rec' G
//   e[t] += psi' rowsum(back * Q_u);  dL/dQ = (alpha G, beta A_u + psi * back)
#include "reference/flossing.hpp"

#include "reference/surrogate.hpp"

#include <stdexcept>

namespace spikefloss::reference {

namespace {

double target_of(const std::vector<double>& target, Index j) { return target.empty() ? 0.0 : target[j]; }

// The adjoint of tangent_step: `a` is dL/dP on entry and dL/dQ on return; adds to direct and to e (the N values of this
// step). `q` is the basis that entered the step.
void tangent_step_backward(const Network& net, JacobianReset jacobian_reset, const double* u,
                           const double* reset_spikes, Index k, const std::vector<double>& q, std::vector<double>& a,
                           Parameters& direct, double* e) {
    const Index N = net.neurons;
    const bool has_current = net.has_current();
    const Index membrane = has_current ? N : 0;
    std::vector<double> psi_of(N), psi_derivative_of(N);
    for (Index n = 0; n < N; ++n) {
        psi_of[n] = psi(net.surrogate, u[n] - net.threshold, net.sharpness);
        psi_derivative_of[n] = psi_derivative(net.surrogate, u[n] - net.threshold, net.sharpness);
    }
    for (Index j = 0; j < k; ++j) {
        std::vector<double> a_u(N), g(N);
        for (Index n = 0; n < N; ++n) {
            const double q_i = has_current ? q[n * k + j] : 0.0;
            const double a_i = has_current ? a[n * k + j] : 0.0;
            const auto [f, q_factor] = tangent_reset_factors(net, jacobian_reset, reset_spikes[n]);
            a_u[n] = f * a[(membrane + n) * k + j];
            g[n] = a_i + (1.0 - net.beta[n]) * a_u[n];
            double p_i = net.alpha[n] * q_i;
            for (Index l = 0; l < N; ++l) {
                const double through = psi_of[l] * q[(membrane + l) * k + j];
                direct.w_rec[n * N + l] += g[n] * through;
                p_i += net.w_rec[n * N + l] * through;
            }
            direct.alpha[n] += g[n] * q_i;
            direct.beta[n] += a_u[n] * (q_factor * q[(membrane + n) * k + j] - p_i);
            a_u[n] *= q_factor;
        }
        for (Index n = 0; n < N; ++n) {
            double back = 0.0;  // W_rec' G
            for (Index l = 0; l < N; ++l) back += net.w_rec[l * N + n] * g[l];
            e[n] += psi_derivative_of[n] * back * q[(membrane + n) * k + j];
            if (has_current) a[n * k + j] = net.alpha[n] * g[n];
            a[(membrane + n) * k + j] = net.beta[n] * a_u[n] + psi_of[n] * back;
        }
    }
}

}  // namespace

double penalty(const std::vector<double>& lambda, const std::vector<double>& target) {
    double total = 0.0;
    for (std::size_t j = 0; j < lambda.size(); ++j) {
        const double off = lambda[j] - target_of(target, static_cast<Index>(j));
        total += off * off;
    }
    return total / static_cast<double>(lambda.size());
}

Floss floss(const Network& net, const Sequences& seq, const Trajectory& tr, const SpectrumOptions& options,
            const std::vector<double>& target) {
    const Index T = seq.steps, B = seq.batch, D = net.state_size(), k = seq.exponents;
    if (!target.empty() && static_cast<Index>(target.size()) != k)
        throw std::invalid_argument("floss: target is not [k]");
    Floss result;
    result.spectrum = spectrum(net, seq, tr, options);
    const Spectrum& s = result.spectrum;
    result.value = penalty(s.lambda, target);
    result.direct = zero_gradient(net);
    result.e.assign((T + 1) * B * net.neurons, 0.0);

    for (Index b = 0; b < B; ++b) {
        std::vector<double> qb(D * k, 0.0);  // dL/dQ
        for (Index t = T - 1; t >= 0; --t) {
            if (is_qr_step(options, t)) {
                const QR factors{s.bases[b][t + 1], s.r[b][t]};
                std::vector<double> rb(k, 0.0);
                if (is_counted(options, t))
                    for (Index j = 0; j < k; ++j)
                        rb[j] = 2.0 * (s.lambda[j] - target_of(target, j)) / static_cast<double>(k * B) /
                                static_cast<double>(s.counted_steps) / factors.r[j * k + j];
                qb = qr_backward(D, k, factors, qb, rb);
            }
            tangent_step_backward(net, options.jacobian_reset, &tr.membrane[tr.row(t, b)],
                                  &tr.reset_spikes[tr.row(t, b)], k, s.bases[b][t], qb, result.direct,
                                  &result.e[tr.row(t, b)]);
        }
    }
    BackwardOptions through;
    through.extra = &result.e;
    result.through_state = backward(net, seq, tr, {}, through);
    static_cast<Parameters&>(result.through_state) = sum(result.through_state, result.direct);
    return result;
}

}  // namespace spikefloss::reference
