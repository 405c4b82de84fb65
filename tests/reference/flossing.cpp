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
void tangent_step_backward(const Network& net, JacobianReset jacobian_reset, const StepView& step, Index k,
                           const std::vector<double>& q, std::vector<double>& a, Parameters& direct, double* e) {
    const Index N = net.neurons;
    const BasisRows rows(net);
    for (Index j = 0; j < k; ++j) {
        std::vector<double> sigma(N), a_u(N), g(N), gw(N, 0.0);
        for (Index n = 0; n < N; ++n)
            sigma[n] = step.m[n] * psi(net.surrogate, step.v[n], net.sharpness) * rows.of_v(q, n, j, k);
        for (Index n = 0; n < N; ++n) {
            const auto [f, q_factor, c] = tangent_reset_factors(net, jacobian_reset, step.reset_spikes[n]);
            const double q_i = rows.has_i ? q[n * k + j] : 0.0, q_u = q[(rows.u + n) * k + j];
            a_u[n] = f * a[(rows.u + n) * k + j];
            g[n] = (rows.has_i ? a[n * k + j] : 0.0) + (1.0 - net.beta[n]) * a_u[n];
            double h = net.alpha[n] * q_i;
            for (Index l = 0; l < N; ++l) {
                direct.w_rec[n * N + l] += g[n] * sigma[l];
                h += net.w_rec[n * N + l] * sigma[l];
            }
            direct.alpha[n] += g[n] * q_i;
            if (net.adapts()) {
                const double q_w = q[(rows.w + n) * k + j];
                gw[n] = a[(rows.w + n) * k + j];
                if (net.adaptation == Adaptation::current) {
                    gw[n] -= (1.0 - net.beta[n]) * a_u[n];
                    h -= net.rho[n] * q_w + net.adapt_membrane[n] * c * q_u + net.adapt_spike[n] * sigma[n];
                }
                direct.rho[n] += gw[n] * q_w;
                direct.adapt_membrane[n] += gw[n] * c * q_u;
                direct.adapt_spike[n] += gw[n] * sigma[n];
            }
            direct.beta[n] += a_u[n] * (q_factor * q_u - h);
        }
        for (Index n = 0; n < N; ++n) {
            const auto [f, q_factor, c] = tangent_reset_factors(net, jacobian_reset, step.reset_spikes[n]);
            double back = net.adapts() ? net.adapt_spike[n] * gw[n] : 0.0;
            for (Index l = 0; l < N; ++l) back += net.w_rec[l * N + n] * g[l];  // W_rec' G
            const double slope = step.m[n] * psi_derivative(net.surrogate, step.v[n], net.sharpness);
            const double through = step.m[n] * psi(net.surrogate, step.v[n], net.sharpness) * back;
            e[n] += slope * back * rows.of_v(q, n, j, k);
            if (rows.has_i) a[n * k + j] = net.alpha[n] * g[n];
            a[(rows.u + n) * k + j] = net.beta[n] * q_factor * a_u[n] + through;
            if (!net.adapts()) continue;
            a[(rows.u + n) * k + j] += net.adapt_membrane[n] * c * gw[n];
            a[(rows.w + n) * k + j] = net.rho[n] * gw[n] - (rows.on_threshold ? through : 0.0);
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
            tangent_step_backward(net, options.jacobian_reset, StepView(tr, t, b), k, s.bases[b][t], qb, result.direct,
                                  &result.e[tr.row(t, b)]);
        }
    }
    BackwardOptions through;
    through.extra = &result.e;
    result.through_state = backward(net, seq, tr, {}, through);
    static_cast<Parameters&>(result.through_state) = sum(result.through_state, result.direct);
    // v = u - theta: `through_state` has this from the backward pass.
    for (Index at = 0; at < (T + 1) * B * net.neurons; ++at) result.direct.thresholds[at % net.neurons] -= result.e[at];
    return result;
}

}  // namespace spikefloss::reference
