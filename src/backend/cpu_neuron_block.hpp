// Loops of the CPU backend over the neurons of many rows, in blocks that stay in the first-level cache.
#pragma once

#include "backend/backend.hpp"

#include <algorithm>
#include <type_traits>

namespace spikefloss {

inline constexpr Index block_size = 512;  // neurons; a multiple of the 32 of a word of spikes

// Neurons begin .. end - 1 of a row without refractory steps. own: each has a threshold of its own.
template <Adaptation kind, bool own>
struct NeuronBlock {
    static constexpr Adaptation adaptation = kind;
    Index begin, end;
    float threshold;
    const float *thresholds, *u, *w;  // the last two of the row

    NeuronBlock(const NeuronModel& model, const NeuronVectors& neurons, const NeuronState& state, Index row, Index n,
                Index begin_)
        : begin(begin_),
          end(std::min(n, begin_ + block_size)),
          threshold(model.threshold),
          thresholds(neurons.threshold),
          u(state.u + row * n),
          w(kind == Adaptation::threshold ? state.w + row * n : nullptr) {}
    NeuronBlock(float threshold_, const float* u_, Index begin_, Index end_)
        requires(kind == Adaptation::none && !own)
        : begin(begin_), end(end_), threshold(threshold_), thresholds(nullptr), u(u_), w(nullptr) {}
    Firing operator[](Index j) const {
        return firing(kind, own ? thresholds[j] : threshold, u[j], kind == Adaptation::threshold ? w[j] : 0.0f, false);
    }
};
using PlainBlock = NeuronBlock<Adaptation::none, false>;

// Neurons of which some may be refractory.
template <Adaptation kind>
struct RefractoryBlock {
    static constexpr Adaptation adaptation = kind;
    Index begin, end;
    float theta[block_size], v[block_size], m[block_size], s[block_size];

    RefractoryBlock(const NeuronModel& model, const NeuronVectors& neurons, const NeuronState& state, Index row,
                    Index n, Index begin_)
        : begin(begin_), end(std::min(n, begin_ + block_size)) {
        const Index size = end - begin;
        const float *u = state.u + row * n + begin, *w = state.w;
        if constexpr (kind == Adaptation::threshold) w += row * n + begin;
        if (neurons.threshold)
            std::copy_n(neurons.threshold + begin, size, theta);
        else
            std::fill_n(theta, size, model.threshold);
        for (Index first = 0; first < size; first += 32) {
            const std::uint32_t refractory = state.refractory.bits(row, (begin + first) / 32);
            const Index last = std::min(size, first + 32);
#pragma omp simd
            for (Index l = first; l < last; ++l) {
                const float w_l = kind == Adaptation::threshold ? w[l] : 0.0f;
                const Firing at = firing(kind, theta[l], u[l], w_l, refractory >> (l - first) & 1u);
                v[l] = at.v, m[l] = at.m, s[l] = at.s;
            }
        }
    }
    Firing operator[](Index j) const { return {theta[j - begin], v[j - begin], m[j - begin], s[j - begin]}; }
};

// Calls work(block, row) for the blocks of all rows; those of a neuron in the order of the rows if threads is 1.
template <class Work>
void for_blocks(const NeuronModel& model, const NeuronVectors& neurons, const NeuronState& state, Index rows, Index n,
                int threads, Work&& work) {
    const auto blocks_of = [&]<class Some>(const Some*) {
        const Index blocks = (n + block_size - 1) / block_size;
        const auto take = [&](Index at) {
            const Index row = at / blocks;
            work(Some(model, neurons, state, row, n, at % blocks * block_size), row);
        };
        if (threads == 1) {  // without the cost of a parallel region: whole passes call it in every step for every row
            for (Index at = 0; at < rows * blocks; ++at) take(at);
            return;
        }
#pragma omp parallel for num_threads(threads)
        for (Index at = 0; at < rows * blocks; ++at) take(at);
    };
    const auto blocks_with = [&](auto kind) {
        if (state.refractory.steps > 0)
            blocks_of(static_cast<const RefractoryBlock<kind>*>(nullptr));
        else if (neurons.threshold)
            blocks_of(static_cast<const NeuronBlock<kind, true>*>(nullptr));
        else
            blocks_of(static_cast<const NeuronBlock<kind, false>*>(nullptr));
    };
    switch (model.adaptation) {
        case Adaptation::none: return blocks_with(std::integral_constant<Adaptation, Adaptation::none>{});
        case Adaptation::threshold: return blocks_with(std::integral_constant<Adaptation, Adaptation::threshold>{});
        case Adaptation::current: return blocks_with(std::integral_constant<Adaptation, Adaptation::current>{});
    }
}

}  // namespace spikefloss
