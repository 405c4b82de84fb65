#include "network/state_loop.hpp"

namespace spikefloss {

StateLoop::StateLoop(Backend& backend, const ProcessGrid& grid, const StatePlan& plan, Index N)
    : backend_(backend),
      grid_(grid),
      plan_(plan),
      recurrence_(backend, grid, N, plan.b),
      chunk_(backend, plan.steps * plan.b * plan.N),
      step_(backend, plan.b * plan.N),
      squares_(backend, plan.b),
      forward_calls_(backend),
      backward_calls_(backend) {}

void StateLoop::forward(const StateForwardCall& call, SpikeTape& spikes, Index first) {
    project_inputs(backend_, plan_, call, chunk_.data());
    if (recordable())
        forward_calls_.run(call, [&] { run_forward(call, spikes, first); });
    else
        run_forward(call, spikes, first);
    project_readout(backend_, plan_, call, spikes.mine(first + 1));
}

void StateLoop::run_forward(const StateForwardCall& call, SpikeTape& spikes, Index first) {
    const Index size = plan_.b * plan_.N;
    for (Index t = 0; t < call.steps; ++t) {
        float *i = call.i + t * call.i_stride, *u = call.u + t * size;
        recurrence_.apply(call.w_rec, plan_.b, spikes.at(first + t), step_.data());
        backend_.neuron_step(call.model, call.neurons, plan_.b, plan_.N, chunk_.data() + t * size, step_.data(), {i, u},
                             {i + call.i_stride, u + size});
        if (!call.again) spikes.write(call.model, call.neurons, first + t + 1, {i + call.i_stride, u + size});
    }
}

void StateLoop::backward(const StateBackwardCall& call, const SpikeTape& spikes, Index first,
                         const std::function<void()>& recurrent_done) {
    readout_backward(backend_, plan_, call, spikes.mine(first + 1), chunk_.data());
    if (recordable())
        backward_calls_.run(call, [&] { run_backward(call, spikes, first); });
    else
        run_backward(call, spikes, first);
    // Not before: sharded neurons exchange their adjoints in every step, and a pass that fills a GPU delays the kernels
    // of a sum.
    if (recurrent_done) recurrent_done();
    inputs_backward(backend_, plan_, call, chunk_.data());
}

void StateLoop::run_backward(const StateBackwardCall& call, const SpikeTape& spikes, Index first) {
    const Index b = plan_.b, n = plan_.N, size = b * n;
    const auto add = [&](Index t, const float* back, const float* from_readout, const float* extra) {
        if (back || from_readout || extra)
            backend_.add_adjoints(call.model, call.neurons, call.readout, b, n, {nullptr, call.u + t * size}, back,
                                  nullptr, from_readout, extra, {call.di, call.du}, {});
    };
    for (Index t = call.steps; t >= 1; --t) {
        float* g = chunk_.data() + (t - 1) * size;
        add(t, t < call.steps ? step_.data() : nullptr, call.dz ? g : nullptr,
            call.extra ? call.extra + t * size : nullptr);
        if (call.squares || call.adjoint_limit) cap(call, t);
        const auto state = [&](Index step) -> NeuronState {
            return {plan_.time_constants ? call.i + step * size : nullptr, call.u + step * size};
        };
        ConstantSums sums;
        if (plan_.time_constants) sums = {.alpha = call.d_alpha, .beta = call.d_beta};
        backend_.neuron_step_backward(call.model, call.neurons, b, n, state(t - 1), state(t), {call.di, call.du}, g,
                                      nullptr, sums);
        recurrence_.apply_transposed(call.w_rec, b, g, step_.data());
    }
    add(0, step_.data(), nullptr, nullptr);
    recurrence_.add_outer(call.steps * b, chunk_.data(), spikes.at(first), call.d_w_rec);
}

// |(di, du)|^2 of each sequence at step t, and the cap.
void StateLoop::cap(const StateBackwardCall& call, Index t) {
    double* squares = call.squares ? call.squares + t * plan_.b : squares_.data();
    backend_.row_sum_squares(plan_.b, plan_.N, call.di, call.du, nullptr, squares);
    if (!call.adjoint_limit) return;
    grid_.neurons().all_reduce_sum(squares, Scalar::float64, plan_.b);
    backend_.cap_rows(plan_.b, plan_.N, squares, call.adjoint_limit, call.di, call.du, nullptr);
}

}  // namespace spikefloss
