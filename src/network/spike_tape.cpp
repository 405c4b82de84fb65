#include "network/spike_tape.hpp"

#include <algorithm>
#include <bit>

namespace spikefloss {

SpikeTape::SpikeTape(Backend& backend, const ProcessGrid& grid, Index N, Index T, Index b, Index refractory)
    : backend_(backend),
      grid_(grid),
      T_(T),
      b_(b),
      refractory_(refractory),
      blocks_(block_ranges(N, grid.shape().neuron_shards)),
      count_(backend, 1),
      counted_(backend, 1) {
    for (const BlockRange& block : blocks_)
        sizes_.push_back(b * spike_words(block.size()) * static_cast<Index>(sizeof(std::uint32_t)));
    words_ = word_offset(shards());
    bits_ = Buffer<std::uint32_t>(backend, (T + 1) * words_);
    packed_ = Buffer<std::uint32_t>(backend, shards() > 1 ? b * spike_words(neurons_of(grid.neuron_shard())) : 0);
}

Index SpikeTape::word_offset(Index p) const {
    Index words = 0;
    for (Index before = 0; before < p; ++before) words += b_ * spike_words(neurons_of(before));
    return words;
}

void SpikeTape::write(const NeuronModel& model, const NeuronVectors& neurons, Index t, const NeuronState& state) {
    const Index n = neurons_of(grid_.neuron_shard());
    backend_.pack_spikes(model, neurons, b_, n, state, shards() > 1 ? packed_.data() : bits(t));
    if (shards() > 1) grid_.neurons().all_gather(packed_.data(), bits(t), sizes_);
}

Refractory SpikeTape::refractory(Index t) const {
    const Index steps = std::min(refractory_, t);
    if (steps == 0) return {};
    const Activity last = mine(t - 1);
    return {.spikes = last.bits, .stride = last.stride, .steps = steps, .step_stride = words_};
}

Activity SpikeTape::of_shard(Index t, Index p) const {
    const Index words = spike_words(neurons_of(p));
    if (shards() == 1) return {.bits = bits(t), .stride = words};
    return {.bits = bits(t) + word_offset(p), .stride = words, .step_rows = b_, .step_stride = words_};
}

std::vector<Activity> SpikeTape::at(Index t) const {
    std::vector<Activity> spikes;
    for (Index p = 0; p < shards(); ++p) spikes.push_back(of_shard(t, p));
    return spikes;
}

void SpikeTape::begin_rate() const {
    const Index n = neurons_of(grid_.neuron_shard());
    count_.zero();
    backend_.count_spikes(T_, b_ * spike_words(n), bits_.data() + words_ + word_offset(grid_.neuron_shard()), words_,
                          count_.data());
    counted_.begin(count_);
}

double SpikeTape::end_rate() const {
    double counts[2] = {counted_.get()[0], static_cast<double>(T_ * b_ * neurons_of(grid_.neuron_shard()))};
    grid_.control().all_reduce_sum(counts, Scalar::float64, 2);
    return counts[1] > 0.0 ? counts[0] / counts[1] : 0.0;
}

std::vector<std::int64_t> SpikeTape::counts(std::span<const BlockRange> ranges) const {
    const Index p = grid_.neuron_shard(), words = spike_words(neurons_of(p));
    const BlockRange block = blocks_[static_cast<std::size_t>(p)];
    const std::vector<std::uint32_t> bits = bits_.to_host();
    std::vector<std::int64_t> counts(ranges.size(), 0);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        const Index begin = std::max(ranges[i].begin, block.begin) - block.begin;
        const Index end = std::min(ranges[i].end, block.end) - block.begin;
        for (Index w = begin / 32; 32 * w < end && begin < end; ++w) {
            const Index low = std::max<Index>(begin - 32 * w, 0), high = std::min<Index>(end - 32 * w, 32);
            const std::uint32_t mask = (high < 32 ? (1u << high) - 1 : ~0u) & ~((1u << low) - 1);
            for (Index t = 1; t <= T_; ++t)
                for (Index s = 0; s < b_; ++s)
                    counts[i] += std::popcount(
                        bits[static_cast<std::size_t>(t * words_ + word_offset(p) + s * words + w)] & mask);
        }
    }
    return counts;
}

std::vector<Index> SpikeTape::most(Index steps, bool pairs) const {
    const std::vector<std::uint32_t> words = bits_.to_host();
    std::vector<Index> most(static_cast<std::size_t>(b_), 0), count(most);
    for (Index t = 0; t < steps; ++t) {
        std::fill(count.begin(), count.end(), 0);
        const std::uint32_t* at = words.data() + t * words_;
        for (Index p = 0; p < shards(); ++p)
            for (Index& of_sequence : count)
                for (Index w = 0; w < spike_words(neurons_of(p)); ++w, ++at)
                    of_sequence += std::popcount(*at | (pairs && t > 0 ? *(at - words_) : 0u));
        for (std::size_t s = 0; s < most.size(); ++s) most[s] = std::max(most[s], count[s]);
    }
    return most;
}

std::vector<unsigned char> SpikeTape::raster(BlockRange sequences, std::span<const Index> neurons) const {
    const std::vector<std::uint32_t> words = bits_.to_host();
    std::vector<unsigned char> spikes;
    for (Index t = 0; t <= T_; ++t)
        for (Index s = sequences.begin; s < sequences.end; ++s) {
            Index p = 0, at = t * words_;
            for (const Index neuron : neurons) {
                while (!blocks_[static_cast<std::size_t>(p)].contains(neuron)) at += b_ * spike_words(neurons_of(p++));
                const Index j = neuron - blocks_[static_cast<std::size_t>(p)].begin;
                const std::uint32_t word =
                    words[static_cast<std::size_t>(at + s * spike_words(neurons_of(p)) + j / 32)];
                spikes.push_back(word >> (j % 32) & 1);
            }
        }
    return spikes;
}

}  // namespace spikefloss
