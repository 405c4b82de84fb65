// Neuron and spike operations of the CUDA backend: launches over the scalar equations of src/neuron.
#include "cuda_backend.hpp"

#include "kernel.cuh"
#include "neuron/lif.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int block = 256;

__global__ void neuron_step_kernel(NeuronModel model, NeuronVectors neurons, Index count, Index n, const float* input,
                                   const float* recurrent, const float* i, const float* u, float* i_next,
                                   float* u_next) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        const Index j = at % n;
        const float total = (input[at] + recurrent[at]) + neurons.bias[j];
        const float current = next_current(neurons.alpha[j], i[at], total);
        i_next[at] = current;
        u_next[at] = next_membrane(model, neurons.beta[j], u[at], current);
    }
}

// One warp per word: lane l takes neuron 32 w + l. The stride of the grid is a whole number of warps, so that all lanes
// of a warp vote together.
__global__ void pack_spikes_kernel(float theta, Index rows, Index n, const float* u, std::uint32_t* bits) {
    const Index words = spike_words(n);
    const unsigned lane = threadIdx.x % warp_size;
    for (Index word = first_element() / warp_size; word < rows * words; word += element_stride() / warp_size) {
        const Index row = word / words, j = word % words * warp_size + lane;
        const unsigned vote = __ballot_sync(all_lanes, j < n && u[row * n + j] > theta);
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

__global__ void neuron_step_backward_kernel(NeuronModel model, NeuronVectors neurons, Index count, Index n,
                                            const float* u_before, float* di, float* du, float* g) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        const Index j = at % n;
        const float c = reset_factor(model.reset, spike(u_before[at], model.threshold));
        const float dv = du[at] * factor_after(model.reset_delay, c);
        const float current = fmaf(1.0f - neurons.beta[j], dv, di[at]);
        g[at] = current;
        di[at] = neurons.alpha[j] * current;
        du[at] = neurons.beta[j] * (factor_before(model.reset_delay, c) * dv);
    }
}

__global__ void add_adjoints_kernel(NeuronModel model, Readout readout, Index count, const float* u, const float* back,
                                    const float* from_readout, const float* extra, float* du) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        float x = du[at];
        const bool through = back || (from_readout && readout == Readout::spikes);
        const float psi = through ? surrogate_psi(model.surrogate, u[at] - model.threshold, model.sharpness) : 0.0f;
        if (back) x = fmaf(psi, back[at], x);
        if (from_readout) x = readout == Readout::membrane ? x + from_readout[at] : fmaf(psi, from_readout[at], x);
        if (extra) x += extra[at];
        du[at] = x;
    }
}

// One thread per neuron. It takes the sequences in order, so that the sums are those of the CPU.
template <class T>
__global__ void time_constants_backward_kernel(NeuronModel model, NeuronVectors neurons, Index b, Index n,
                                               const float* i_before, const float* i_now, const float* u_before,
                                               const float* di, const float* du, T* d_alpha, T* d_beta) {
    for (Index j = first_element(); j < n; j += element_stride()) {
        const float beta = neurons.beta[j];
        T alpha_sum = d_alpha[j], beta_sum = d_beta[j];
        for (Index at = j; at < b * n; at += n) {
            const float c = reset_factor(model.reset, spike(u_before[at], model.threshold));
            const float dv = du[at] * factor_after(model.reset_delay, c);
            const float g = fmaf(1.0f - beta, dv, di[at]);
            alpha_sum += static_cast<T>(g) * i_before[at];
            beta_sum += static_cast<T>(dv) *
                        (leaking_membrane(model, model.threshold, spike(u_before[at], model.threshold), u_before[at]) -
                         i_now[at]);
        }
        d_alpha[j] = alpha_sum;
        d_beta[j] = beta_sum;
    }
}

}  // namespace

void CudaBackend::neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                              const float* input, const float* recurrent, const NeuronState& now,
                              const NextState& next) {
    launch({grid_for(b * n, block), block, stream_}, neuron_step_kernel, model, neurons, b * n, n, input, recurrent,
           now.i, now.u, next.i, next.u);
}

void CudaBackend::pack_spikes(const NeuronModel& model, const NeuronVectors&, Index rows, Index n,
                              const NeuronState& state, std::uint32_t* bits) {
    launch({grid_for(rows * spike_words(n) * warp_size, block), block, stream_}, pack_spikes_kernel, model.threshold,
           rows, n, state.u, bits);
}

void CudaBackend::count_spikes(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) {
    // Few blocks, so that few of them add to *count at the same time.
    dim3 grid = grid_for(rows * words, block);
    grid.x = std::min(grid.x, 512u);
    launch({grid, block, stream_, 33 * sizeof(double)}, count_spikes_kernel, rows, words, bits, stride, count);
}

void CudaBackend::neuron_step_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                                       const NeuronState& before, const NeuronState& now, const StateAdjoint& d,
                                       float* g, float*, const ConstantSums& sums) {
    const auto add_time_constants = [&](auto* alpha_sum, auto* beta_sum) {
        using T = std::remove_pointer_t<decltype(alpha_sum)>;
        launch({grid_for(n, 64), 64, stream_}, time_constants_backward_kernel<T>, model, neurons, b, n, before.i, now.i,
               before.u, static_cast<const float*>(d.di), static_cast<const float*>(d.du), alpha_sum, beta_sum);
    };
    if (sums.alpha.data && sums.alpha.type == Scalar::float32)
        add_time_constants(static_cast<float*>(sums.alpha.data), static_cast<float*>(sums.beta.data));
    else if (sums.alpha.data)
        add_time_constants(static_cast<double*>(sums.alpha.data), static_cast<double*>(sums.beta.data));
    launch({grid_for(b * n, block), block, stream_}, neuron_step_backward_kernel, model, neurons, b * n, n, before.u,
           d.di, d.du, g);
}

void CudaBackend::add_adjoints(const NeuronModel& model, const NeuronVectors&, Readout readout, Index rows, Index n,
                               const NeuronState& state, const float* back, const float*, const float* from_readout,
                               const float* extra, const StateAdjoint& d, const SumMatrix&) {
    launch({grid_for(rows * n, block), block, stream_}, add_adjoints_kernel, model, readout, rows * n, state.u, back,
           from_readout, extra, d.du);
}

}  // namespace spikefloss
