// Datasets of strings in HDF5 files.
#pragma once

#include "io/hdf5_file.hpp"

#include <string>
#include <vector>

namespace spikefloss {

// All strings of a dataset, of fixed length (without zeros and spaces at the end) or of any length.
// Error(Exit::bad_file) if it holds no strings or cannot be read.
std::vector<std::string> read_strings(const InputFile& file, const std::string& name);

}  // namespace spikefloss
