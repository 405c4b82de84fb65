// The populations and projections of a network file: the groups /network/populations and /network/projections of
// docs/files.md.
#pragma once

#include "io/projection_file.hpp"

#include <string>
#include <vector>

namespace spikefloss {

// Whether the network has populations. Otherwise it has the plain form.
bool has_populations(const InputFile& file);
// The populations, projections, inputs and readout_from of such a network, checked; shape.outputs stays 0. Throws
// Error(Exit::bad_file), which names the group and what to write.
Topology read_topology(const InputFile& file);
// Of each sparse projection, the rows of the neurons `mine`, checked; empty for dense ones.
std::vector<Synapses> read_synapses(const InputFile& file, const Topology& topology, BlockRange mine);

// Writes these groups, without the values of weights. Collective.
void write_topology(OutputFile& file, const ProcessGrid& grid, const ParameterLayout& layout);

}  // namespace spikefloss
