// QR, its adjoint, the tangent map and the spectrum of lyapunov.hpp. With Qb = dL/dQ, Rb = dL/dR the adjoint of QR is
// Ab = (Qb + Q C) R^-T,  C = tril(M) + tril(M,-1)',  M = R Rb' - Qb' Q.
#include "reference/lyapunov.hpp"

#include "reference/surrogate.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

namespace spikefloss::reference {

QR qr(Index D, Index k, const std::vector<double>& a) {
    QR f{a, std::vector<double>(k * k, 0.0)};
    for (Index j = 0; j < k; ++j) {
        for (int round = 0; round < 2; ++round) {
            for (Index l = 0; l < j; ++l) {
                double projection = 0.0;
                for (Index d = 0; d < D; ++d) projection += f.q[d * k + l] * f.q[d * k + j];
                for (Index d = 0; d < D; ++d) f.q[d * k + j] -= projection * f.q[d * k + l];
                f.r[l * k + j] += projection;
            }
        }
        double squares = 0.0;
        for (Index d = 0; d < D; ++d) squares += f.q[d * k + j] * f.q[d * k + j];
        const double norm = std::sqrt(squares);
        if (!(norm > 0.0) || !std::isfinite(norm)) throw std::runtime_error("reference qr: dependent columns");
        for (Index d = 0; d < D; ++d) f.q[d * k + j] /= norm;
        f.r[j * k + j] = norm;
    }
    return f;
}

std::vector<double> qr_backward(Index D, Index k, const QR& f, const std::vector<double>& qb,
                                const std::vector<double>& rb) {
    std::vector<double> m(k * k), c(k * k), ab(qb);
    for (Index i = 0; i < k; ++i)
        for (Index j = 0; j < k; ++j) {
            m[i * k + j] = f.r[i * k + j] * rb[j];
            for (Index d = 0; d < D; ++d) m[i * k + j] -= qb[d * k + i] * f.q[d * k + j];
        }
    for (Index i = 0; i < k; ++i)
        for (Index j = 0; j < k; ++j) c[i * k + j] = i >= j ? m[i * k + j] : m[j * k + i];
    for (Index d = 0; d < D; ++d) {
        for (Index j = 0; j < k; ++j)
            for (Index l = 0; l < k; ++l) ab[d * k + j] += f.q[d * k + l] * c[l * k + j];
        // One row of X = (..) R^-T, that is X R' = (..): from the last column back.
        for (Index j = k - 1; j >= 0; --j) {
            for (Index l = j + 1; l < k; ++l) ab[d * k + j] -= ab[d * k + l] * f.r[j * k + l];
            ab[d * k + j] /= f.r[j * k + j];
        }
    }
    return ab;
}

ResetFactors tangent_reset_factors(const Network& net, JacobianReset jacobian_reset, double reset_spike) {
    const double c = net.reset == Reset::zero && jacobian_reset == JacobianReset::detached ? 1.0 - reset_spike : 1.0;
    return net.reset_delay == 0 ? ResetFactors{1.0, c, c} : ResetFactors{c, 1.0, c};
}

std::vector<double> tangent_step(const Network& net, JacobianReset jacobian_reset, const StepView& step, Index k,
                                 const std::vector<double>& q) {
    const Index N = net.neurons;
    const BasisRows rows(net);
    std::vector<double> sigma(N * k), p(q.size());  // sigma: tangents of the spikes
    for (Index n = 0; n < N; ++n)
        for (Index j = 0; j < k; ++j)
            sigma[n * k + j] = step.m[n] * psi(net.surrogate, step.v[n], net.sharpness) * rows.of_v(q, n, j, k);
    for (Index n = 0; n < N; ++n) {
        const auto [f, q_factor, c] = tangent_reset_factors(net, jacobian_reset, step.reset_spikes[n]);
        for (Index j = 0; j < k; ++j) {
            const double q_u = q[(rows.u + n) * k + j];
            double p_i = rows.has_i ? net.alpha[n] * q[n * k + j] : 0.0;
            for (Index l = 0; l < N; ++l) p_i += net.w_rec[n * N + l] * sigma[l * k + j];
            if (rows.has_i) p[n * k + j] = p_i;
            double h = p_i;
            if (net.adapts()) {
                const double p_w = net.rho[n] * q[(rows.w + n) * k + j] + net.adapt_membrane[n] * c * q_u +
                                   net.adapt_spike[n] * sigma[n * k + j];
                p[(rows.w + n) * k + j] = p_w;
                if (net.adaptation == Adaptation::current) h -= p_w;
            }
            p[(rows.u + n) * k + j] = f * (net.beta[n] * q_factor * q_u + (1.0 - net.beta[n]) * h);
        }
    }
    return p;
}

bool is_qr_step(const SpectrumOptions& options, Index t) { return (t + 1) % options.qr_interval == 0; }

bool is_counted(const SpectrumOptions& options, Index t) {
    return is_qr_step(options, t) && t + 1 - options.qr_interval >= options.warmup;
}

Spectrum spectrum(const Network& net, const Sequences& seq, const Trajectory& tr, const SpectrumOptions& options) {
    const Index T = seq.steps, B = seq.batch, D = net.state_size(), k = seq.exponents;
    if (k < 1 || static_cast<Index>(seq.q0.size()) != B * D * k)
        throw std::invalid_argument("spectrum: q0 is not [B, D, k]");
    Spectrum result;
    result.state_size = D;
    result.exponents = k;
    for (Index t = 0; t < T; ++t) result.counted_qrs += is_counted(options, t);
    result.counted_steps = result.counted_qrs * options.qr_interval;
    if (result.counted_qrs == 0) throw std::invalid_argument("spectrum: no QR is counted");
    result.lambda.assign(k, 0.0);
    result.lambda_per_sequence.assign(B * k, 0.0);
    result.log_r.assign(result.counted_qrs * B * k, 0.0);
    result.bases.resize(B);
    result.r.resize(B);

    for (Index b = 0; b < B; ++b) {
        std::vector<double> q(seq.q0.begin() + b * D * k, seq.q0.begin() + (b + 1) * D * k);
        Index counted = 0;
        for (Index t = 0; t < T; ++t) {
            result.bases[b].push_back(q);
            q = tangent_step(net, options.jacobian_reset, StepView(tr, t, b), k, q);
            result.r[b].emplace_back();
            if (!is_qr_step(options, t)) continue;
            QR factors = qr(D, k, q);
            q = factors.q;
            result.r[b].back() = factors.r;
            if (!is_counted(options, t)) continue;
            for (Index j = 0; j < k; ++j) {
                const double log_r = std::log(factors.r[j * k + j]);
                result.log_r[(counted * B + b) * k + j] = log_r;
                result.lambda_per_sequence[b * k + j] += log_r / static_cast<double>(result.counted_steps);
            }
            ++counted;
        }
        result.bases[b].push_back(q);
        for (Index j = 0; j < k; ++j)
            result.lambda[j] += result.lambda_per_sequence[b * k + j] / static_cast<double>(B);
    }
    return result;
}

double kaplan_yorke_dimension(std::vector<double> lambda) {
    std::sort(lambda.begin(), lambda.end(), std::greater<>());
    double total = 0.0;
    for (std::size_t j = 0; j < lambda.size(); ++j) {
        if (total + lambda[j] < 0.0) return static_cast<double>(j) + total / std::abs(lambda[j]);
        total += lambda[j];
    }
    return static_cast<double>(lambda.size());
}

double entropy_rate(const std::vector<double>& lambda) {
    double total = 0.0;
    for (double value : lambda) total += std::max(value, 0.0);
    return total;
}

double condition_number(const std::vector<double>& lambda, Index steps) {
    const auto [smallest, largest] = std::minmax_element(lambda.begin(), lambda.end());
    return std::exp((*largest - *smallest) * static_cast<double>(steps));
}

}  // namespace spikefloss::reference
