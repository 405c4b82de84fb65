// One step of one sequence, forwards and backwards, for the whole passes on the CPU. Arrays are [N].
#pragma once

#include "backend/cpu_backend.hpp"
#include "backend/cpu_neuron_block.hpp"
#include "backend/cpu_sparse.hpp"
#include "backend/state_passes.hpp"

#include <cmath>
#include <type_traits>

namespace spikefloss {

// The most sequences that a thread takes through the steps together, so that their states stay in cache.
inline constexpr Index largest_group = 32;

// The threads, of at most `most`, that take `steps` steps of a pass. On a busy machine threads that share less work
// wait for each other for most of the time.
inline Index threads_for_steps(Index most, const StatePlan& plan, Index steps) {
    constexpr Index least_work = 8192;  // steps of a neuron in a network of less than 128
    const Index work = steps * plan.b * plan.N * (1 + plan.N / 128);
    return std::clamp<Index>(work / least_work, 1, most);
}

// The bits of u > theta. A word is complete before it is stored.
inline void pack_row(const float* u, Index n, float theta, std::uint32_t* bits) {
    const Lane threshold = repeat(theta);
    for (Index first = 0; first < n; first += 32, u += 32) {
        const Index count = std::min<Index>(32, n - first);
        std::uint32_t word = 0;
        Index j = 0;
        for (; j + lane_size <= count; j += lane_size) word |= greater(load(u + j), threshold) << j;
        for (; j < count; ++j) word |= static_cast<std::uint32_t>(u[j] > theta) << j;
        *bits++ = word;
    }
}

// sums [rows, width] of one panel: for every row the sum over its spikes j of the panel's w[j].
inline void add_spikes(const SparseRows& spikes, Columns columns, const float* panels, float* sums, Index width) {
    const float* panel = panels + columns.begin * spikes.columns;
    with_tiles(columns.size / tile, [&](auto tiles) {
        for (Index c = 0; c < spikes.blocks(); ++c)
            for (Index r = 0; r < spikes.rows; ++r)
                gather<tiles, false>(spikes, c, r, panel + c * spikes.block * columns.size, c > 0,
                                     sums + r * width + columns.begin);
    });
}

// Calls work(reset, reset_delay) with those of the model as constants, so that its loop is vectorised for each rule.
template <class Work>
void with_reset(const NeuronModel& model, Work&& work) {
    const auto with_delay = [&](auto reset) {
        if (model.reset_delay == 0)
            work(reset, std::integral_constant<int, 0>{});
        else
            work(reset, std::integral_constant<int, 1>{});
    };
    if (model.reset == Reset::zero) return with_delay(std::integral_constant<Reset, Reset::zero>{});
    if (model.reset == Reset::subtract) return with_delay(std::integral_constant<Reset, Reset::subtract>{});
    with_delay(std::integral_constant<Reset, Reset::none>{});
}

// A model whose reset and adaptation are constants of its type, so that a loop is compiled for each.
template <Reset reset, int reset_delay, Adaptation kind>
struct ConstantModel {
    static constexpr Adaptation adaptation = kind;
    NeuronModel model;
    operator NeuronModel() const {
        NeuronModel m = model;
        m.reset = reset, m.reset_delay = reset_delay, m.adaptation = kind;
        return m;
    }
};
// Calls work(constant model) for the neurons of a block.
template <class Block, class Work>
void with_constants(const NeuronModel& model, const Block&, Work&& work) {
    with_reset(model, [&](auto reset, auto delay) { work(ConstantModel<reset, delay, Block::adaptation>{model}); });
}

// One step of the neurons of a block. Arrays begin at the first neuron of its row.
template <class Block>
void take_step(const NeuronModel& model, const NeuronVectors& neurons, const Block& block, const float* input,
               const float* recurrent, const NeuronState& now, const NextState& next) {
    with_constants(model, block, [&](auto constant) {
        const NeuronModel m = constant;
#pragma omp simd
        for (Index j = block.begin; j < block.end; ++j) {
            const Firing at = block[j];
            const float total = (input[j] + recurrent[j]) + neurons.bias[j], u = now.u[j];
            float h = next_current(neurons.alpha[j], now.i[j], total);
            next.i[j] = h;
            if constexpr (Block::adaptation != Adaptation::none) {
                const float w = next_adaptation(neurons.rho[j], now.w[j], neurons.adapt_membrane[j],
                                                after_reset(m.reset, u, at.s, at.theta), neurons.adapt_spike[j], at.s);
                h = adapted_current(m.adaptation, h, w);
                next.w[j] = w;
            }
            next.u[j] = next_membrane(m, at.theta, at.s, neurons.beta[j], u, h);
        }
    });
}

// |(di, du, dw)|^2 of sequence s at step t, if the call wants it, and the cap.
inline void limit_adjoint(CpuBackend& backend, const StatePlan& plan, const StateBackwardCall& call, Index t, Index s,
                          const StateAdjoint& d) {
    if (!call.squares && !call.adjoint_limit) return;
    double square = 0.0;
    backend.row_sum_squares(1, plan.N, d.di, d.du, d.dw, &square);
    if (call.squares) call.squares[t * plan.b + s] = square;
    if (call.adjoint_limit) backend.cap_rows(1, plan.N, &square, call.adjoint_limit, d.di, d.du, d.dw);
}

// Adjoints of neurons [begin, end) of sequence s at step t of the call: adds the gradients from the readout and the
// tangents, then computes the step backwards without the recurrence. from_readout may be null, or g. g is written. The
// call must not want norms or the cap unless these are all neurons.
template <class S>
void take_step_back(CpuBackend& backend, const StatePlan& plan, const StateBackwardCall& call, Index t, Index s,
                    const float* from_readout, float* g, Index begin, Index end) {
    const float theta = call.model.threshold, sharpness = call.model.sharpness;
    const NeuronVectors& neurons = call.neurons;
    const Reset reset = call.model.reset;
    const int delay = call.model.reset_delay;
    const Index b = plan.b, N = plan.N, now = (t * b + s) * N, before = now - b * N;
    float *di = call.di + s * N, *du = call.du + s * N;
    if (from_readout && call.readout == Readout::membrane)
#pragma omp simd
        for (Index j = begin; j < end; ++j) du[j] += from_readout[j];
    if (from_readout && call.readout == Readout::spikes)
#pragma omp simd
        for (Index j = begin; j < end; ++j)
            du[j] = fmaf(S::psi(call.u[now + j] - theta, sharpness), from_readout[j], du[j]);
    if (call.extra)
#pragma omp simd
        for (Index j = begin; j < end; ++j) du[j] += call.extra[now + j];
    limit_adjoint(backend, plan, call, t, s, {di, du});
#pragma omp simd
    for (Index j = begin; j < end; ++j) {
        const float c = reset_factor(reset, spike(call.u[before + j], theta)), dv = du[j] * factor_after(delay, c);
        const float current = fmaf(1.0f - neurons.beta[j], dv, di[j]);
        g[j] = current;
        di[j] = neurons.alpha[j] * current;
        du[j] = neurons.beta[j] * (factor_before(delay, c) * dv);
    }
}

// du += psi(u - theta) back.
template <class S>
void add_through_psi(const NeuronModel& model, Index N, const float* u, const float* back, float* du) {
#pragma omp simd
    for (Index j = 0; j < N; ++j) du[j] = fmaf(S::psi(u[j] - model.threshold, model.sharpness), back[j], du[j]);
}

}  // namespace spikefloss
