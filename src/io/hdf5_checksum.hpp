// Checksums of files, independent of the grid that wrote or reads them.
//
//   dataset:    sum over elements, modulo 2^64, of mix(element bits + (1 + row-major index) * 0x9E3779B97F4A7C15)
//   file:       sum over all attributes, the datasets' checksums among them, of a hash of object, name and value
//
// mix is the finaliser of SplitMix64 (Steele, Lea & Flood 2014). Sums commute, so each rank adds its own elements.
#pragma once

#include "io/hdf5_file.hpp"

namespace spikefloss {

inline constexpr const char* checksum_name = "checksum";  // of the attribute

// The sum over one block of a dataset of these dimensions.
template <class T>
std::uint64_t block_checksum(const std::vector<Index>& dims, const Block<T>& block);

// What one attribute adds to the checksum of its file. object: "/network/w_rec"
std::uint64_t attribute_checksum(const std::string& object, const std::string& name, const AttributeValue& value);

// Reads the whole file, every rank a share, and returns "" when it is what was written, otherwise what is wrong with
// it; all ranks return the same. Collective.
std::string checksum_fault(const std::string& path, const ProcessGrid& grid);

}  // namespace spikefloss
