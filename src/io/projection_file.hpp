// The weights of one projection in a group of a file: weights [post, pre] of a dense one, or the CSR matrix of
// scipy.sparse (indptr, indices, data). The group is part of a network file, or a config names it for one projection.
#pragma once

#include "io/hdf5_file.hpp"
#include "network/initialise.hpp"

#include <string>
#include <vector>

namespace spikefloss {

// The sizes of a projection, and the names of its populations for errors.
struct ProjectionEnds {
    std::string source, target;
    Index sources = 0, targets = 0;
    Sign sign = Sign::any;
};

struct StoredWeights {
    std::string group;        // "" is the root
    std::string values = {};  // the dataset of weights; "" if only the synapses are stored
    bool sparse = false;
    Index synapses = 0;
};

// What a group holds, with its shapes checked. A dataset in place of a group is a dense matrix. pattern_alone: a sparse
// projection can have no data. Throws Error(Exit::bad_file), which names file and dataset, as do those below.
StoredWeights read_storage(const InputFile& file, std::string group, const ProjectionEnds& ends, bool pattern_alone);
// Of a sparse one, the rows first .. first + rows - 1, checked.
Synapses read_rows(const InputFile& file, const StoredWeights& stored, const ProjectionEnds& ends, Index first,
                   Index rows);

// The synapses of a projection whose config names a file and a group or dataset. Rows are read when they are needed.
GivenSynapses given_synapses(const std::string& path, const std::string& group, const ProjectionEnds& ends);
// The datasets of such a group, for the probe of the file.
std::vector<std::string> datasets_of_projection(const std::string& group);

// From now on the axes of the file's datasets are reversed if `transposed` or the attribute layout of `group`, or of
// /network, says so.
void choose_order(InputFile& file, const std::string& group, bool transposed);

// An attribute that an error can show: no escape sequences for a terminal, no bytes of a damaged file.
std::string word_attribute(const InputFile& file, const std::string& object, const std::string& name);

}  // namespace spikefloss
