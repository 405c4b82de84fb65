// The forward and backward loops of dynamics.hpp: one sequence after another, one neuron after another.
#include "reference/dynamics.hpp"

#include "reference/surrogate.hpp"

#include <cmath>
#include <stdexcept>

namespace spikefloss::reference {

namespace {

// The spikes that follow from the membranes of rows [begin, begin + N).
void spike_row(const Network& net, const ForwardOptions& options, Index begin, Trajectory& tr) {
    for (Index n = begin; n < begin + net.neurons; ++n) {
        const double v = tr.membrane[n] - net.threshold;
        const double step = v > 0.0 ? 1.0 : 0.0;
        tr.spikes[n] = options.smooth ? psi_primitive(net.surrogate, v, net.sharpness) : step;
        tr.reset_spikes[n] = options.reset_spikes ? (*options.reset_spikes)[n] : step;
    }
}

double after_reset(const Network& net, double v, double s) {
    if (net.reset == Reset::zero) return v * (1.0 - s);
    if (net.reset == Reset::subtract) return v - net.threshold * s;
    return v;
}

// The membrane that beta multiplies.
double leaking(const Network& net, double u, double s) { return net.reset_delay == 0 ? after_reset(net, u, s) : u; }

}  // namespace

Trajectory forward(const Network& net, const Sequences& seq, const ForwardOptions& options) {
    check_shapes(net);
    const Index T = seq.steps, B = seq.batch, N = net.neurons, M = net.inputs, O = net.outputs;
    if (static_cast<Index>(seq.x.size()) != T * B * M) throw std::invalid_argument("forward: x is not [T, B, M]");
    if (options.reset_spikes && static_cast<Index>(options.reset_spikes->size()) != (T + 1) * B * N)
        throw std::invalid_argument("forward: reset_spikes is not [T+1, B, N]");
    Trajectory tr{T, B, N, {}, {}, {}, {}, {}};
    for (auto* values : {&tr.current, &tr.membrane, &tr.spikes, &tr.reset_spikes}) values->assign((T + 1) * B * N, 0.0);
    tr.readout.assign(T * B * O, 0.0);

    for (Index b = 0; b < B; ++b) {
        for (Index n = 0; n < N; ++n) {
            if (!net.initial_current.empty()) tr.current[tr.row(0, b) + n] = net.initial_current[n];
            if (!net.initial_membrane.empty()) tr.membrane[tr.row(0, b) + n] = net.initial_membrane[n];
        }
        spike_row(net, options, tr.row(0, b), tr);
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
                u_next[n] = net.beta[n] * leaking(net, u[n], s_reset[n]) + (1.0 - net.beta[n]) * i_next[n];
                if (net.reset_delay == 1) u_next[n] = after_reset(net, u_next[n], s_reset[n]);
            }
            spike_row(net, options, tr.row(t + 1, b), tr);
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
    std::vector<double> squares(T + 1, 0.0);  // of (di, du), summed over sequences

    for (Index b = 0; b < B; ++b) {
        std::vector<double> di(N, 0.0), du(N, 0.0), g(N), dv(N), dr(O, 0.0), dz(O);
        const auto psi_of = [&](double u) { return psi(net.surrogate, u - net.threshold, net.sharpness); };
        const auto add_extra_and_measure = [&](Index t) {
            double norm_squared = 0.0;
            for (Index n = 0; n < N; ++n) {
                if (options.extra) du[n] += (*options.extra)[tr.row(t, b) + n];
                norm_squared += di[n] * di[n] + du[n] * du[n];
            }
            squares[t] += norm_squared;
            return std::sqrt(norm_squared);
        };
        for (Index t = T; t >= 1; --t) {
            const double* x_before = &seq.x[((t - 1) * B + b) * M];
            const double* i = &tr.current[tr.row(t, b)];
            const double* u = &tr.membrane[tr.row(t, b)];
            const double* s = &tr.spikes[tr.row(t, b)];
            const double* i_before = &tr.current[tr.row(t - 1, b)];
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
                    const double into_z = net.w_out[o * N + n] * dz[o];
                    du[n] += net.readout == Readout::membrane ? into_z : psi_of(u[n]) * into_z;
                }
                const double r_before = t == 1 ? 0.0 : tr.readout[((t - 2) * B + b) * O + o];
                d.kappa[o] += dr[o] * (r_before - drive);
                dr[o] *= net.kappa[o];
            }

            // The term of the penalty, and the cap.
            const double norm = add_extra_and_measure(t);
            if (options.adjoint_limit > 0.0 && norm > options.adjoint_limit) {
                for (double& value : di) value *= options.adjoint_limit / norm;
                for (double& value : du) value *= options.adjoint_limit / norm;
            }

            // The neurons.
            for (Index n = 0; n < N; ++n) {
                const double c = net.reset == Reset::zero ? 1.0 - s_reset_before[n] : 1.0;
                dv[n] = net.reset_delay == 1 ? c * du[n] : du[n];
                g[n] = di[n] + (1.0 - net.beta[n]) * dv[n];
                for (Index m = 0; m < M; ++m) d.w_in[n * M + m] += g[n] * x_before[m];
                for (Index j = 0; j < N; ++j) d.w_rec[n * N + j] += g[n] * s_before[j];
                d.bias[n] += g[n];
                d.alpha[n] += g[n] * i_before[n];
                d.beta[n] += dv[n] * (leaking(net, u_before[n], s_reset_before[n]) - i[n]);
                du[n] = net.beta[n] * (net.reset_delay == 0 ? c * dv[n] : dv[n]);
            }
            for (Index n = 0; n < N; ++n) {
                double back = 0.0;  // W_rec' g
                for (Index j = 0; j < N; ++j) back += net.w_rec[j * N + n] * g[j];
                du[n] += psi_of(u_before[n]) * back;
                di[n] = net.alpha[n] * g[n];
            }
        }
        add_extra_and_measure(0);
        for (Index n = 0; n < N; ++n) {
            d.initial_current[n] += di[n];
            d.initial_membrane[n] += du[n];
        }
    }
    for (double value : squares) d.state_gradient_norm.push_back(std::sqrt(value));
    return d;
}

}  // namespace spikefloss::reference
