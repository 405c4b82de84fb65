// Propagation of tangents and its adjoint on the CPU backend. A tangent is a row of n neurons; only the factors
// psi(u - theta) and (1 - s) depend on its sequence.
#include "backend/cpu_backend.hpp"

#include <vector>

namespace spikefloss {
namespace {

constexpr Index parallel_elements = 1 << 15;

// The factor (1 - s) of the tangent map for one membrane.
inline float factor(const NeuronModel& model, JacobianReset reset, float u) {
    return reset == JacobianReset::detached ? reset_factor(model.reset, spike(u, model.threshold)) : 1.0f;
}

}  // namespace

void CpuBackend::tangent_input(const NeuronModel& model, Index b, Index k, Index n, const float* u,
                               const float* membrane, float* x) {
    const float theta = model.threshold, g = model.sharpness;
    float* psi = reinterpret_cast<float*>(scratch(0, b * n));
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp simd
        for (Index j = 0; j < b * n; ++j) psi[j] = S::psi(u[j] - theta, g);
    });
#pragma omp parallel for num_threads(threads_) if (b * k * n > parallel_elements)
    for (Index row = 0; row < b * k; ++row) {
        const float* row_psi = psi + row / k * n;
#pragma omp simd
        for (Index j = 0; j < n; ++j) x[row * n + j] = row_psi[j] * membrane[row * n + j];
    }
}

void CpuBackend::tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons, Index b,
                              Index k, Index n, const float* u, const float* wx, Tangents q, Tangents p) {
#pragma omp parallel for num_threads(threads_) if (b * k * n > parallel_elements)
    for (Index row = 0; row < b * k; ++row) {
        const float* row_u = u + row / k * n;
        // Two loops, because a loop with a branch on the current is not vectorised. If the state has no current, wx
        // takes its place.
        const float *current = wx + row * n, *before = q.membrane + row * n;
        if (p.current) {
            float* to = p.current + row * n;
#pragma omp simd
            for (Index j = 0; j < n; ++j) to[j] = fmaf(neurons.alpha[j], q.current[row * n + j], current[j]);
            current = to;
        }
        float* to = p.membrane + row * n;
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            const float membrane = fmaf(neurons.beta[j], before[j], (1.0f - neurons.beta[j]) * current[j]);
            to[j] = factor(model, reset, row_u[j]) * membrane;
        }
    }
}

void CpuBackend::tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                       Index b, Index k, Index n, const float* u, Tangents a, float* g) {
#pragma omp parallel for num_threads(threads_) if (b * k * n > parallel_elements)
    for (Index row = 0; row < b * k; ++row) {
        const float* row_u = u + row / k * n;
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            const Index at = row * n + j;
            a.membrane[at] *= factor(model, reset, row_u[j]);
            g[at] = fmaf(1.0f - neurons.beta[j], a.membrane[at], a.current ? a.current[at] : 0.0f);
        }
    }
}

void CpuBackend::tangent_input_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index k,
                                        Index n, const float* u, const float* q_membrane, const float* back,
                                        const float* g, Tangents a, float* e) {
    const float theta = model.threshold, sharpness = model.sharpness;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(threads_) if (b * k * n > parallel_elements)
        for (Index s = 0; s < b; ++s) {
            std::vector<float> psi(static_cast<std::size_t>(n)), sum(static_cast<std::size_t>(n), 0.0f);
            for (Index j = 0; j < n; ++j) psi[static_cast<std::size_t>(j)] = S::psi(u[s * n + j] - theta, sharpness);
            for (Index row = s * k; row < (s + 1) * k; ++row) {
#pragma omp simd
                for (Index j = 0; j < n; ++j) {
                    const Index at = row * n + j;
                    const auto column = static_cast<std::size_t>(j);
                    sum[column] = fmaf(back[at], q_membrane[at], sum[column]);
                    a.membrane[at] = fmaf(neurons.beta[j], a.membrane[at], psi[column] * back[at]);
                }
                if (!a.current) continue;  // a branch inside the loop would prevent its vectorisation
#pragma omp simd
                for (Index j = 0; j < n; ++j) a.current[row * n + j] = neurons.alpha[j] * g[row * n + j];
            }
            for (Index j = 0; j < n; ++j) {
                const float slope = S::derivative(u[s * n + j] - theta, sharpness);
                e[s * n + j] = fmaf(slope, sum[static_cast<std::size_t>(j)], e[s * n + j]);
            }
        }
    });
}

void CpuBackend::tangent_time_constants_backward(const NeuronVectors& neurons, Index b, Index k, Index n, Tangents q,
                                                 const float* wx, const float* a_membrane, const float* g,
                                                 SumMatrix d_alpha, SumMatrix d_beta) {
    const auto add_to = [&](auto* alpha_sum, auto* beta_sum) {
        using T = std::remove_pointer_t<decltype(alpha_sum)>;
        for (Index row = 0; row < b * k; ++row)
            for (Index j = 0; j < n; ++j) {
                const Index at = row * n + j;
                const float before = q.current ? q.current[at] : 0.0f;
                const float current = fmaf(neurons.alpha[j], before, wx[at]);
                alpha_sum[j] += static_cast<T>(g[at]) * before;
                beta_sum[j] += static_cast<T>(a_membrane[at]) * (q.membrane[at] - current);
            }
    };
    if (d_alpha.type == Scalar::float32)
        add_to(static_cast<float*>(d_alpha.data), static_cast<float*>(d_beta.data));
    else
        add_to(static_cast<double*>(d_alpha.data), static_cast<double*>(d_beta.data));
}

}  // namespace spikefloss
