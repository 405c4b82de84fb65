// Initial parameters of a network. Every number is a function of the seed and its global indices, so each rank makes
// its own rows and the network does not depend on the grid.
#pragma once

#include "network/parameters.hpp"

#include <cstdint>

namespace spikefloss {

struct InitialNetwork {
    NetworkModel model;
    NetworkShape shape;
    WeightInit init = WeightInit::gaussian;
    double gain = 1.0;          // W_rec: standard deviation gain / sqrt(N), or gain times an orthogonal matrix
    double input_gain = 1.0;    // W_in: standard deviation input_gain / sqrt(M)
    double readout_gain = 1.0;  // W_out: standard deviation readout_gain / sqrt(N)
    double bias_mean = 0.0, bias_std = 0.0;
    bool zero_row_sums = false;  // subtract its mean from every row of W_rec
    double weight_step = 0.0;    // round weights and biases to multiples of this; 0: do not
    // Decay factors from time constants in units of dt; a time constant of 0 gives a factor of 0. The spread is the
    // relative half width of a uniform distribution over neurons.
    double tau_syn = 5.0, tau_mem = 10.0, tau_out = 0.0;
    double tau_syn_spread = 0.0, tau_mem_spread = 0.0;

    // Whether the longest tau_syn gives an alpha that is not 0 as a float: below about dt / 104 it is 0.
    bool has_current() const;
};

// The layout of the part of neuron shard `shard`, without values.
HostNetwork planned_network(const InitialNetwork& settings, Index shards, Index shard);

// The part of neuron shard `shard` of `shards`. Every rank makes the whole orthogonal matrix once: O(N^3) work and
// O(N^2) memory.
HostNetwork initial_network(const InitialNetwork& settings, std::uint64_t seed, Index shards, Index shard);

}  // namespace spikefloss
