#include "network/state_loop.hpp"

#include <algorithm>
#include <functional>

namespace spikefloss {
namespace {

Index longest_delay(const std::vector<Term>& terms) {
    Index longest = 1;
    for (const Term& term : terms) longest = std::max(longest, term.delay);
    return longest;
}

}  // namespace

StateLoop::StateLoop(Backend& backend, const ProcessGrid& grid, const StatePlan& plan, Index N, Terms terms,
                     bool adaptation)
    : backend_(backend),
      grid_(grid),
      plan_(plan),
      terms_(std::move(terms)),
      longest_(longest_delay(terms_.recurrent)),
      recurrence_(backend, grid, N, terms_.recurrent, plan.b, Product::spikes),
      chunk_(backend, (plan.steps + longest_ - 1) * plan.b * plan.N),
      later_(backend, (longest_ - 1) * plan.b * plan.N),
      step_(backend, plan.b * plan.N),
      own_(backend, adaptation ? plan.b * plan.N : 0),
      squares_(backend, plan.b),
      forward_calls_(backend),
      backward_calls_(backend) {}

void StateLoop::forward(const StateForwardCall& call, SpikeTape& spikes, Index first) {
    recurrence_.begin();
    project_inputs(backend_, terms_.input, {plan_.b, plan_.M, first, call.steps, call.x, call.x_bits}, call.w_in,
                   plan_.N, chunk_.data());
    if (recordable())
        forward_calls_.run(call, [&] { run_forward(call, spikes, first); });
    else
        run_forward(call, spikes, first);
    project_readout(backend_, plan_, call, spikes.mine(first + 1));
}

void StateLoop::run_forward(const StateForwardCall& call, SpikeTape& spikes, Index first) {
    const Index size = plan_.b * plan_.N;
    for (Index t = 0; t < call.steps; ++t) {
        backend_.may_stop();
        float *i = call.i + t * call.i_stride, *u = call.u + t * size, *w = call.w ? call.w + t * size : nullptr;
        const NextState next{i + call.i_stride, u + size, w ? w + size : nullptr};
        const auto fired = [&](Index delay) {
            const Index at = first + t + 1 - delay;
            return at >= 0 ? spikes.at(at) : std::vector<Activity>();
        };
        recurrence_.apply(call.w_rec, plan_.b, std::ref(fired), step_.data());
        backend_.neuron_step(call.model, call.neurons, plan_.b, plan_.N, chunk_.data() + t * size, step_.data(),
                             {i, u, w, spikes.refractory(first + t)}, next);
        if (!call.again)
            spikes.write(call.model, call.neurons, first + t + 1,
                         {next.i, next.u, next.w, spikes.refractory(first + t + 1)});
    }
}

void StateLoop::backward(const StateBackwardCall& call, const SpikeTape& spikes, Index first,
                         const std::function<void()>& recurrent_done) {
    recurrence_.begin();
    readout_backward(backend_, plan_, call, spikes.mine(first + 1), chunk_.data());
    if (recordable())
        backward_calls_.run(call, [&] { run_backward(call, spikes, first); });
    else
        run_backward(call, spikes, first);
    // Not before: sharded neurons exchange their adjoints in every step, and a pass that fills a GPU delays the kernels
    // of a sum.
    if (recurrent_done) recurrent_done();
    if (call.g)
        backend_.copy(call.g, chunk_.data(), static_cast<std::size_t>(call.steps * plan_.b * plan_.N) * sizeof(float));
    add_inputs(backend_, terms_.input, {plan_.b, plan_.M, first, call.steps, call.x, call.x_bits}, chunk_.data(),
               plan_.N, call.d_w_in);
    backend_.add_column_sums({chunk_.data(), call.steps * plan_.b, plan_.N}, call.d_bias);
}

void StateLoop::run_backward(const StateBackwardCall& call, const SpikeTape& spikes, Index first) {
    const Index b = plan_.b, n = plan_.N, size = b * n;
    const ConstantSums sums = plan_.time_constants ? call.constants : ConstantSums();
    const StateAdjoint d{call.di, call.du, call.dw};
    float* const own = call.dw ? own_.data() : nullptr;
    const auto state = [&](Index t) -> NeuronState {
        return {plan_.time_constants ? call.i + t * size : nullptr, call.u + t * size,
                call.w ? call.w + t * size : nullptr, spikes.refractory(first + t)};
    };
    const auto add = [&](Index t, bool through_spikes, const float* from_readout, const float* extra) {
        if (through_spikes || from_readout || extra)
            backend_.add_adjoints(call.model, call.neurons, call.readout, b, n, state(t),
                                  through_spikes ? step_.data() : nullptr, through_spikes ? own : nullptr, from_readout,
                                  extra, d, sums.threshold);
    };
    if (longest_ > 1) backend_.copy(chunk_.data() + call.steps * size, later_.data(), later_.bytes());
    for (Index t = call.steps; t >= 1; --t) {
        backend_.may_stop();
        float* g = chunk_.data() + (t - 1) * size;
        add(t, t < call.steps, call.dz ? g : nullptr, call.extra ? call.extra + t * size : nullptr);
        if (call.squares || call.adjoint_limit) cap(call, t);
        backend_.neuron_step_backward(call.model, call.neurons, b, n, state(t - 1), state(t), d, g, own, sums);
        // The adjoint of the spikes of step t - 1: g of d - 1 steps later, g[t-1+d].
        const auto later = [&](Index delay) -> const float* { return g + (delay - 1) * size; };
        recurrence_.apply_transposed(call.w_rec, b, std::ref(later), step_.data());
    }
    add(0, true, nullptr, nullptr);
    if (longest_ > 1) backend_.copy(later_.data(), chunk_.data(), later_.bytes());
    for (const Term& term : terms_.recurrent) {
        const Index skipped = std::clamp<Index>(term.delay - 1 - first, 0, call.steps);
        if (skipped == call.steps) continue;
        recurrence_.add_outer(term, (call.steps - skipped) * b, chunk_.data() + skipped * size,
                              spikes.at(first + skipped + 1 - term.delay), call.d_w_rec);
    }
}

// |(di, du, dw)|^2 of each sequence at step t, and the cap.
void StateLoop::cap(const StateBackwardCall& call, Index t) {
    double* squares = call.squares ? call.squares + t * plan_.b : squares_.data();
    backend_.row_sum_squares(plan_.b, plan_.N, call.di, call.du, call.dw, squares);
    if (!call.adjoint_limit) return;
    grid_.neurons().all_reduce_sum(squares, Scalar::float64, plan_.b);
    backend_.cap_rows(plan_.b, plan_.N, squares, call.adjoint_limit, call.di, call.du, call.dw);
}

}  // namespace spikefloss
