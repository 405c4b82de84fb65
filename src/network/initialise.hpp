// Initial parameters and synapses of a network. Every number and every synapse is a function of the seed and its global
// indices, so each rank makes its own rows and the network does not depend on the grid.
#pragma once

#include "network/parameters.hpp"

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace spikefloss {

struct InitialPopulation {
    std::string name = "neurons";
    Index neurons = 0;  // 0: all neurons of the network
    // Decay factors from time constants in units of dt; a time constant of 0 gives a factor of 0. The spread is the
    // relative half width of a uniform distribution over neurons.
    double tau_syn = 5.0, tau_mem = 10.0, tau_adapt = 200.0;
    double tau_syn_spread = 0.0, tau_mem_spread = 0.0;
    double threshold = 1.0;
    double adapt_membrane = 0.0, adapt_spike = 0.0;
    double bias_mean = 0.0, bias_std = 0.0;
    double fluctuation_mean = 0.0, fluctuation_xi = 1.0;
};

// Synapses that are not drawn, but come from a file. The functions read.
struct GivenSynapses {
    bool sparse = false;                                                       // otherwise all exist
    Index count = 0;                                                           // of all targets
    std::function<Synapses(Index first, Index rows)> rows = {};                // of a sparse one: onto these targets
    std::function<std::vector<float>(Index first, Index count)> weights = {};  // these synapses; null: no weights
};

struct InitialProjection {
    std::string name;
    Index source = from_input, target = 0;  // populations
    Index delay = 1;                        // steps
    Sign sign = Sign::any;
    bool sparse = false;   // keep as a sparse one although all synapses exist
    double density = 1.0;  // probability of a synapse
    Index in_degree = 0;   // synapses of each target; 0: as density says
    bool autapses = true;  // whether a neuron can have a synapse onto itself
    WeightInit init = WeightInit::gaussian;
    double gain = 1.0;  // gaussian: standard deviation gain/sqrt(K); orthogonal: times a matrix; balanced: gain/sqrt(K)
    double weight_mean = 0.0;
    double rate = 0.02;          // fluctuation: spikes per step of a source
    double share = 0.0;          // fluctuation: of the variance; 0: by kind
    bool zero_row_sums = false;  // subtract its mean from every row
    // Which synapses exist, and their weights if it has some; null: drawn as the settings above say.
    std::function<GivenSynapses(Index targets, Index sources)> given = {};
};

struct InitialNetwork {
    NetworkModel model;
    NetworkShape shape;
    std::uint64_t seed = 1;
    bool plain = true;  // one population, with W_in and W_rec
    std::vector<InitialPopulation> populations = {{}};
    std::vector<InitialProjection> projections = {{.name = "w_in"}, {.name = "w_rec", .source = 0}};
    Index readout_from = -1;    // a population; -1: all neurons
    bool thresholds = false;    // each neuron has a threshold of its own
    double tau_out = 0.0;       // in units of dt
    double readout_gain = 1.0;  // W_out: standard deviation readout_gain / sqrt(neurons that are read)
    double weight_step = 0.0;   // round weights and biases to multiples of this; 0: do not

    // Whether the longest tau_syn gives an alpha that is not 0 as a float: below about dt / 104 it is 0.
    bool has_current() const;
};

// The part of neuron shard `shard` of `shards`: its synapses, without values. Throws Error(Exit::usage) for an
// in-degree above the number of inputs.
HostNetwork planned_network(const InitialNetwork& settings, Index shards, Index shard);
// The same with values. Work and memory grow with the synapses of this part; but every rank makes the whole of an
// orthogonal matrix: O(N^3) work and O(N^2) memory. Throws Error(Exit::usage) for a fluctuation that no weights give.
HostNetwork initial_network(const InitialNetwork& settings, HostNetwork planned);
inline HostNetwork initial_network(const InitialNetwork& settings, Index shards, Index shard) {
    return initial_network(settings, planned_network(settings, shards, shard));
}
// Reads all weights of files, as initial_network does for its part, and keeps none. Throws what the files' readers
// throw.
void try_given_weights(const InitialNetwork& settings);

}  // namespace spikefloss
