// Networks and sequences in HDF5 files, in the one layout of docs/files.md: golden cases, users' own networks and the
// network part of checkpoints.
#pragma once

#include "io/hdf5_file.hpp"
#include "network/parameters.hpp"
#include "tasks/task.hpp"

#include <string>
#include <vector>

namespace spikefloss {

// transposed: the axes of all arrays are reversed in the file. The attribute layout = "column_major" means the same.

// This rank's part of /network. Throws Error(Exit::bad_file) for a fault in attributes, names, shapes or ranges, and
// Error(Exit::usage) if there are more neuron shards than neurons. No communication.
HostNetwork read_network(const std::string& path, Index neuron_shards, Index neuron_shard, bool transposed = false);

// Error(Exit::usage) if there are more neuron shards than neurons.
void require_shards(const std::string& path, const NetworkShape& shape, Index neuron_shards);

// Writes the group /network. Collective.
void write_network(OutputFile& file, const ProcessGrid& grid, const HostNetwork& network);

// One dataset per parameter below `group`, named and shaped as in /network, from values laid out as the parameters
// (gradients, moments). Collective.
void write_parameters(OutputFile& file, const ProcessGrid& grid, const std::string& group,
                      const ParameterLayout& layout, const std::vector<float>& values);
// The inverse: this rank's part. No communication. Missing initial_current and initial_membrane are 0.
std::vector<float> read_parameters(const InputFile& file, const std::string& group, const ParameterLayout& layout);

// The sequences of one rank.
struct SequencesFile {
    Batch batch;               // b = grid.sequences_of(total) of them
    Index total = 0;           // B
    std::vector<float> q0;     // [b, k, D_local] as TangentPass::forward takes them; empty if the file has none
    Index q0_columns = 0;      // k
    bool has_targets = false;  // whether there is a target or a label
};

// This rank's part of /sequences for a network of this shape, whose state has `parts` N dimensions. No communication.
// loss: of the batch; automatic: cross_entropy_mean with labels, else binary_cross_entropy, whose targets are 0 to 1.
// Errors as in read_network; Error(Exit::usage) if there are more batch shards than sequences.
SequencesFile read_sequences(const std::string& path, const NetworkShape& shape, Index parts, const ProcessGrid& grid,
                             bool transposed = false, LossKind loss = LossKind::automatic);

}  // namespace spikefloss
