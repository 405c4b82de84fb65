// The spikes of all neurons at steps 0..T, as bits, on every neuron shard. With them ranks need not communicate again
// in the backward pass. Only this class knows how gathered bits lie:
//
//   [T+1][P blocks [b, spike_words(n_p)]]
#pragma once

#include "backend/buffer.hpp"
#include "parallel/process_grid.hpp"

#include <span>
#include <vector>

namespace spikefloss {

class SpikeTape {
public:
    // Of N neurons in T steps of b sequences. refractory: steps after a spike in which a neuron cannot spike.
    SpikeTape(Backend& backend, const ProcessGrid& grid, Index N, Index T, Index b, Index refractory = 0);

    // Writes s[t] of a state of this rank, [b, n]: the bits of all ranks. Collective over the neuron shards.
    void write(const NeuronModel& model, const NeuronVectors& neurons, Index t, const NeuronState& state);
    // This rank's neurons that cannot spike in step t, from the spikes of the steps before.
    Refractory refractory(Index t) const;
    // The bits from step t on, to be read or written by a pass of one rank that holds all neurons.
    std::uint32_t* bits(Index t) { return bits_.data() + t * words_; }
    const std::uint32_t* bits(Index t) const { return bits_.data() + t * words_; }
    // The spikes of each shard from step t on, [steps b, n_p], and those of this rank's shard.
    std::vector<Activity> at(Index t) const;
    Activity mine(Index t) const { return of_shard(t, grid_.neuron_shard()); }

    // Mean probability of a spike per neuron and step, over t = 1..T and all ranks. Collective. begin_rate() queues the
    // count, end_rate() waits for it.
    double rate() const {
        begin_rate();
        return end_rate();
    }
    void begin_rate() const;
    double end_rate() const;
    // The spikes of each of these ranges of neurons at t = 1..T, of this rank's neurons and sequences. Counted on the
    // host.
    std::vector<std::int64_t> counts(std::span<const BlockRange> ranges) const;
    // Which of these neurons, ascending, fire in these sequences of this rank, on the host: [T+1][sequences][neurons].
    std::vector<unsigned char> raster(BlockRange sequences, std::span<const Index> neurons) const;
    // The most neurons that fire in one of the first `steps` steps, of each sequence of this rank. pairs: that fire in
    // the step or in the one before.
    std::vector<Index> most(Index steps, bool pairs) const;
    std::size_t bytes() const { return bits_.bytes(); }

private:
    Index shards() const { return static_cast<Index>(blocks_.size()); }
    Index neurons_of(Index p) const { return blocks_[static_cast<std::size_t>(p)].size(); }
    // Words before block p of a step.
    Index word_offset(Index p) const;
    Activity of_shard(Index t, Index p) const;

    Backend& backend_;
    const ProcessGrid& grid_;
    Index T_, b_, refractory_;
    std::vector<BlockRange> blocks_;  // the neurons of each shard
    std::vector<Index> sizes_;        // bytes of each shard's block of a step
    Index words_;                     // of a step
    Buffer<std::uint32_t> bits_;      // [T+1][words]
    Buffer<std::uint32_t> packed_;    // [b, words of n], before they are gathered
    mutable Buffer<double> count_;    // [1]
    mutable Readback<double> counted_;
};

}  // namespace spikefloss
