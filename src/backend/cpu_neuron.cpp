// Neuron and spike operations of the CPU backend: loops over the scalar equations of src/neuron.
#include "backend/cpu_backend.hpp"

#include <bit>

namespace spikefloss {
namespace {

// Below this many elements one thread runs a loop.
constexpr Index parallel_elements = 1 << 15;

}  // namespace

void CpuBackend::neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                             const float* input, const float* recurrent, const float* i, const float* u, float* i_next,
                             float* u_next) {
    const float theta = model.threshold;
    const Reset reset = model.reset;
#pragma omp parallel for num_threads(threads_) if (b * n > parallel_elements)
    for (Index s = 0; s < b; ++s) {
        const Index row = s * n;
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            const float total = (input[row + j] + recurrent[row + j]) + neurons.bias[j];
            const float current = next_current(neurons.alpha[j], i[row + j], total);
            const float v = leaky(neurons.beta[j], u[row + j], current);
            i_next[row + j] = current;
            u_next[row + j] = after_reset(reset, v, spike(u[row + j], theta), theta);
        }
    }
}

void CpuBackend::pack_spikes(const NeuronModel& model, Index rows, Index n, const float* u, std::uint32_t* bits) {
    const Index words = spike_words(n);
    for (Index r = 0; r < rows; ++r)
        for (Index w = 0; w < words; ++w) {
            const Index first = w * 32, last = first + 32 < n ? first + 32 : n;
            std::uint32_t word = 0;
            for (Index j = first; j < last; ++j)
                word |= static_cast<std::uint32_t>(u[r * n + j] > model.threshold) << (j - first);
            bits[r * words + w] = word;
        }
}

void CpuBackend::count_spikes(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) {
    Index spikes = 0;
    for (Index r = 0; r < rows; ++r)
        for (Index w = 0; w < words; ++w) spikes += std::popcount(bits[r * stride + w]);
    *count += static_cast<double>(spikes);
}

void CpuBackend::neuron_step_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                                      const float* u_before, float* di, float* du, float* g) {
    const float theta = model.threshold;
    const Reset reset = model.reset;
#pragma omp parallel for num_threads(threads_) if (b * n > parallel_elements)
    for (Index s = 0; s < b; ++s) {
        const Index row = s * n;
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            const float dv = du[row + j] * reset_factor(reset, spike(u_before[row + j], theta));
            const float current = fmaf(1.0f - neurons.beta[j], dv, di[row + j]);
            g[row + j] = current;
            di[row + j] = neurons.alpha[j] * current;
            du[row + j] = neurons.beta[j] * dv;
        }
    }
}

void CpuBackend::add_through_spikes(const NeuronModel& model, Index rows, Index n, const float* u, const float* back,
                                    float* du) {
    const float theta = model.threshold, g = model.sharpness;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(threads_) if (rows * n > parallel_elements)
        for (Index r = 0; r < rows; ++r)
#pragma omp simd
            for (Index j = r * n; j < (r + 1) * n; ++j) du[j] = fmaf(S::psi(u[j] - theta, g), back[j], du[j]);
    });
}

void CpuBackend::time_constants_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                                         const float* i_before, const float* i_now, const float* u_before,
                                         const float* di, const float* du, SumMatrix d_alpha, SumMatrix d_beta) {
    const auto add_to = [&](auto* alpha_sum, auto* beta_sum) {
        using T = std::remove_pointer_t<decltype(alpha_sum)>;
        for (Index s = 0; s < b; ++s) {
            const Index row = s * n;
            for (Index j = 0; j < n; ++j) {
                const float dv = du[row + j] * reset_factor(model.reset, spike(u_before[row + j], model.threshold));
                const float g = fmaf(1.0f - neurons.beta[j], dv, di[row + j]);
                alpha_sum[j] += static_cast<T>(g) * i_before[row + j];
                beta_sum[j] += static_cast<T>(dv) * (u_before[row + j] - i_now[row + j]);
            }
        }
    };
    if (d_alpha.type == Scalar::float32)
        add_to(static_cast<float*>(d_alpha.data), static_cast<float*>(d_beta.data));
    else
        add_to(static_cast<double*>(d_alpha.data), static_cast<double*>(d_beta.data));
}

}  // namespace spikefloss
