// What a network is without its numbers: N neurons in populations, which are contiguous ranges, and projections between
// them, each with one delay in steps. A population is a name for a range, never a unit of work.
#pragma once

#include "core/choices.hpp"
#include "parallel/block_range.hpp"

#include <string>
#include <vector>

namespace spikefloss {

struct NetworkShape {
    Index neurons = 0, inputs = 0, outputs = 0;  // N, M, O
    bool operator==(const NetworkShape&) const = default;
};

struct Population {
    std::string name;
    Index begin = 0, size = 0;
    BlockRange range() const { return {begin, begin + size}; }
    bool operator==(const Population&) const = default;
};

// The source of a projection that is not a population.
inline constexpr Index from_input = -1;

struct Projection {
    std::string name;
    Index source = from_input, target = 0;  // populations
    Index delay = 1;                        // steps, >= 1
    Sign sign = Sign::any;
    bool sparse = false;
    Index synapses = 0;  // of all ranks, if sparse
    bool operator==(const Projection&) const = default;
};

struct Topology {
    NetworkShape shape;
    std::vector<Population> populations = {};  // none: the plain form, all neurons with W_in and W_rec
    std::vector<Projection> projections = {};
    Index readout_from = -1;  // the population that the readout reads; -1: all neurons
    bool thresholds = false;  // each neuron has a threshold of its own; otherwise NeuronModel has that of all
    bool adaptation = false;

    bool plain() const { return populations.empty(); }
    // The neurons of a population, or all; and those that the readout reads.
    BlockRange neurons_of(Index population) const {
        return population < 0 ? BlockRange{0, shape.neurons}
                              : populations[static_cast<std::size_t>(population)].range();
    }
    BlockRange read() const { return neurons_of(readout_from); }
    // The operand of a projection: neurons, or all inputs.
    BlockRange source_of(const Projection& projection) const {
        return projection.source == from_input ? BlockRange{0, shape.inputs} : neurons_of(projection.source);
    }
    BlockRange target_of(const Projection& projection) const { return neurons_of(projection.target); }
    // The largest delay of a recurrent projection; 1 if there is none.
    Index longest_delay() const;
    // L_j: of the projections that leave neuron j, the largest delay minus 1; one number for each population.
    std::vector<Index> depths() const;
    bool operator==(const Topology&) const = default;
};

// This rank's synapses of a sparse projection: the rows of its target's neurons that the rank owns.
struct Synapses {
    std::vector<Index> row_begin = {0};  // [rows + 1]
    std::vector<std::int32_t> column;    // [entries] within the source, ascending in each row
    Index first = 0;                     // the number of the first of them among those of all ranks
    Index count() const { return static_cast<Index>(column.size()); }
};

}  // namespace spikefloss
