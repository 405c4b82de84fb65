// Backpropagation through time, the adjoint of forward.cpp. For t = T..1, with (di, du) the adjoints of i[t], u[t]:
//   du  += W_out' dz (times psi if the readout reads spikes) + e[t]
//   dv   = du (1 - s[t-1]);  g = di + (1-beta) dv
//   dW_in += g x[t-1]';  dW_rec += g s[t-1]';  db += g
//   du   = beta dv + psi(u[t-1] - theta) (W_rec' g);  di = alpha g
#include "network/state_pass.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {

void StatePass::backward(const Network& network, const float* x, const BackwardOptions& options, SumBuffer& gradient) {
    const auto row_sums = [&](Parameter p) { return gradient.matrix(1, n_, network.layout.extent(p).offset); };
    if (options.dy) filter_backward(network, options.dy, gradient);
    squares_complete_ = options.adjoint_limit > 0.0f;  // except at t = 0, which has no readout and no cap
    if (options.adjoint_limit > 0.0f) limit_.copy_in(&options.adjoint_limit);
    di_.zero();
    du_.zero();
    for (Index k = segments_ - 1; k >= 0; --k) {
        hold(network, x, k);
        backward_segment(network, x, options, gradient);
    }
    add_extra(options, 0);
    if (options.state_norms) backend_.row_sum_squares(b_, n_, di_.data(), du_.data(), squares_.data());
    backend_.add_column_sums({di_.data(), b_, n_}, row_sums(Parameter::initial_current));
    backend_.add_column_sums({du_.data(), b_, n_}, row_sums(Parameter::initial_membrane));
}

PassChoice StatePass::backward_choice(bool time_constants) const {
    if (time_constants) return {PassForm::loop, "time constants are trained"};
    return forward_choice();
}

// The held segment, chunk by chunk. (di_, du_) go from its last step to the step before its first.
void StatePass::backward_segment(const Network& network, const float* x, const BackwardOptions& options,
                                 SumBuffer& gradient) {
    const Index O = shape_.outputs, begin = first_of(held_), end = end_of(held_);
    const PassForm form = backward_choice(options.time_constants).form;
    for (Index first = begin + (end - begin - 1) / chunk_ * chunk_; first >= begin; first -= chunk_) {
        const Index steps = std::min(chunk_, end - first);
        if (form == PassForm::network) {
            network_backward(network, x, options, first, steps, gradient);
            continue;
        }
        const bool last = first == 0 && options.complete;
        if (options.dy) {
            readout_backward(network, first, steps, gradient);
            // The gradient from the readout in the chunk: dz W_out [steps b, n].
            backend_.project_transposed({O, n_, network[Parameter::w_out], n_},
                                        {dz_.data() + first * b_ * O, steps * b_, O},
                                        Matrix<float>(input_.data(), steps * b_, n_), false);
        }
        if (form == PassForm::recurrence) {
            whole_backward(network, options, first, steps, gradient);
        } else {
            const auto loop = [&] {
                loop_backward(network, options, first, steps, gradient);
                recurrence_backward(network, first, steps, gradient);
            };
            const int kind = 1 * (options.dy != nullptr) + 2 * (options.adjoint_limit > 0.0f) + 4 * options.state_norms;
            if (options.time_constants)  // these need memory of their own
                loop();
            else
                record(kind, first, {network.values.data(), options.extra, gradient.data()}, loop);
        }
        // Not before: sharded neurons exchange their adjoints in every step of the pass, and a pass that fills a GPU
        // delays the kernels of a sum.
        if (last) options.complete({Parameter::w_out, Parameter::bias_out, Parameter::w_rec});
        inputs_backward(network, x, first, steps, gradient);
    }
}

void StatePass::add_extra(const BackwardOptions& options, Index t) {
    if (options.extra) backend_.add(du_.data(), options.extra + t * b_ * n_, b_ * n_);
}

// The readable form, for any grid: steps t = first + steps .. first + 1. It leaves the adjoints g of their currents in
// adjoint_.
void StatePass::loop_backward(const Network& network, const BackwardOptions& options, Index first, Index steps,
                              SumBuffer& gradient) {
    const NeuronModel& model = network.model.neuron;
    const auto row_sums = [&](Parameter p) { return gradient.matrix(1, n_, network.layout.extent(p).offset); };
    for (Index t = first + steps; t > first; --t) {
        const float* back = input_.data() + (t - 1 - first) * b_ * n_;
        if (options.dy && network.model.readout == Readout::membrane) backend_.add(du_.data(), back, b_ * n_);
        if (options.dy && network.model.readout == Readout::spikes)
            backend_.add_through_spikes(model, b_, n_, membrane(t), back, du_.data());
        add_extra(options, t);
        double* squares = squares_.data() + t * b_;
        if (options.state_norms || options.adjoint_limit > 0.0f)
            backend_.row_sum_squares(b_, n_, di_.data(), du_.data(), squares);
        if (options.adjoint_limit > 0.0f) {
            grid_.neurons().all_reduce_sum(squares, Scalar::float64, b_);
            backend_.cap_rows(b_, n_, squares, limit_.data(), di_.data(), du_.data());
        }
        if (options.time_constants)
            backend_.time_constants_backward(model, network.neurons(), b_, n_, current(t - 1), current(t),
                                             membrane(t - 1), di_.data(), du_.data(), row_sums(Parameter::alpha),
                                             row_sums(Parameter::beta));
        float* g = adjoint_.data() + (t - 1 - first) * b_ * n_;
        backend_.neuron_step_backward(model, network.neurons(), b_, n_, membrane(t - 1), di_.data(), du_.data(), g);
        recurrence_.apply_transposed(network[Parameter::w_rec], b_, g, step_.data());
        backend_.add_through_spikes(model, b_, n_, membrane(t - 1), step_.data(), du_.data());
    }
}

// The arguments of a whole pass over these steps.
StepsBackward StatePass::whole_pass(const Network& network, const BackwardOptions& options, Index first, Index steps,
                                    SumBuffer& gradient) {
    return {.steps = steps,
            .u = membrane(first),
            .bits = tape_.spikes.bits(first),
            .from_readout = nullptr,
            .readout = network.model.readout,
            .extra = options.extra ? options.extra + first * b_ * n_ : nullptr,
            .squares = options.state_norms ? squares_.data() + first * b_ : nullptr,
            .adjoint_limit = options.adjoint_limit > 0.0f ? limit_.data() : nullptr,
            .di = di_.data(),
            .du = du_.data(),
            .g = nullptr,
            .d_w_rec = gradient.matrix(n_, n_, network.layout.extent(Parameter::w_rec).offset)};
}

// The same with dW_rec, as one operation of the backend, if it takes the shape.
void StatePass::whole_backward(const Network& network, const BackwardOptions& options, Index first, Index steps,
                               SumBuffer& gradient) {
    StepsBackward pass = whole_pass(network, options, first, steps, gradient);
    pass.from_readout = options.dy ? input_.data() : nullptr;
    pass.g = adjoint_.data();
    require(backend_.backward_steps(network.model.neuron, network.neurons(), b_, n_, network[Parameter::w_rec], pass),
            Exit::internal, "the backend did not take a pass that its limits allow");
}

// All gradients as one operation, if the backend takes the whole network.
void StatePass::network_backward(const Network& network, const float* x, const BackwardOptions& options, Index first,
                                 Index steps, SumBuffer& gradient) {
    const Index M = shape_.inputs, O = shape_.outputs;
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    const NetworkBackward pass{.recurrent = whole_pass(network, options, first, steps, gradient),
                               .M = M,
                               .O = O,
                               .x = x + first * b_ * M,
                               .w_out = network[Parameter::w_out],
                               .dz = options.dy ? dz_.data() + first * b_ * O : nullptr,
                               .d_w_in = gradient.matrix(n_, M, at(Parameter::w_in)),
                               .d_bias = gradient.matrix(1, n_, at(Parameter::bias)),
                               .d_w_out = gradient.matrix(O, n_, at(Parameter::w_out))};
    require(backend_.backward_network(network.model.neuron, network.neurons(), b_, n_, network[Parameter::w_rec], pass),
            Exit::internal, "the backend did not take a network that its limits allow");
}

// dz of all steps, and the gradients of b_out and kappa.
void StatePass::filter_backward(const Network& network, const float* dy, SumBuffer& gradient) {
    const Index O = shape_.outputs;
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    backend_.readout_filter_backward(T_, b_, O, network[Parameter::kappa], tape_.readout.data(), dy, dz_.data(),
                                     gradient.matrix(1, O, at(Parameter::kappa)));
    backend_.add_column_sums({dz_.data(), T_ * b_, O}, gradient.matrix(1, O, at(Parameter::bias_out)));
}

// dW_out of the steps first + 1 .. first + steps.
void StatePass::readout_backward(const Network& network, Index first, Index steps, SumBuffer& gradient) {
    const Index O = shape_.outputs, rows = steps * b_;
    backend_.add_outer({dz_.data() + first * b_ * O, rows, O}, readout_input(network, first),
                       gradient.matrix(O, n_, network.layout.extent(Parameter::w_out).offset));
}

// dW_in and db of steps first .. first + steps - 1, from their adjoints g in adjoint_. The sums over steps x sequences
// are one product each.
void StatePass::inputs_backward(const Network& network, const float* x, Index first, Index steps, SumBuffer& gradient) {
    const Index M = shape_.inputs, rows = steps * b_;
    const Matrix<const float> g(adjoint_.data(), rows, n_);
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    backend_.add_outer(g, {.values = x + first * b_ * M, .stride = M, .sparse = true},
                       gradient.matrix(n_, M, at(Parameter::w_in)));
    backend_.add_column_sums(g, gradient.matrix(1, n_, at(Parameter::bias)));
}

// dW_rec of the same steps.
void StatePass::recurrence_backward(const Network& network, Index first, Index steps, SumBuffer& gradient) {
    recurrence_.add_outer(steps * b_, adjoint_.data(), tape_.spikes.at(first),
                          gradient.matrix(n_, shape_.neurons, network.layout.extent(Parameter::w_rec).offset));
}

std::vector<double> StatePass::state_gradient_norm() const {
    std::vector<double> squares = squares_.to_host();
    if (squares_complete_ && grid_.neuron_shard() != 0) std::fill(squares.begin() + b_, squares.end(), 0.0);
    std::vector<double> norm(static_cast<std::size_t>(T_ + 1), 0.0);
    for (Index t = 0; t <= T_; ++t)
        for (Index s = 0; s < b_; ++s)
            norm[static_cast<std::size_t>(t)] += squares[static_cast<std::size_t>(t * b_ + s)];
    grid_.control().all_reduce_sum(norm.data(), Scalar::float64, T_ + 1);
    for (double& value : norm) value = std::sqrt(value);
    return norm;
}

}  // namespace spikefloss
