// Propagation of tangents and its adjoint. A tangent is a row of n neurons; only psi(u - theta) and the reset factor
// depend on its sequence. All kernels except the last are bound by memory. In these a thread takes one neuron of every
// gridDim.y-th row.
#include "cuda_backend.hpp"
#include "kernel.cuh"

namespace spikefloss {
namespace {

constexpr int columns_per_block = 128;

// One thread per neuron along x, rows along y.
Launch over_rows(Index rows, Index n, cudaStream_t stream) {
    constexpr Index most = 65535;
    return {dim3(static_cast<unsigned>((n + columns_per_block - 1) / columns_per_block),
                 static_cast<unsigned>(rows < most ? rows : most)),
            dim3(columns_per_block), stream};
}

__device__ float jacobian_factor(const NeuronModel& model, JacobianReset reset, float u) {
    return reset == JacobianReset::detached ? reset_factor(model.reset, spike(u, model.threshold)) : 1.0f;
}

__global__ void tangent_input_kernel(NeuronModel model, Index rows, Index k, Index n, const float* u,
                                     const float* membrane, float* x) {
    const Index j = first_element();
    if (j >= n) return;
    for (Index row = blockIdx.y; row < rows; row += gridDim.y) {
        const float psi = surrogate_psi(model.surrogate, u[row / k * n + j] - model.threshold, model.sharpness);
        x[row * n + j] = psi * membrane[row * n + j];
    }
}

__global__ void tangent_step_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons, Index rows, Index k,
                                    Index n, const float* u, const float* wx, Tangents q, Tangents p) {
    const Index j = first_element();
    if (j >= n) return;
    const float alpha = neurons.alpha[j], beta = neurons.beta[j];
    for (Index row = blockIdx.y; row < rows; row += gridDim.y) {
        const Index at = row * n + j;
        const float current = q.current ? fmaf(alpha, q.current[at], wx[at]) : wx[at];
        const float membrane = fmaf(beta, q.membrane[at], (1.0f - beta) * current);
        if (p.current) p.current[at] = current;
        p.membrane[at] = jacobian_factor(model, reset, u[row / k * n + j]) * membrane;
    }
}

__global__ void tangent_step_backward_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons, Index rows,
                                             Index k, Index n, const float* u, Tangents a, float* g) {
    const Index j = first_element();
    if (j >= n) return;
    const float beta = neurons.beta[j];
    for (Index row = blockIdx.y; row < rows; row += gridDim.y) {
        const Index at = row * n + j;
        const float membrane = a.membrane[at] * jacobian_factor(model, reset, u[row / k * n + j]);
        a.membrane[at] = membrane;
        g[at] = fmaf(1.0f - beta, membrane, a.current ? a.current[at] : 0.0f);
    }
}

// Rows are sequences here. One thread sums over the k vectors of a sequence, in order.
__global__ void tangent_input_backward_kernel(NeuronModel model, NeuronVectors neurons, Index b, Index k, Index n,
                                              const float* u, const float* q_membrane, const float* back,
                                              const float* g, Tangents a, float* e) {
    const Index j = first_element();
    if (j >= n) return;
    const float alpha = neurons.alpha[j], beta = neurons.beta[j];
    for (Index s = blockIdx.y; s < b; s += gridDim.y) {
        const float v = u[s * n + j] - model.threshold;
        const float psi = surrogate_psi(model.surrogate, v, model.sharpness);
        float sum = 0.0f;
        for (Index row = s * k; row < (s + 1) * k; ++row) {
            const Index at = row * n + j;
            sum = fmaf(back[at], q_membrane[at], sum);
            if (a.current) a.current[at] = alpha * g[at];
            a.membrane[at] = fmaf(beta, a.membrane[at], psi * back[at]);
        }
        const float slope = surrogate_derivative(model.surrogate, v, model.sharpness);
        e[s * n + j] = fmaf(slope, sum, e[s * n + j]);
    }
}

// A block takes 32 neurons. Each warp sums every `warps`-th row in double; the first warp adds the sums of all warps.
constexpr int time_constant_warps = 16;

template <class T>
__global__ void tangent_time_constants_backward_kernel(NeuronVectors neurons, Index rows, Index n, Tangents q,
                                                       const float* wx, const float* a_membrane, const float* g,
                                                       T* d_alpha, T* d_beta) {
    double* partial = dynamic_shared<double>();  // [2][warps][32]
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const Index j = static_cast<Index>(blockIdx.x) * warp_size + lane;
    double alpha_sum = 0.0, beta_sum = 0.0;
    if (j < n) {
        const float alpha = neurons.alpha[j];
        for (Index row = warp; row < rows; row += time_constant_warps) {
            const Index at = row * n + j;
            const float before = q.current ? q.current[at] : 0.0f;
            const float current = fmaf(alpha, before, wx[at]);
            alpha_sum += static_cast<double>(g[at]) * before;
            beta_sum += static_cast<double>(a_membrane[at]) * (q.membrane[at] - current);
        }
    }
    partial[threadIdx.x] = alpha_sum;
    partial[blockDim.x + threadIdx.x] = beta_sum;
    __syncthreads();
    if (warp > 0 || j >= n) return;
    for (int other = 1; other < time_constant_warps; ++other) {
        alpha_sum += partial[other * warp_size + lane];
        beta_sum += partial[blockDim.x + other * warp_size + lane];
    }
    d_alpha[j] = static_cast<T>(d_alpha[j] + alpha_sum);
    d_beta[j] = static_cast<T>(d_beta[j] + beta_sum);
}

}  // namespace

void CudaBackend::tangent_input(const NeuronModel& model, Index b, Index k, Index n, const float* u,
                                const float* membrane, float* x) {
    launch(over_rows(b * k, n, stream_), tangent_input_kernel, model, b * k, k, n, u, membrane, x);
}

void CudaBackend::tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons, Index b,
                               Index k, Index n, const float* u, const float* wx, Tangents q, Tangents p) {
    launch(over_rows(b * k, n, stream_), tangent_step_kernel, model, reset, neurons, b * k, k, n, u, wx, q, p);
}

void CudaBackend::tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                        Index b, Index k, Index n, const float* u, Tangents a, float* g) {
    launch(over_rows(b * k, n, stream_), tangent_step_backward_kernel, model, reset, neurons, b * k, k, n, u, a, g);
}

void CudaBackend::tangent_input_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index k,
                                         Index n, const float* u, const float* q_membrane, const float* back,
                                         const float* g, Tangents a, float* e) {
    launch(over_rows(b, n, stream_), tangent_input_backward_kernel, model, neurons, b, k, n, u, q_membrane, back, g, a,
           e);
}

void CudaBackend::tangent_time_constants_backward(const NeuronVectors& neurons, Index b, Index k, Index n, Tangents q,
                                                  const float* wx, const float* a_membrane, const float* g,
                                                  SumMatrix d_alpha, SumMatrix d_beta) {
    constexpr int threads = time_constant_warps * warp_size;
    const Launch how{.grid = dim3(static_cast<unsigned>((n + warp_size - 1) / warp_size)),
                     .block = dim3(threads),
                     .stream = stream_,
                     .shared = 2 * threads * sizeof(double)};
    if (d_alpha.type == Scalar::float32)
        launch(how, tangent_time_constants_backward_kernel<float>, neurons, b * k, n, q, wx, a_membrane, g,
               static_cast<float*>(d_alpha.data), static_cast<float*>(d_beta.data));
    else
        launch(how, tangent_time_constants_backward_kernel<double>, neurons, b * k, n, q, wx, a_membrane, g,
               static_cast<double*>(d_alpha.data), static_cast<double*>(d_beta.data));
}

}  // namespace spikefloss
