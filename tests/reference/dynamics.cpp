// The forward and backward loops of dynamics.hpp: one sequence after another, one neuron after another.
#include "reference/dynamics.hpp"

#include "reference/surrogate.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace spikefloss::reference {

namespace {

// What follows from the state of step t: v, m and the spikes.
void spike_row(const Network& net, const ForwardOptions& options, Index t, Index b, Trajectory& tr) {
    for (Index n = 0; n < net.neurons; ++n) {
        const Index at = tr.row(t, b) + n;
        tr.v[at] = tr.membrane[at] - net.theta(n);
        if (net.adaptation == Adaptation::threshold) tr.v[at] -= tr.adaptation[at];
        tr.m[at] = 1.0;
        for (Index l = 1; l <= std::min(t, net.refractory); ++l)
            if (tr.reset_spikes[tr.row(t - l, b) + n] > 0.0) tr.m[at] = 0.0;
        const double step = tr.v[at] > 0.0 ? 1.0 : 0.0;
        tr.spikes[at] = tr.m[at] * (options.smooth ? psi_primitive(net.surrogate, tr.v[at], net.sharpness) : step);
        tr.reset_spikes[at] = options.reset_spikes ? (*options.reset_spikes)[at] : tr.m[at] * step;
    }
}

double after_reset(const Network& net, Index n, double v, double s) {
    if (net.reset == Reset::zero) return v * (1.0 - s);
    if (net.reset == Reset::subtract) return v - net.theta(n) * s;
    return v;
}

// The current that reaches the membrane.
double into_membrane(const Network& net, const Trajectory& tr, Index at) {
    return net.adaptation == Adaptation::current ? tr.current[at] - tr.adaptation[at] : tr.current[at];
}

}  // namespace

Trajectory forward(const Network& net, const Sequences& seq, const ForwardOptions& options) {
    check_shapes(net);
    const Index T = seq.steps, B = seq.batch, N = net.neurons, M = net.inputs, O = net.outputs;
    if (static_cast<Index>(seq.x.size()) != T * B * M) throw std::invalid_argument("forward: x is not [T, B, M]");
    if (options.reset_spikes && static_cast<Index>(options.reset_spikes->size()) != (T + 1) * B * N)
        throw std::invalid_argument("forward: reset_spikes is not [T+1, B, N]");
    Trajectory tr;
    tr.steps = T, tr.batch = B, tr.neurons = N;
    for (auto* values : {&tr.current, &tr.membrane, &tr.adaptation, &tr.v, &tr.m, &tr.spikes, &tr.reset_spikes})
        values->assign((T + 1) * B * N, 0.0);
    tr.readout.assign(T * B * O, 0.0);

    for (Index b = 0; b < B; ++b) {
        for (Index n = 0; n < N; ++n) {
            if (!net.initial_current.empty()) tr.current[tr.row(0, b) + n] = net.initial_current[n];
            if (!net.initial_membrane.empty()) tr.membrane[tr.row(0, b) + n] = net.initial_membrane[n];
            if (!net.initial_adaptation.empty()) tr.adaptation[tr.row(0, b) + n] = net.initial_adaptation[n];
        }
        spike_row(net, options, 0, b, tr);
        for (Index t = 0; t < T; ++t) {
            const double* x = &seq.x[(t * B + b) * M];
            const double* i = &tr.current[tr.row(t, b)];
            const double* u = &tr.membrane[tr.row(t, b)];
            const double* s = &tr.spikes[tr.row(t, b)];
            const double* s_reset = &tr.reset_spikes[tr.row(t, b)];
            double* i_next = &tr.current[tr.row(t + 1, b)];
            double* u_next = &tr.membrane[tr.row(t + 1, b)];
            for (Index n = 0; n < N; ++n) {
                i_next[n] = net.alpha[n] * i[n] + net.bias[n];
                for (Index m = 0; m < M; ++m) i_next[n] += net.w_in[n * M + m] * x[m];
                for (Index j = 0; j < N; ++j) i_next[n] += net.w_rec[n * N + j] * s[j];
                const double u_reset = after_reset(net, n, u[n], s_reset[n]);
                const Index at = tr.row(t, b) + n, next = tr.row(t + 1, b) + n;
                if (net.adapts())
                    tr.adaptation[next] =
                        net.rho[n] * tr.adaptation[at] + net.adapt_membrane[n] * u_reset + net.adapt_spike[n] * s[n];
                u_next[n] = net.beta[n] * (net.reset_delay == 0 ? u_reset : u[n]) +
                            (1.0 - net.beta[n]) * into_membrane(net, tr, next);
                if (net.reset_delay == 1) u_next[n] = after_reset(net, n, u_next[n], s_reset[n]);
            }
            spike_row(net, options, t + 1, b, tr);
            const double* z = net.readout == Readout::membrane ? u_next : &tr.spikes[tr.row(t + 1, b)];
            for (Index o = 0; o < O; ++o) {
                double drive = net.bias_out[o];
                for (Index n = 0; n < N; ++n) drive += net.w_out[o * N + n] * z[n];
                const double r = t == 0 ? 0.0 : tr.readout[((t - 1) * B + b) * O + o];
                tr.readout[(t * B + b) * O + o] = net.kappa[o] * r + (1.0 - net.kappa[o]) * drive;
            }
        }
    }
    return tr;
}

double readout_injection(const Network& net, Index loss_terms) {
    double squares = 0.0;
    for (double w : net.w_out) squares += w * w;
    return 0.5 * std::sqrt(squares) / static_cast<double>(loss_terms);
}

Gradients backward(const Network& net, const Sequences& seq, const Trajectory& tr, const std::vector<double>& dy,
                   const BackwardOptions& options) {
    const Index T = seq.steps, B = seq.batch, N = net.neurons, M = net.inputs, O = net.outputs;
    if (!dy.empty() && static_cast<Index>(dy.size()) != T * B * O)
        throw std::invalid_argument("backward: dy is not [T, B, O]");
    if (options.extra && static_cast<Index>(options.extra->size()) != (T + 1) * B * N)
        throw std::invalid_argument("backward: extra is not [T+1, B, N]");
    Gradients d{zero_gradient(net), {}};
    std::vector<double> squares(T + 1, 0.0);  // of (di, du, dw), summed over sequences

    for (Index b = 0; b < B; ++b) {
        std::vector<double> di(N, 0.0), du(N, 0.0), dw(N, 0.0), g(N), dr(O, 0.0), dz(O);
        std::vector<double> ds(N, 0.0);  // adjoint of the spikes of the step
        // What arrives through the spikes of step t; the norm of the adjoint of the state.
        const auto add_and_measure = [&](Index t) {
            double norm_squared = 0.0;
            for (Index n = 0; n < N; ++n) {
                const Index at = tr.row(t, b) + n;
                double dv = tr.m[at] * psi(net.surrogate, tr.v[at], net.sharpness) * ds[n];
                if (options.extra) dv += (*options.extra)[at];
                du[n] += dv;
                if (net.adaptation == Adaptation::threshold) dw[n] -= dv;
                d.thresholds[n] -= dv;
                norm_squared += di[n] * di[n] + du[n] * du[n] + dw[n] * dw[n];
            }
            squares[t] += norm_squared;
            return std::sqrt(norm_squared);
        };
        for (Index t = T; t >= 1; --t) {
            const double* x_before = &seq.x[((t - 1) * B + b) * M];
            const double* u = &tr.membrane[tr.row(t, b)];
            const double* s = &tr.spikes[tr.row(t, b)];
            const double* u_before = &tr.membrane[tr.row(t - 1, b)];
            const double* s_before = &tr.spikes[tr.row(t - 1, b)];
            const double* s_reset_before = &tr.reset_spikes[tr.row(t - 1, b)];

            // The readout.
            const double* z = net.readout == Readout::membrane ? u : s;
            for (Index o = 0; o < O; ++o) {
                if (!dy.empty()) dr[o] += dy[((t - 1) * B + b) * O + o];
                dz[o] = (1.0 - net.kappa[o]) * dr[o];
                d.bias_out[o] += dz[o];
                double drive = net.bias_out[o];
                for (Index n = 0; n < N; ++n) {
                    d.w_out[o * N + n] += dz[o] * z[n];
                    drive += net.w_out[o * N + n] * z[n];
                    (net.readout == Readout::membrane ? du : ds)[n] += net.w_out[o * N + n] * dz[o];
                }
                const double r_before = t == 1 ? 0.0 : tr.readout[((t - 2) * B + b) * O + o];
                d.kappa[o] += dr[o] * (r_before - drive);
                dr[o] *= net.kappa[o];
            }

            // The spikes, the term of the penalty, and the cap.
            const double norm = add_and_measure(t);
            if (options.adjoint_limit > 0.0 && norm > options.adjoint_limit)
                for (auto* adjoint : {&di, &du, &dw})
                    for (double& value : *adjoint) value *= options.adjoint_limit / norm;

            // The neurons.
            for (Index n = 0; n < N; ++n) {
                const Index before = tr.row(t - 1, b) + n, now = tr.row(t, b) + n;
                const double beta = net.beta[n], s_reset = s_reset_before[n];
                const double c = net.reset == Reset::zero ? 1.0 - s_reset : 1.0;
                const double u_reset = after_reset(net, n, u_before[n], s_reset);
                const double dk = net.reset_delay == 1 ? c * du[n] : du[n];
                g[n] = di[n] + (1.0 - beta) * dk;
                const double gw = net.adaptation == Adaptation::current ? dw[n] - (1.0 - beta) * dk : dw[n];
                for (Index m = 0; m < M; ++m) d.w_in[n * M + m] += g[n] * x_before[m];
                for (Index j = 0; j < N; ++j) d.w_rec[n * N + j] += g[n] * s_before[j];
                d.bias[n] += g[n];
                d.alpha[n] += g[n] * tr.current[before];
                d.beta[n] += dk * ((net.reset_delay == 0 ? u_reset : u_before[n]) - into_membrane(net, tr, now));
                const double through_reset = net.reset_delay == 0 ? beta * dk : dk;
                if (net.reset == Reset::subtract) d.thresholds[n] -= through_reset * s_reset;
                di[n] = net.alpha[n] * g[n];
                du[n] = beta * (net.reset_delay == 0 ? c * dk : dk);
                ds[n] = 0.0;
                if (!net.adapts()) continue;
                d.rho[n] += gw * tr.adaptation[before];
                d.adapt_membrane[n] += gw * u_reset;
                d.adapt_spike[n] += gw * s_before[n];
                if (net.reset == Reset::subtract) d.thresholds[n] -= net.adapt_membrane[n] * gw * s_reset;
                du[n] += net.adapt_membrane[n] * c * gw;
                dw[n] = net.rho[n] * gw;
                ds[n] = net.adapt_spike[n] * gw;
            }
            for (Index n = 0; n < N; ++n)
                for (Index j = 0; j < N; ++j) ds[n] += net.w_rec[j * N + n] * g[j];  // W_rec' g
        }
        add_and_measure(0);
        for (Index n = 0; n < N; ++n) {
            d.initial_current[n] += di[n];
            d.initial_membrane[n] += du[n];
            if (net.adapts()) d.initial_adaptation[n] += dw[n];
        }
    }
    for (double value : squares) d.state_gradient_norm.push_back(std::sqrt(value));
    return d;
}

}  // namespace spikefloss::reference
