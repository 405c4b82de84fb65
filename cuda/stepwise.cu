// Whole passes of networks whose W_rec does not fit into shared memory: one product and one kernel per step, all queued
// at once.
// Products of spikes are taken in bfloat16 (bf16_parts.hpp).
#include "bf16_parts.hpp"
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

struct StepArrays {
    NeuronModel model;
    NeuronVectors neurons;
    Index b, N;
    const float *input, *product, *i, *u;  // of this step; product null: no step, only the spikes of u
    float *i_next, *u_next;
    std::uint32_t* bits;    // of the next step, [b, words]
    __nv_bfloat16* spikes;  // of the next step, [b, parts, N]
    int parts;
};

// The neuron step, and the new spikes as bits and as bfloat16. One warp per word.
__global__ void neuron_step_to_spikes_kernel(const StepArrays a) {
    const Index words = (a.N + 31) / 32, lane = threadIdx.x % warp_size;
    for (Index at = first_element() / warp_size; at < a.b * words; at += element_stride() / warp_size) {
        const Index s = at / words, j = at % words * 32 + lane, here = s * a.N + j;
        float u = 0.0f;
        if (j < a.N && a.product) {
            const float total = (a.input[here] + a.product[here]) + a.neurons.bias[j];
            const float current = next_current(a.neurons.alpha[j], a.i[here], total);
            const float before = a.u[here], v = leaky(a.neurons.beta[j], before, current);
            u = after_reset(a.model.reset, v, spike(before, a.model.threshold), a.model.threshold);
            a.i_next[here] = current;
            a.u_next[here] = u;
        } else if (j < a.N) {
            u = a.u[here];
        }
        const bool fires = j < a.N && u > a.model.threshold;
        const std::uint32_t word = __ballot_sync(all_lanes, fires);
        if (lane == 0) a.bits[at] = word;
        if (j < a.N)
            for (int part = 0; part < a.parts; ++part)
                a.spikes[(s * a.parts + part) * a.N + j] = __float2bfloat16_rn(fires ? 1.0f : 0.0f);
    }
}

// du += psi(u - theta) back (if back is not null), then du += the gradients of u from the readout and the tangents.
__global__ void inject_kernel(NeuronModel model, Index count, const float* u, const float* back, Readout readout,
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

Launch elements(Index count, cudaStream_t stream) {
    return {.grid = grid_for(count, 256), .block = dim3(256), .stream = stream};
}

}  // namespace

void CudaBackend::forward_stepwise(const NeuronModel& model, const NeuronVectors& neurons, Index steps, Index b,
                                   Index N, const float* w_rec, const float* input, float* i, Index i_stride, float* u,
                                   std::uint32_t* bits) {
    const int parts = parts_of(precision_);
    const Index row = b * N, words = spike_words(N), wide = parts * N;
    auto* w = scratch<__nv_bfloat16>(1, N * wide);       // [N, parts, N]
    auto* spikes = scratch<__nv_bfloat16>(2, b * wide);  // [b, parts, N]
    auto* product = scratch<float>(3, row);              // [b, N]
    const auto step_kernel = [&](Index t, const float* product_or_null) {
        const Index before = t == 0 ? 0 : t - 1;
        const StepArrays arrays{model,
                                neurons,
                                b,
                                N,
                                input + before * row,
                                product_or_null,
                                i + before * i_stride,
                                u + before * row,
                                i + t * i_stride,
                                u + t * row,
                                bits + t * b * words,
                                spikes,
                                parts};
        launch(elements(b * words * warp_size, stream_), neuron_step_to_spikes_kernel, arrays);
    };
    GraphKey key;
    key << 'f' << model.threshold << model.reset << neurons.alpha << neurons.beta << neurons.bias << steps << b << N
        << w_rec << input << i << i_stride << u << bits;
    graphs().run(stream_, key, [&] {
        split(stream_, {w_rec, N, N}, parts, wide, N, w);
        step_kernel(0, nullptr);  // only the spikes of u[0]
        for (Index t = 1; t <= steps; ++t) {
            // product [b, N] = spikes [b, parts N] w' [parts N, N]; row-major is column-major transposed.
            bf16_product(blas_, CUBLAS_OP_T, CUBLAS_OP_N, N, b, wide, w, wide, spikes, wide, false, product, N);
            step_kernel(t, product);
        }
    });
}

void CudaBackend::backward_stepwise(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                    const float* w_rec, const StepsBackward& pass) {
    const Index row = b * N;
    auto* back = scratch<float>(1, row);
    auto* squares = scratch<double>(2, b);
    const auto inject = [&](Index t) {
        launch(elements(row, stream_), inject_kernel, model, row, pass.u + t * row,
               static_cast<const float*>(t < pass.steps ? back : nullptr), pass.readout,
               pass.from_readout && t > 0 ? pass.from_readout + (t - 1) * row : nullptr,
               pass.extra && t > 0 ? pass.extra + t * row : nullptr, pass.du);
    };
    GraphKey key;
    key << 'b' << model.threshold << model.reset << model.surrogate << model.sharpness << neurons.alpha << neurons.beta
        << b << N << w_rec << pass.steps << pass.u << pass.from_readout << pass.readout << pass.extra << pass.squares
        << pass.adjoint_limit << pass.di << pass.du << pass.g;
    graphs().run(stream_, key, [&] {
        for (Index t = pass.steps; t >= 1; --t) {
            inject(t);
            double* const norms = pass.squares ? pass.squares + t * b : squares;
            if (pass.squares || pass.adjoint_limit) row_sum_squares(b, N, pass.di, pass.du, norms);
            if (pass.adjoint_limit) cap_rows(b, N, norms, pass.adjoint_limit, pass.di, pass.du);
            float* const g = pass.g + (t - 1) * row;
            neuron_step_backward(model, neurons, b, N, pass.u + (t - 1) * row, pass.di, pass.du, g);
            project_transposed({N, N, w_rec, N}, {g, b, N}, Matrix<float>(back, b, N), false);
        }
        inject(0);
    });
    add_outer({pass.g, pass.steps * b, N}, {.bits = pass.bits, .stride = spike_words(N)}, pass.d_w_rec);
}

}  // namespace spikefloss
