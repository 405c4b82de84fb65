// Neuron and spike operations of the CUDA backend: launches over the scalar equations of src/neuron.
#include "cuda_backend.hpp"

#include "neuron_state.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int block = 256;

__global__ void neuron_step_kernel(NeuronModel model, NeuronVectors neurons, Index count, Index n, const float* input,
                                   const float* recurrent, NeuronState now, NextState next) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        const Index j = at % n;
        const Firing fires = firing_of(model, neurons, now, at / n, n, j);
        const float total = (input[at] + recurrent[at]) + neurons.bias[j], u = now.u[at];
        float h = next_current(neurons.alpha[j], now.i[at], total);
        next.i[at] = h;
        if (model.adaptation != Adaptation::none) {
            const float w =
                next_adaptation(neurons.rho[j], now.w[at], neurons.adapt_membrane[j],
                                after_reset(model.reset, u, fires.s, fires.theta), neurons.adapt_spike[j], fires.s);
            h = adapted_current(model.adaptation, h, w);
            next.w[at] = w;
        }
        next.u[at] = next_membrane(model, fires.theta, fires.s, neurons.beta[j], u, h);
    }
}

// One warp per word: lane l takes neuron 32 w + l. The stride of the grid is a whole number of warps, so that all lanes
// of a warp vote together.
__global__ void pack_spikes_kernel(NeuronModel model, NeuronVectors neurons, Index rows, Index n, NeuronState state,
                                   std::uint32_t* bits) {
    const Index words = spike_words(n);
    const unsigned lane = threadIdx.x % warp_size;
    for (Index word = first_element() / warp_size; word < rows * words; word += element_stride() / warp_size) {
        const Index row = word / words, j = word % words * warp_size + lane;
        const unsigned vote = __ballot_sync(all_lanes, j < n && firing_of(model, neurons, state, row, n, j).s > 0.0f);
        if (lane == 0) bits[word] = vote;
    }
}

// Sums of integers below 2^53 are exact, so the order in which blocks add to *count does not matter.
__global__ void count_spikes_kernel(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) {
    double spikes = 0.0;
    for (Index at = first_element(); at < rows * words; at += element_stride())
        spikes += __popc(bits[at / words * stride + at % words]);
    spikes = block_sum(spikes, dynamic_shared<double>());
    if (threadIdx.x == 0 && spikes > 0.0) atomicAdd(count, spikes);
}

// The adjoints in the step of neuron j of a row; c is returned, too.
__device__ StepAdjoint adjoint_of(const NeuronModel& model, const NeuronVectors& neurons, const Firing& fires, Index at,
                                  Index j, const StateAdjoint& d, float& c) {
    c = reset_factor(model.reset, fires.s);
    const float dw = model.adaptation != Adaptation::none ? d.dw[at] : 0.0f;
    return step_adjoint(model, c, neurons.beta[j], d.di[at], d.du[at], dw);
}

__global__ void neuron_step_backward_kernel(NeuronModel model, NeuronVectors neurons, Index count, Index n,
                                            NeuronState before, StateAdjoint d, float* g, float* own) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        const Index j = at % n;
        float c;
        const StepAdjoint a = adjoint_of(model, neurons, firing_of(model, neurons, before, at / n, n, j), at, j, d, c);
        float du = neurons.beta[j] * (factor_before(model.reset_delay, c) * a.dk);
        g[at] = a.g;
        d.di[at] = neurons.alpha[j] * a.g;
        if (model.adaptation != Adaptation::none) {
            own[at] = neurons.adapt_spike[j] * a.gw;
            du = fmaf(neurons.adapt_membrane[j], c * a.gw, du);
            d.dw[at] = neurons.rho[j] * a.gw;
        }
        d.du[at] = du;
    }
}

// The sum of neuron j in [1, n] sums. A sum that is not wanted stays 0.
template <class T>
struct RunningSum {
    T* to;
    T value;
    __device__ RunningSum(const SumMatrix& sums, Index j)
        : to(sums.data ? static_cast<T*>(sums.data) + j : nullptr), value(to ? *to : T(0)) {}
    __device__ void add(float x, float y) { value += static_cast<T>(x) * y; }
    __device__ void store() {
        if (to) *to = value;
    }
};

// One thread per neuron. It takes the sequences in order, so that the sums are those of the CPU.
template <class T>
__global__ void constants_backward_kernel(NeuronModel model, NeuronVectors neurons, Index b, Index n,
                                          NeuronState before, NeuronState now, StateAdjoint d, ConstantSums sums) {
    for (Index j = first_element(); j < n; j += element_stride()) {
        RunningSum<T> alpha(sums.alpha, j), beta(sums.beta, j), threshold(sums.threshold, j), rho(sums.rho, j),
            adapt_membrane(sums.adapt_membrane, j), adapt_spike(sums.adapt_spike, j);
        for (Index row = 0; row < b; ++row) {
            const Index at = row * n + j;
            const Firing fires = firing_of(model, neurons, before, row, n, j);
            const float u = before.u[at];
            float c;
            const StepAdjoint a = adjoint_of(model, neurons, fires, at, j, d, c);
            if (alpha.to) alpha.add(a.g, before.i[at]);
            if (beta.to) {
                const float w = model.adaptation == Adaptation::current ? now.w[at] : 0.0f;
                beta.add(a.dk, leaking_membrane(model, fires.theta, fires.s, u) -
                                   adapted_current(model.adaptation, now.i[at], w));
            }
            if (threshold.to && model.reset == Reset::subtract) {
                float through = model.reset_delay == 0 ? neurons.beta[j] * a.dk : a.dk;
                if (model.adaptation != Adaptation::none) through = fmaf(neurons.adapt_membrane[j], a.gw, through);
                threshold.add(-through, fires.s);
            }
            if (rho.to) rho.add(a.gw, before.w[at]);
            if (adapt_membrane.to) adapt_membrane.add(a.gw, after_reset(model.reset, u, fires.s, fires.theta));
            if (adapt_spike.to) adapt_spike.add(a.gw, fires.s);
        }
        alpha.store(), beta.store(), threshold.store(), rho.store(), adapt_membrane.store(), adapt_spike.store();
    }
}

// What add_adjoints adds, [rows, n] each.
struct Additions {
    Readout readout;
    const float *back, *own, *from_readout, *extra;

    __device__ bool through_spikes() const { return back || own || (from_readout && readout == Readout::spikes); }
    // x plus the parts of element `at`; with_all: also what the readout gets from membranes.
    __device__ float add_to(float x, float psi, Index at, bool with_all) const {
        if (back) x = fmaf(psi, back[at], x);
        if (own) x = fmaf(psi, own[at], x);
        if (from_readout && readout == Readout::spikes) x = fmaf(psi, from_readout[at], x);
        if (from_readout && readout == Readout::membrane && with_all) x += from_readout[at];
        return extra ? x + extra[at] : x;
    }
};

__global__ void add_adjoints_kernel(NeuronModel model, NeuronVectors neurons, Index count, Index n, NeuronState state,
                                    Additions parts, StateAdjoint d) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        const float psi =
            parts.through_spikes() ? psi_of(model, firing_of(model, neurons, state, at / n, n, at % n)) : 0.0f;
        d.du[at] = parts.add_to(d.du[at], psi, at, true);
        if (d.dw && model.adaptation == Adaptation::threshold) d.dw[at] -= parts.add_to(0.0f, psi, at, false);
    }
}

// One thread per neuron, rows in order.
template <class T>
__global__ void threshold_backward_kernel(NeuronModel model, NeuronVectors neurons, Index rows, Index n,
                                          NeuronState state, Additions parts, T* d_threshold) {
    for (Index j = first_element(); j < n; j += element_stride()) {
        T sum = d_threshold[j];
        for (Index row = 0; row < rows; ++row) {
            const float psi =
                parts.through_spikes() ? psi_of(model, firing_of(model, neurons, state, row, n, j)) : 0.0f;
            sum -= parts.add_to(0.0f, psi, row * n + j, false);
        }
        d_threshold[j] = sum;
    }
}

}  // namespace

void CudaBackend::neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                              const float* input, const float* recurrent, const NeuronState& now,
                              const NextState& next) {
    launch({grid_for(b * n, block), block, stream_}, neuron_step_kernel, model, neurons, b * n, n, input, recurrent,
           now, next);
}

void CudaBackend::pack_spikes(const NeuronModel& model, const NeuronVectors& neurons, Index rows, Index n,
                              const NeuronState& state, std::uint32_t* bits) {
    launch({grid_for(rows * spike_words(n) * warp_size, block), block, stream_}, pack_spikes_kernel, model, neurons,
           rows, n, state, bits);
}

void CudaBackend::count_spikes(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) {
    // Few blocks, so that few of them add to *count at the same time.
    dim3 grid = grid_for(rows * words, block);
    grid.x = std::min(grid.x, 512u);
    launch({grid, block, stream_, 33 * sizeof(double)}, count_spikes_kernel, rows, words, bits, stride, count);
}

void CudaBackend::neuron_step_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                                       const NeuronState& before, const NeuronState& now, const StateAdjoint& d,
                                       float* g, float* own, const ConstantSums& sums) {
    if (sums.any())
        launch({grid_for(n, 64), 64, stream_},
               sums_ == Sums::float32 ? constants_backward_kernel<float> : constants_backward_kernel<double>, model,
               neurons, b, n, before, now, d, sums);
    launch({grid_for(b * n, block), block, stream_}, neuron_step_backward_kernel, model, neurons, b * n, n, before, d,
           g, own);
}

void CudaBackend::add_adjoints(const NeuronModel& model, const NeuronVectors& neurons, Readout readout, Index rows,
                               Index n, const NeuronState& state, const float* back, const float* own,
                               const float* from_readout, const float* extra, const StateAdjoint& d,
                               const SumMatrix& d_threshold) {
    const Additions parts{readout, back, own, from_readout, extra};
    const Launch columns{grid_for(n, 64), 64, stream_};
    if (d_threshold.data && d_threshold.type == Scalar::float32)
        launch(columns, threshold_backward_kernel<float>, model, neurons, rows, n, state, parts,
               static_cast<float*>(d_threshold.data));
    else if (d_threshold.data)
        launch(columns, threshold_backward_kernel<double>, model, neurons, rows, n, state, parts,
               static_cast<double*>(d_threshold.data));
    launch({grid_for(rows * n, block), block, stream_}, add_adjoints_kernel, model, neurons, rows * n, n, state, parts,
           d);
}

}  // namespace spikefloss
