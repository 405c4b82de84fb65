// Neuron and spike operations of the CPU backend: loops over the scalar equations of src/neuron.
#include "backend/cpu_neuron_block.hpp"
#include "backend/cpu_state_pass.hpp"

#include <bit>

namespace spikefloss {
namespace {

// A term of a sum, the product of two floats.
struct Term {
    float x, y;
};

}  // namespace

void CpuBackend::neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                             const float* input, const float* recurrent, const NeuronState& now,
                             const NextState& next) {
    for_blocks(model, neurons, now, b, n, threads_for(b * n), [&](const auto& block, Index s) {
        const Index row = s * n;
        take_step(model, neurons, block, input + row, recurrent + row,
                  {now.i + row, now.u + row, now.w ? now.w + row : nullptr},
                  {next.i + row, next.u + row, next.w ? next.w + row : nullptr});
    });
}

void CpuBackend::pack_spikes(const NeuronModel& model, const NeuronVectors& neurons, Index rows, Index n,
                             const NeuronState& state, std::uint32_t* bits) {
    for_blocks(model, neurons, state, rows, n, 1, [&](const auto& block, Index row) {
        std::uint32_t* const row_bits = bits + row * spike_words(n);
        if constexpr (std::is_same_v<std::decay_t<decltype(block)>, PlainBlock>)
            return pack_row(block.u + block.begin, block.end - block.begin, block.threshold,
                            row_bits + block.begin / 32);
        for (Index first = block.begin; first < block.end; first += 32) {
            const Index size = std::min<Index>(32, block.end - first);
            float s[32] = {};
#pragma omp simd
            for (Index l = 0; l < size; ++l) s[l] = block[first + l].s;
            std::uint32_t word = 0;
            for (Index l = 0; l < 32; l += lane_size) word |= nonzero(load(s + l)) << l;
            row_bits[first / 32] = word;
        }
    });
}

void CpuBackend::count_spikes(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) {
    Index spikes = 0;
    for (Index r = 0; r < rows; ++r)
        for (Index w = 0; w < words; ++w) spikes += std::popcount(bits[r * stride + w]);
    *count += static_cast<double>(spikes);
}

void CpuBackend::neuron_step_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                                      const NeuronState& before, const NeuronState& now, const StateAdjoint& d,
                                      float* g, float* own, const ConstantSums& sums) {
    // The adjoints in the step of element `at`, which is neuron j. A loop over a function that is not inlined is not
    // vectorised.
    const auto adjoint = [&](const NeuronModel& m, const auto& block, Index at, Index j)
        __attribute__((always_inline)) {
        float dw = 0.0f;
        if constexpr (block.adaptation != Adaptation::none) dw = d.dw[at];
        return step_adjoint(m, reset_factor(m.reset, block[j].s), neurons.beta[j], d.di[at], d.du[at], dw);
    };
    // R(u) before the step.
    const auto reset_u = [&](const NeuronModel& m, const auto& block, Index at, Index j)
        __attribute__((always_inline)) {
        return after_reset(m.reset, before.u[at], block[j].s, block[j].theta);
    };
    // sum[j] += term(m, block, element, j), sequences in order.
    const auto add = [&](const SumMatrix& sum, auto&& term) {
        const auto add_to = [&](auto* to) {
            using T = std::remove_pointer_t<decltype(to)>;
            for_blocks(model, neurons, before, b, n, 1, [&](const auto& block, Index s) {
                with_constants(model, block, [&](auto constant) {
                    const NeuronModel m = constant;
#pragma omp simd
                    for (Index j = block.begin; j < block.end; ++j) {
                        const Term one = term(m, block, s * n + j, j);
                        to[j] += static_cast<T>(one.x) * one.y;
                    }
                });
            });
        };
        if (!sum.data) return;
        if (sum.type == Scalar::float32)
            add_to(static_cast<float*>(sum.data));
        else
            add_to(static_cast<double*>(sum.data));
    };
    add(sums.alpha, [&](const NeuronModel& m, const auto& block, Index at, Index j) {
        return Term{adjoint(m, block, at, j).g, before.i[at]};
    });
    add(sums.beta, [&](const NeuronModel& m, const auto& block, Index at, Index j) {
        float h = now.i[at];
        if constexpr (block.adaptation == Adaptation::current) h = adapted_current(m.adaptation, h, now.w[at]);
        const float u = leaking_membrane(m, block[j].theta, block[j].s, before.u[at]);
        return Term{adjoint(m, block, at, j).dk, u - h};
    });
    if (model.reset == Reset::subtract)
        add(sums.threshold, [&](const NeuronModel& m, const auto& block, Index at, Index j) {
            const StepAdjoint a = adjoint(m, block, at, j);
            float through = m.reset_delay == 0 ? neurons.beta[j] * a.dk : a.dk;
            if constexpr (block.adaptation != Adaptation::none)
                through = fmaf(neurons.adapt_membrane[j], a.gw, through);
            return Term{-through, block[j].s};
        });
    add(sums.rho, [&](const NeuronModel& m, const auto& block, Index at, Index j) {
        return Term{adjoint(m, block, at, j).gw, before.w[at]};
    });
    add(sums.adapt_membrane, [&](const NeuronModel& m, const auto& block, Index at, Index j) {
        return Term{adjoint(m, block, at, j).gw, reset_u(m, block, at, j)};
    });
    add(sums.adapt_spike, [&](const NeuronModel& m, const auto& block, Index at, Index j) {
        return Term{adjoint(m, block, at, j).gw, block[j].s};
    });

    for_blocks(model, neurons, before, b, n, threads_for(b * n), [&](const auto& block, Index s) {
        with_constants(model, block, [&](auto constant) {
            const NeuronModel m = constant;
#pragma omp simd
            for (Index j = block.begin; j < block.end; ++j) {
                const Index at = s * n + j;
                const StepAdjoint a = adjoint(m, block, at, j);
                const float c = reset_factor(m.reset, block[j].s);
                g[at] = a.g;
                d.di[at] = neurons.alpha[j] * a.g;
                float du = neurons.beta[j] * (factor_before(m.reset_delay, c) * a.dk);
                if constexpr (constant.adaptation != Adaptation::none) {
                    own[at] = neurons.adapt_spike[j] * a.gw;
                    du = fmaf(neurons.adapt_membrane[j], c * a.gw, du);
                    d.dw[at] = neurons.rho[j] * a.gw;
                }
                d.du[at] = du;
            }
        });
    });
}

void CpuBackend::add_adjoints(const NeuronModel& model, const NeuronVectors& neurons, Readout readout, Index rows,
                              Index n, const NeuronState& state, const float* back, const float* own,
                              const float* from_readout, const float* extra, const StateAdjoint& d,
                              const SumMatrix& d_threshold) {
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
        const int threads = d_threshold.data ? 1 : threads_for(rows * n);
        for_blocks(model, neurons, state, rows, n, threads, [&](const auto& block, Index row) {
            const Index begin = block.begin, size = block.end - begin, at = row * n + begin;
            const bool through_spikes = back || own || (from_readout && readout == Readout::spikes);
            const bool needs_dv = (d.dw && block.adaptation == Adaptation::threshold) || d_threshold.data;
            float psi[block_size], dv[block_size], *const du = d.du + at;
            if (needs_dv) std::fill_n(dv, size, 0.0f);
            if (through_spikes)
#pragma omp simd
                for (Index l = 0; l < size; ++l)
                    psi[l] = block[begin + l].m * S::psi(block[begin + l].v, model.sharpness);
            const auto add = [&](const float* part) {
#pragma omp simd
                for (Index l = 0; l < size; ++l) du[l] += part[at + l];
            };
            const auto add_times_psi = [&](const float* part) {
#pragma omp simd
                for (Index l = 0; l < size; ++l) du[l] = fmaf(psi[l], part[at + l], du[l]);
                if (needs_dv)
#pragma omp simd
                    for (Index l = 0; l < size; ++l) dv[l] = fmaf(psi[l], part[at + l], dv[l]);
            };
            if (back) add_times_psi(back);
            if (own) add_times_psi(own);
            if (from_readout) readout == Readout::spikes ? add_times_psi(from_readout) : add(from_readout);
            if (extra) add(extra);
            if (!needs_dv) return;
            if (extra)
                for (Index l = 0; l < size; ++l) dv[l] += extra[at + l];
            if (d.dw && block.adaptation == Adaptation::threshold)
                for (Index l = 0; l < size; ++l) d.dw[at + l] -= dv[l];
            const auto subtract_from = [&](auto* sum) {
                for (Index l = 0; l < size; ++l) sum[begin + l] -= dv[l];
            };
            if (!d_threshold.data) return;
            if (d_threshold.type == Scalar::float32)
                subtract_from(static_cast<float*>(d_threshold.data));
            else
                subtract_from(static_cast<double*>(d_threshold.data));
        });
    });
}

}  // namespace spikefloss
