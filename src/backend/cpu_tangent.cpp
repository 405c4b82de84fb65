// Propagation of tangents and its adjoint on the CPU backend. A tangent is a row of n neurons; only the factors
// psi(u - theta) and the reset factor c depend on its sequence.
#include "backend/cpu_backend.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr Index parallel_elements = 1 << 15;

// The factor c of the tangent map for one membrane.
inline float factor(const NeuronModel& model, JacobianReset reset, float u) {
    return reset == JacobianReset::detached ? reset_factor(model.reset, spike(u, model.threshold)) : 1.0f;
}

}  // namespace

void CpuBackend::tangent_input(const NeuronModel& model, const NeuronVectors&, const BasisShape& shape,
                               const NeuronState& state, const float* q, float* x) {
    const float* const u = state.u;
    const float theta = model.threshold, g = model.sharpness;
    const Index n = shape.n, D = shape.D();
    float* const psi = scratch<float>(shape.b * n);
    if (counting()) return;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp simd
        for (Index j = 0; j < shape.b * n; ++j) psi[j] = S::psi(u[j] - theta, g);
    });
#pragma omp parallel for num_threads(threads_) if (shape.rows() * n > parallel_elements)
    for (Index row = 0; row < shape.rows(); ++row) {
        const float *row_psi = psi + row / shape.k * n, *membrane = q + row * D + shape.membrane();
#pragma omp simd
        for (Index j = 0; j < n; ++j) x[row * n + j] = row_psi[j] * membrane[j];
    }
}

void CpuBackend::tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                              const BasisShape& shape, const NeuronState& state, const float*, const float* wx,
                              const float* q, float* p) {
    const float* const u = state.u;
    const Index n = shape.n, D = shape.D();
#pragma omp parallel for num_threads(threads_) if (shape.rows() * n > parallel_elements)
    for (Index row = 0; row < shape.rows(); ++row) {
        const float* row_u = u + row / shape.k * n;
        // Two loops, because a loop with a branch on the current is not vectorised. If the state has no current, wx
        // takes its place.
        const float *current = wx + row * n, *before = q + row * D;
        float* to = p + row * D;
        if (shape.current) {
#pragma omp simd
            for (Index j = 0; j < n; ++j) to[j] = fmaf(neurons.alpha[j], before[j], current[j]);
            current = to;
        }
        before += shape.membrane();
        to += shape.membrane();
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            const float c = factor(model, reset, row_u[j]);
            to[j] = tangent_membrane(model.reset_delay, c, neurons.beta[j], before[j], current[j]);
        }
    }
}

void CpuBackend::tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                       const BasisShape& shape, const NeuronState& state, const float* q_before,
                                       const float*, const float* wx, float* a, float* g, const ConstantSums& sums) {
    const float* const u = state.u;
    const Index n = shape.n, D = shape.D();
#pragma omp parallel for num_threads(threads_) if (shape.rows() * n > parallel_elements)
    for (Index row = 0; row < shape.rows(); ++row) {
        const float *row_u = u + row / shape.k * n, *current = a + row * D;
        float* membrane = a + row * D + shape.membrane();
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            membrane[j] *= factor_after(model.reset_delay, factor(model, reset, row_u[j]));
            g[row * n + j] = fmaf(1.0f - neurons.beta[j], membrane[j], shape.current ? current[j] : 0.0f);
        }
    }
    if (!sums.alpha.data) return;
    const auto add_to = [&](auto* alpha_sum, auto* beta_sum) {
        using T = std::remove_pointer_t<decltype(alpha_sum)>;
        for (Index row = 0; row < shape.rows(); ++row)
            for (Index j = 0; j < n; ++j) {
                const float* q = q_before + row * D + j;
                const float before = shape.current ? *q : 0.0f;
                const float current = fmaf(neurons.alpha[j], before, wx[row * n + j]);
                alpha_sum[j] += static_cast<T>(g[row * n + j]) * before;
                const float c = factor(model, reset, u[row / shape.k * n + j]);
                const float membrane = factor_before(model.reset_delay, c) * q[shape.membrane()];
                beta_sum[j] += static_cast<T>(a[row * D + shape.membrane() + j]) * (membrane - current);
            }
    };
    const SumMatrix &d_alpha = sums.alpha, &d_beta = sums.beta;
    if (d_alpha.type == Scalar::float32)
        add_to(static_cast<float*>(d_alpha.data), static_cast<float*>(d_beta.data));
    else
        add_to(static_cast<double*>(d_alpha.data), static_cast<double*>(d_beta.data));
}

void CpuBackend::tangent_input_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                        const BasisShape& shape, const NeuronState& state, const float* q,
                                        const float* back, const float* g, float* a, float* e) {
    const float* const u = state.u;
    const float theta = model.threshold, sharpness = model.sharpness;
    const Index n = shape.n, k = shape.k, D = shape.D();
    float* const rows = scratch<float>(shape.b * 3 * n);
    if (counting()) return;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(threads_) if (shape.rows() * n > parallel_elements)
        for (Index s = 0; s < shape.b; ++s) {
            float *const psi = rows + s * 3 * n, *const decay = psi + n, *const sum = decay + n;
            for (Index j = 0; j < n; ++j) {
                const float u_j = u[s * n + j], c = factor(model, reset, u_j);
                psi[j] = S::psi(u_j - theta, sharpness);
                decay[j] = neurons.beta[j] * factor_before(model.reset_delay, c);
            }
            std::fill_n(sum, n, 0.0f);
            for (Index row = s * k; row < (s + 1) * k; ++row) {
                const float *back_row = back + row * n, *q_membrane = q + row * D + shape.membrane();
                float *current = a + row * D, *membrane = current + shape.membrane();
#pragma omp simd
                for (Index j = 0; j < n; ++j) {
                    sum[j] = fmaf(back_row[j], q_membrane[j], sum[j]);
                    membrane[j] = fmaf(decay[j], membrane[j], psi[j] * back_row[j]);
                }
                if (!shape.current) continue;  // a branch inside the loop would prevent its vectorisation
#pragma omp simd
                for (Index j = 0; j < n; ++j) current[j] = neurons.alpha[j] * g[row * n + j];
            }
            for (Index j = 0; j < n; ++j) {
                const float slope = S::derivative(u[s * n + j] - theta, sharpness);
                e[s * n + j] = fmaf(slope, sum[j], e[s * n + j]);
            }
        }
    });
}

}  // namespace spikefloss
