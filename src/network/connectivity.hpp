// Which synapses a projection has: for each target a number of them, fixed or binomial, and as many different sources;
// or those of a file.
#pragma once

#include "network/initialise.hpp"

#include <cstdint>
#include <vector>

namespace spikefloss {

class Connectivity {
public:
    // begin, sources: the first neuron of the source (-1: the input) and their number. targets: those of the target.
    // copy: the number of earlier projections between the same populations.
    Connectivity(const InitialProjection& projection, std::uint64_t seed, Index begin, Index sources,
                 BlockRange targets, Index copy);

    // Whether each of the possible synapses exists, autapses included.
    bool all() const { return all_; }
    // The mean number of synapses of a target.
    double mean_degree() const { return fixed_ >= 0 ? static_cast<double>(fixed_) : mean_; }
    bool has_weights() const { return given_.weights != nullptr; }
    // The weights of the synapses number first .. first + count - 1, if it has some.
    std::vector<float> weights(Index first, Index count) const { return given_.weights(first, count); }
    // The number of all synapses onto the first `rows` targets; of a file, onto all.
    Index synapses_of(Index rows) const;
    // Those onto the targets first .. first + rows - 1.
    Synapses synapses(Index first, Index rows) const;

private:
    Index degree(Index row) const;

    std::uint64_t seed_;
    Index begin_, sources_, targets_begin_, targets_, copy_;
    bool same_;  // whether an autapse is left out
    bool all_ = false;
    Index fixed_ = -1;  // synapses of each target; -1: binomial
    double mean_ = 0.0;
    GivenSynapses given_;
    Index lowest_ = 0;           // of the binomial distribution,
    std::vector<double> up_to_;  // and the probability of at most lowest_ + k
};

}  // namespace spikefloss
