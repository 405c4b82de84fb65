// Backpropagation through time, the adjoint of forward.cpp. For t = T..1, with (di, du) the adjoints of i[t], u[t]:
//   du  += W_out' dz (through psi when the readout takes spikes) + e[t]
//   dv   = du (1 - s[t-1]);  g = di + (1-beta) dv
//   dW_in += g x[t-1]';  dW_rec += g s[t-1]';  db += g
//   du   = beta dv + psi(u[t-1] - theta) (W_rec' g);  di = alpha g
#include "network/state_pass.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {

void StatePass::backward(const Network& network, const float* x, const BackwardOptions& options, SumBuffer& gradient) {
    const NeuronModel& model = network.model.neuron;
    const Index O = shape_.outputs;
    const auto row_sums = [&](Parameter p) { return gradient.matrix(1, n_, network.layout.extent(p).offset); };
    if (options.dy) readout_backward(network, options.dy, gradient);
    squares_complete_ = options.adjoint_limit > 0.0f;  // but for t = 0, where there is no readout and no cap
    di_.zero();
    du_.zero();
    for (Index t = T_; t >= 0; --t) {
        if (options.dy && t > 0) {
            // What the readout sends back to the steps (t - chunk, t] at once: dz W_out [rows, n].
            const Index first = (t - 1) / chunk_ * chunk_;
            const bool new_chunk = t == T_ || t % chunk_ == 0;
            if (new_chunk)
                backend_.gemm(Transpose::no, Transpose::no, {dz_.data() + first * b_ * O, (t - first) * b_, O},
                              {network[Parameter::w_out], O, n_}, Matrix<float>(input_.data(), (t - first) * b_, n_), false);
            const float* back = input_.data() + (t - 1 - first) * b_ * n_;
            if (network.model.readout == Readout::membrane)
                backend_.add(du_.data(), back, b_ * n_);
            else
                backend_.add_through_spikes(model, b_, n_, membrane(t), back, du_.data());
        }
        if (options.extra) backend_.add(du_.data(), options.extra + t * b_ * n_, b_ * n_);
        double* squares = squares_.data() + t * b_;
        if (options.state_norms || options.adjoint_limit > 0.0f)
            backend_.row_sum_squares(b_, n_, di_.data(), du_.data(), squares);
        if (options.adjoint_limit > 0.0f && t > 0) {
            grid_.neurons().all_reduce_sum(squares, Scalar::float64, b_);
            backend_.cap_rows(b_, n_, squares, options.adjoint_limit, di_.data(), du_.data());
        }
        if (t == 0) break;
        if (options.time_constants)
            backend_.time_constants_backward(model, network.neurons(), b_, n_, current(t - 1), current(t),
                                             membrane(t - 1), di_.data(), du_.data(), row_sums(Parameter::alpha),
                                             row_sums(Parameter::beta));
        float* g = adjoint_.data() + (t - 1) % chunk_ * b_ * n_;
        backend_.neuron_step_backward(model, network.neurons(), b_, n_, membrane(t - 1), di_.data(), du_.data(), g);
        recurrence_.apply_transposed(network[Parameter::w_rec], b_, g, step_.data());
        backend_.add_through_spikes(model, b_, n_, membrane(t - 1), step_.data(), du_.data());
        if ((t - 1) % chunk_ == 0) weights_backward(network, x, t - 1, std::min(chunk_, T_ - (t - 1)), gradient);
    }
    backend_.add_column_sums({di_.data(), b_, n_}, row_sums(Parameter::initial_current));
    backend_.add_column_sums({du_.data(), b_, n_}, row_sums(Parameter::initial_membrane));
}

// dz, and the gradients of W_out, b_out and kappa.
void StatePass::readout_backward(const Network& network, const float* dy, SumBuffer& gradient) {
    const Index O = shape_.outputs;
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    backend_.readout_filter_backward(T_, b_, O, network[Parameter::kappa], tape_.readout.data(), dy, dz_.data(),
                                     gradient.matrix(1, O, at(Parameter::kappa)));
    for (Index t = 0; t < T_; t += chunk_) {
        const Index steps = std::min(chunk_, T_ - t), rows = steps * b_;
        const float* z = network.model.readout == Readout::membrane ? membrane(t + 1) : local_spikes(t + 1, steps);
        backend_.gemm(Transpose::yes, Transpose::no, {dz_.data() + t * b_ * O, rows, O}, {z, rows, n_},
                      gradient.matrix(O, n_, at(Parameter::w_out)), true);
    }
    backend_.add_column_sums({dz_.data(), T_ * b_, O}, gradient.matrix(1, O, at(Parameter::bias_out)));
}

// dW_in, dW_rec and db of the steps first .. first + steps - 1, whose adjoints g wait in adjoint_: sums over
// (steps x sequences) as deep products.
void StatePass::weights_backward(const Network& network, const float* x, Index first, Index steps, SumBuffer& gradient) {
    const Index M = shape_.inputs, rows = steps * b_;
    const Matrix<const float> g(adjoint_.data(), rows, n_);
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    backend_.gemm(Transpose::yes, Transpose::no, g, {x + first * b_ * M, rows, M},
                  gradient.matrix(n_, M, at(Parameter::w_in)), true);
    backend_.add_column_sums(g, gradient.matrix(1, n_, at(Parameter::bias)));
    for (Index p = 0; p < recurrence_.shards(); ++p) {
        const Index n_p = recurrence_.block(p).size(), words = recurrence_.word_offset(b_, p);
        for (Index t = 0; t < steps; ++t)
            backend_.unpack_spikes(b_, n_p, spikes(first + t) + words, chunk_spikes_.data() + t * b_ * n_p, n_p);
        backend_.gemm(Transpose::yes, Transpose::no, g, {chunk_spikes_.data(), rows, n_p},
                      gradient.matrix(n_, n_p, at(Parameter::w_rec) + n_ * recurrence_.block(p).begin), true);
    }
}

std::vector<double> StatePass::state_gradient_norm() const {
    std::vector<double> squares = squares_.to_host();
    if (squares_complete_ && grid_.neuron_shard() != 0) std::fill(squares.begin() + b_, squares.end(), 0.0);
    std::vector<double> norm(static_cast<std::size_t>(T_ + 1), 0.0);
    for (Index t = 0; t <= T_; ++t)
        for (Index s = 0; s < b_; ++s) norm[static_cast<std::size_t>(t)] += squares[static_cast<std::size_t>(t * b_ + s)];
    grid_.control().all_reduce_sum(norm.data(), Scalar::float64, T_ + 1);
    for (double& value : norm) value = std::sqrt(value);
    return norm;
}

}  // namespace spikefloss
