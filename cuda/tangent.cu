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

__global__ void tangent_input_kernel(NeuronModel model, BasisShape shape, const float* u, const float* q, float* x) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    for (Index row = blockIdx.y; row < shape.rows(); row += gridDim.y) {
        const float psi = surrogate_psi(model.surrogate, u[row / shape.k * n + j] - model.threshold, model.sharpness);
        x[row * n + j] = psi * q[row * shape.D() + shape.membrane() + j];
    }
}

__global__ void tangent_step_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons, BasisShape shape,
                                    const float* u, const float* wx, const float* q, float* p) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    const float alpha = neurons.alpha[j], beta = neurons.beta[j];
    for (Index row = blockIdx.y; row < shape.rows(); row += gridDim.y) {
        const Index at = row * shape.D() + j;
        const float wx_j = wx[row * n + j], current = shape.current ? fmaf(alpha, q[at], wx_j) : wx_j;
        const float c = jacobian_factor(model, reset, u[row / shape.k * n + j]);
        if (shape.current) p[at] = current;
        p[at + shape.membrane()] = tangent_membrane(model.reset_delay, c, beta, q[at + shape.membrane()], current);
    }
}

__global__ void tangent_step_backward_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons,
                                             BasisShape shape, const float* u, float* a, float* g) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    const float beta = neurons.beta[j];
    for (Index row = blockIdx.y; row < shape.rows(); row += gridDim.y) {
        float* const at = a + row * shape.D() + j;
        const float c = jacobian_factor(model, reset, u[row / shape.k * n + j]);
        const float membrane = at[shape.membrane()] * factor_after(model.reset_delay, c);
        at[shape.membrane()] = membrane;
        g[row * n + j] = fmaf(1.0f - beta, membrane, shape.current ? *at : 0.0f);
    }
}

// Rows are sequences here. One thread sums over the k vectors of a sequence, in order.
__global__ void tangent_input_backward_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons,
                                              BasisShape shape, const float* u, const float* q, const float* back,
                                              const float* g, float* a, float* e) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    const float alpha = neurons.alpha[j], beta = neurons.beta[j];
    for (Index s = blockIdx.y; s < shape.b; s += gridDim.y) {
        const float v = u[s * n + j] - model.threshold;
        const float psi = surrogate_psi(model.surrogate, v, model.sharpness);
        const float decay = beta * factor_before(model.reset_delay, jacobian_factor(model, reset, u[s * n + j]));
        float sum = 0.0f;
        for (Index row = s * shape.k; row < (s + 1) * shape.k; ++row) {
            const Index at = row * shape.D() + j, membrane = at + shape.membrane();
            const float back_j = back[row * n + j];
            sum = fmaf(back_j, q[membrane], sum);
            if (shape.current) a[at] = alpha * g[row * n + j];
            a[membrane] = fmaf(decay, a[membrane], psi * back_j);
        }
        const float slope = surrogate_derivative(model.surrogate, v, model.sharpness);
        e[s * n + j] = fmaf(slope, sum, e[s * n + j]);
    }
}

// A block takes 32 neurons. Each warp sums every `warps`-th row in double; the first warp adds the sums of all warps.
constexpr int time_constant_warps = 16;

template <class T>
__global__ void tangent_time_constants_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons,
                                              BasisShape shape, const float* u, const float* q, const float* wx,
                                              const float* a, const float* g, T* d_alpha, T* d_beta) {
    double* partial = dynamic_shared<double>();  // [2][warps][32]
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const Index j = static_cast<Index>(blockIdx.x) * warp_size + lane;
    const Index n = shape.n;
    double alpha_sum = 0.0, beta_sum = 0.0;
    if (j < n) {
        const float alpha = neurons.alpha[j];
        for (Index row = warp; row < shape.rows(); row += time_constant_warps) {
            const Index at = row * shape.D() + j, membrane = at + shape.membrane();
            const float before = shape.current ? q[at] : 0.0f;
            const float current = fmaf(alpha, before, wx[row * n + j]);
            alpha_sum += static_cast<double>(g[row * n + j]) * before;
            const float c = jacobian_factor(model, reset, u[row / shape.k * n + j]);
            beta_sum +=
                static_cast<double>(a[membrane]) * (factor_before(model.reset_delay, c) * q[membrane] - current);
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

void CudaBackend::tangent_input(const NeuronModel& model, const NeuronVectors&, const BasisShape& shape,
                                const NeuronState& state, const float* q, float* x) {
    if (counting()) return;
    launch(over_rows(shape.rows(), shape.n, stream_), tangent_input_kernel, model, shape, state.u, q, x);
}

void CudaBackend::tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                               const BasisShape& shape, const NeuronState& state, const float*, const float* wx,
                               const float* q, float* p) {
    launch(over_rows(shape.rows(), shape.n, stream_), tangent_step_kernel, model, reset, neurons, shape, state.u, wx, q,
           p);
}

void CudaBackend::tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                        const BasisShape& shape, const NeuronState& state, const float* q, const float*,
                                        const float* wx, float* a, float* g, const ConstantSums& sums) {
    launch(over_rows(shape.rows(), shape.n, stream_), tangent_step_backward_kernel, model, reset, neurons, shape,
           state.u, a, g);
    if (!sums.alpha.data) return;
    const SumMatrix &d_alpha = sums.alpha, &d_beta = sums.beta;
    constexpr int threads = time_constant_warps * warp_size;
    const Launch how{.grid = dim3(static_cast<unsigned>((shape.n + warp_size - 1) / warp_size)),
                     .block = dim3(threads),
                     .stream = stream_,
                     .shared = 2 * threads * sizeof(double)};
    if (d_alpha.type == Scalar::float32)
        launch(how, tangent_time_constants_kernel<float>, model, reset, neurons, shape, state.u, q, wx, a, g,
               static_cast<float*>(d_alpha.data), static_cast<float*>(d_beta.data));
    else
        launch(how, tangent_time_constants_kernel<double>, model, reset, neurons, shape, state.u, q, wx, a, g,
               static_cast<double*>(d_alpha.data), static_cast<double*>(d_beta.data));
}

void CudaBackend::tangent_input_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                         const BasisShape& shape, const NeuronState& state, const float* q,
                                         const float* back, const float* g, float* a, float* e) {
    if (counting()) return;
    launch(over_rows(shape.b, shape.n, stream_), tangent_input_backward_kernel, model, reset, neurons, shape, state.u,
           q, back, g, a, e);
}

}  // namespace spikefloss
