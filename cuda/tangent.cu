// Propagation of tangents and its adjoint. A tangent is a row of n neurons; only psi, psi' and the reset
// factor depend on its sequence. All kernels except the last are bound by memory. In these a thread takes one neuron of
// every gridDim.y-th row.
#include "cuda_backend.hpp"
#include "neuron_state.cuh"

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

__device__ float jacobian_factor(const NeuronModel& model, JacobianReset reset, float s) {
    return reset == JacobianReset::detached ? reset_factor(model.reset, s) : 1.0f;
}

// Neuron j of a row of a basis. A part that the basis lacks must not be read.
template <class T>
struct Tangent {
    T *i, *u, *w;
    __device__ Tangent(const BasisShape& shape, T* basis, Index row, Index j)
        : i(basis + row * shape.D() + j), u(i + shape.membrane()), w(i + shape.adaptation_part()) {}
};

// The tangent of v = u - A.
__device__ float tangent_of_v(const NeuronModel& model, const Tangent<const float>& q) {
    return model.adaptation == Adaptation::threshold ? *q.u - *q.w : *q.u;
}

__global__ void tangent_input_kernel(NeuronModel model, NeuronVectors neurons, BasisShape shape, NeuronState state,
                                     const float* q, float* x) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    for (Index row = blockIdx.y; row < shape.rows(); row += gridDim.y) {
        const float psi = psi_of(model, firing_of(model, neurons, state, row / shape.k, n, j));
        x[row * n + j] = psi * tangent_of_v(model, {shape, q, row, j});
    }
}

__global__ void tangent_step_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons, BasisShape shape,
                                    NeuronState state, const float* x, const float* wx, const float* q, float* p) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    const float alpha = neurons.alpha[j], beta = neurons.beta[j];
    for (Index row = blockIdx.y; row < shape.rows(); row += gridDim.y) {
        const Tangent before(shape, q, row, j);
        const Tangent to(shape, p, row, j);
        float h = shape.current ? next_current(alpha, *before.i, wx[row * n + j]) : wx[row * n + j];
        const float c = jacobian_factor(model, reset, firing_of(model, neurons, state, row / shape.k, n, j).s);
        const float q_u = *before.u;
        if (shape.current) *to.i = h;
        if (model.adaptation != Adaptation::none) {
            const float w = next_adaptation(neurons.rho[j], *before.w, neurons.adapt_membrane[j], c * q_u,
                                            neurons.adapt_spike[j], x[row * n + j]);
            h = adapted_current(model.adaptation, h, w);
            *to.w = w;
        }
        *to.u = tangent_membrane(model.reset_delay, c, beta, q_u, h);
    }
}

__global__ void tangent_step_backward_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons,
                                             BasisShape shape, NeuronState state, float* a, float* g) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    const float beta = neurons.beta[j];
    for (Index row = blockIdx.y; row < shape.rows(); row += gridDim.y) {
        const Tangent adjoint(shape, a, row, j);
        const float c = jacobian_factor(model, reset, firing_of(model, neurons, state, row / shape.k, n, j).s);
        const float dw = model.adaptation != Adaptation::none ? *adjoint.w : 0.0f;
        const StepAdjoint step = step_adjoint(model, c, beta, shape.current ? *adjoint.i : 0.0f, *adjoint.u, dw);
        *adjoint.u = step.dk;
        g[row * n + j] = step.g;
        if (model.adaptation == Adaptation::current) *adjoint.w = step.gw;
    }
}

// Rows are sequences here. One thread sums over the k vectors of a sequence, in order.
__global__ void tangent_input_backward_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons,
                                              BasisShape shape, NeuronState state, const float* q, const float* back,
                                              const float* g, float* a, float* e) {
    const Index j = first_element(), n = shape.n;
    if (j >= n) return;
    const float alpha = neurons.alpha[j], beta = neurons.beta[j];
    const bool adapts = model.adaptation != Adaptation::none;
    const float rho = adapts ? neurons.rho[j] : 0.0f, a_u = adapts ? neurons.adapt_membrane[j] : 0.0f,
                a_s = adapts ? neurons.adapt_spike[j] : 0.0f;
    for (Index s = blockIdx.y; s < shape.b; s += gridDim.y) {
        const Firing fires = firing_of(model, neurons, state, s, n, j);
        const float psi = psi_of(model, fires), c = jacobian_factor(model, reset, fires.s);
        const float decay = beta * factor_before(model.reset_delay, c);
        float sum = 0.0f;
        for (Index row = s * shape.k; row < (s + 1) * shape.k; ++row) {
            const Tangent adjoint(shape, a, row, j);
            float y = back[row * n + j];
            const float gw = adapts ? *adjoint.w : 0.0f;
            if (adapts) y = fmaf(a_s, gw, y);
            sum = fmaf(y, tangent_of_v(model, {shape, q, row, j}), sum);
            float through = psi * y;
            if (adapts) {
                *adjoint.w = model.adaptation == Adaptation::threshold ? fmaf(rho, gw, -through) : rho * gw;
                through = fmaf(a_u, c * gw, through);
            }
            if (shape.current) *adjoint.i = alpha * g[row * n + j];
            *adjoint.u = fmaf(decay, *adjoint.u, through);
        }
        const float slope = fires.m * surrogate_derivative(model.surrogate, fires.v, model.sharpness);
        e[s * n + j] = fmaf(slope, sum, e[s * n + j]);
    }
}

// A block takes 32 neurons. Each warp sums every `warps`-th row in double; the first warp adds the sums of all warps.
constexpr int sum_warps = 16, sum_kinds = 5;

template <class T>
__global__ void tangent_constants_kernel(NeuronModel model, JacobianReset reset, NeuronVectors neurons,
                                         BasisShape shape, NeuronState state, const float* q, const float* x,
                                         const float* wx, const float* a, const float* g, ConstantSums sums) {
    double* partial = dynamic_shared<double>();  // [kinds][warps][32]
    const SumMatrix* const kinds[sum_kinds] = {&sums.alpha, &sums.beta, &sums.rho, &sums.adapt_membrane,
                                               &sums.adapt_spike};
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const Index j = static_cast<Index>(blockIdx.x) * warp_size + lane;
    const Index n = shape.n;
    double sum[sum_kinds] = {};
    if (j < n) {
        for (Index row = warp; row < shape.rows(); row += sum_warps) {
            const Tangent before(shape, q, row, j), adjoint(shape, a, row, j);
            const float q_i = shape.current ? *before.i : 0.0f, q_u = *before.u;
            const float c = jacobian_factor(model, reset, firing_of(model, neurons, state, row / shape.k, n, j).s);
            if (sums.alpha.data) sum[0] += static_cast<double>(g[row * n + j]) * q_i;
            if (sums.beta.data) {
                float h = next_current(neurons.alpha[j], q_i, wx[row * n + j]);
                if (model.adaptation == Adaptation::current)
                    h -= next_adaptation(neurons.rho[j], *before.w, neurons.adapt_membrane[j], c * q_u,
                                         neurons.adapt_spike[j], x[row * n + j]);
                sum[1] += static_cast<double>(*adjoint.u) * (factor_before(model.reset_delay, c) * q_u - h);
            }
            if (sums.rho.data) sum[2] += static_cast<double>(*adjoint.w) * *before.w;
            if (sums.adapt_membrane.data) sum[3] += static_cast<double>(*adjoint.w) * (c * q_u);
            if (sums.adapt_spike.data) sum[4] += static_cast<double>(*adjoint.w) * x[row * n + j];
        }
    }
    for (int kind = 0; kind < sum_kinds; ++kind) partial[kind * blockDim.x + threadIdx.x] = sum[kind];
    __syncthreads();
    if (warp > 0 || j >= n) return;
    for (int kind = 0; kind < sum_kinds; ++kind) {
        if (!kinds[kind]->data) continue;
        for (int other = 1; other < sum_warps; ++other)
            sum[kind] += partial[kind * blockDim.x + other * warp_size + lane];
        T& to = static_cast<T*>(kinds[kind]->data)[j];
        to = static_cast<T>(to + sum[kind]);
    }
}

}  // namespace

void CudaBackend::tangent_input(const NeuronModel& model, const NeuronVectors& neurons, const BasisShape& shape,
                                const NeuronState& state, const float* q, float* x) {
    launch(over_rows(shape.rows(), shape.n, stream_), tangent_input_kernel, model, neurons, shape, state, q, x);
}

void CudaBackend::tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                               const BasisShape& shape, const NeuronState& state, const float* x, const float* wx,
                               const float* q, float* p) {
    launch(over_rows(shape.rows(), shape.n, stream_), tangent_step_kernel, model, reset, neurons, shape, state, x, wx,
           q, p);
}

void CudaBackend::tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                        const BasisShape& shape, const NeuronState& state, const float* q,
                                        const float* x, const float* wx, float* a, float* g, const ConstantSums& sums) {
    launch(over_rows(shape.rows(), shape.n, stream_), tangent_step_backward_kernel, model, reset, neurons, shape, state,
           a, g);
    if (!sums.any()) return;
    constexpr int threads = sum_warps * warp_size;
    const Launch how{.grid = dim3(static_cast<unsigned>((shape.n + warp_size - 1) / warp_size)),
                     .block = dim3(threads),
                     .stream = stream_,
                     .shared = sum_kinds * threads * sizeof(double)};
    launch(how, sums_ == Sums::float32 ? tangent_constants_kernel<float> : tangent_constants_kernel<double>, model,
           reset, neurons, shape, state, q, x, wx, a, g, sums);
}

void CudaBackend::tangent_input_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                         const BasisShape& shape, const NeuronState& state, const float* q,
                                         const float* back, const float* g, float* a, float* e) {
    launch(over_rows(shape.b, shape.n, stream_), tangent_input_backward_kernel, model, reset, neurons, shape, state, q,
           back, g, a, e);
}

}  // namespace spikefloss
