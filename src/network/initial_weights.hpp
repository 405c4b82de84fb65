// The sizes of initial weights that give a wished activity: balanced and fluctuation-driven networks.
#pragma once

#include "network/initialise.hpp"

#include <vector>

namespace spikefloss {

// Mean and standard deviation of normal weights; of weights with a sign the mean of their exponential distribution, or
// the weight itself.
struct WeightScale {
    double mean = 0.0, deviation = 0.0;
};

// degrees: synapses per target of each projection. at: the projection.
// All weights of the projection are gain / sqrt(K), with its sign. K: synapses of a target from excitatory populations.
WeightScale balanced_weights(const InitialNetwork& network, const std::vector<double>& degrees, std::size_t at);
// A membrane that never spikes has the mean fluctuation_mean and the standard deviation
// (threshold - fluctuation_mean) / fluctuation_xi over time. Throws Error(Exit::usage) if no weights give these.
WeightScale fluctuation_weights(const InitialNetwork& network, const std::vector<double>& degrees, std::size_t at);

}  // namespace spikefloss
