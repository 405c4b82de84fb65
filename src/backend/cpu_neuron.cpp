// Neuron and spike operations of the CPU backend: loops over the scalar equations of src/neuron.
#include "backend/cpu_state_pass.hpp"

#include <bit>

namespace spikefloss {
namespace {

// Below this many elements one thread runs a loop.
constexpr Index parallel_elements = 1 << 15;

}  // namespace

void CpuBackend::neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                             const float* input, const float* recurrent, const NeuronState& now,
                             const NextState& next) {
#pragma omp parallel for num_threads(threads_) if (b * n > parallel_elements)
    for (Index s = 0; s < b; ++s) {
        const Index row = s * n;
        take_step(model, neurons, n, input + row, recurrent + row, now.i + row, now.u + row, next.i + row,
                  next.u + row);
    }
}

void CpuBackend::pack_spikes(const NeuronModel& model, const NeuronVectors&, Index rows, Index n,
                             const NeuronState& state, std::uint32_t* bits) {
    const Index words = spike_words(n);
    for (Index r = 0; r < rows; ++r)
        for (Index w = 0; w < words; ++w) {
            const Index first = w * 32, last = first + 32 < n ? first + 32 : n;
            std::uint32_t word = 0;
            for (Index j = first; j < last; ++j)
                word |= static_cast<std::uint32_t>(state.u[r * n + j] > model.threshold) << (j - first);
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
                                      const NeuronState& before, const NeuronState& now, const StateAdjoint& d,
                                      float* g, float*, const ConstantSums& sums) {
    const NeuronModel m = model;
    const float* const u_before = before.u;
    float *const di = d.di, *const du = d.du;
    // c of the neuron and sequence `at`.
    const auto factor = [&](Index at) { return reset_factor(m.reset, spike(u_before[at], m.threshold)); };
    // Sequences in order, so that the sums do not depend on the number of threads.
    const auto add_time_constants = [&](auto* alpha_sum, auto* beta_sum) {
        using T = std::remove_pointer_t<decltype(alpha_sum)>;
        for (Index s = 0; s < b; ++s)
            for (Index j = 0; j < n; ++j) {
                const Index at = s * n + j;
                const float dv = du[at] * factor_after(m.reset_delay, factor(at));
                const float current = fmaf(1.0f - neurons.beta[j], dv, di[at]);
                alpha_sum[j] += static_cast<T>(current) * before.i[at];
                beta_sum[j] +=
                    static_cast<T>(dv) *
                    (leaking_membrane(m, m.threshold, spike(u_before[at], m.threshold), u_before[at]) - now.i[at]);
            }
    };
    if (sums.alpha.data && sums.alpha.type == Scalar::float32)
        add_time_constants(static_cast<float*>(sums.alpha.data), static_cast<float*>(sums.beta.data));
    else if (sums.alpha.data)
        add_time_constants(static_cast<double*>(sums.alpha.data), static_cast<double*>(sums.beta.data));
#pragma omp parallel for num_threads(threads_) if (b * n > parallel_elements)
    for (Index s = 0; s < b; ++s) {
        const Index row = s * n;
#pragma omp simd
        for (Index j = 0; j < n; ++j) {
            const float c = factor(row + j), dv = du[row + j] * factor_after(m.reset_delay, c);
            const float current = fmaf(1.0f - neurons.beta[j], dv, di[row + j]);
            g[row + j] = current;
            di[row + j] = neurons.alpha[j] * current;
            du[row + j] = neurons.beta[j] * (factor_before(m.reset_delay, c) * dv);
        }
    }
}

void CpuBackend::add_adjoints(const NeuronModel& model, const NeuronVectors&, Readout readout, Index rows, Index n,
                              const NeuronState& state, const float* back, const float*, const float* from_readout,
                              const float* extra, const StateAdjoint& d, const SumMatrix&) {
    const float* const u = state.u;
    float* const du = d.du;
    const float theta = model.threshold, g = model.sharpness;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(threads_) if (rows * n > parallel_elements)
        for (Index r = 0; r < rows; ++r) {
            const Index begin = r * n, end = begin + n;
            const auto add = [&](const float* part) {
#pragma omp simd
                for (Index j = begin; j < end; ++j) du[j] += part[j];
            };
            const auto add_times_psi = [&](const float* part) {
#pragma omp simd
                for (Index j = begin; j < end; ++j) du[j] = fmaf(S::psi(u[j] - theta, g), part[j], du[j]);
            };
            if (back) add_times_psi(back);
            if (from_readout) readout == Readout::spikes ? add_times_psi(from_readout) : add(from_readout);
            if (extra) add(extra);
        }
    });
}

}  // namespace spikefloss
