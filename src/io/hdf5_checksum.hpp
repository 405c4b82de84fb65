// Checksums of files, independent of the grid that wrote or reads them.
//
//   dataset:    sum over elements, modulo 2^64, of mix(element bits + (1 + row-major index) * 0x9E3779B97F4A7C15)
//   attributes: sum over all of them, the datasets' checksums included, of a hash of object, name and value
//   seal:       the sum of a dataset, here over the bytes of the whole file taken as 64-bit words; it follows the
//               HDF5 part, where HDF5 readers do not look
//
// mix is the finaliser of SplitMix64 (Steele, Lea & Flood 2014). Sums commute, so each rank adds its own elements.
// The seal is needed because the HDF5 library must not read a damaged file: it can crash on a single flipped bit (in
// its global heap, which has no protection of its own).
#pragma once

#include "io/hdf5_file.hpp"

namespace spikefloss {

inline constexpr const char* checksum_name = "checksum";  // the name of the attribute

// The sum over one block of a dataset of these dimensions.
template <class T>
std::uint64_t block_checksum(const std::vector<Index>& dims, const Block<T>& block);

// The contribution of one attribute to the checksum of its file. object: "/network/w_rec"
std::uint64_t attribute_checksum(const std::string& object, const std::string& name, const AttributeValue& value);

// The share of one of `ranks` in the sum over the first `size` bytes of a file. Error(Exit::bad_file) on a fault.
std::uint64_t bytes_checksum(const std::string& path, Index size, int ranks, int rank);
// Appends the seal to an open file of `size` bytes; false (with errno) if it cannot be written.
bool write_seal(int descriptor, Index size, std::uint64_t sum);
// Whether a file ends with a seal, matched or not; and whether it is an unchanged file of spikefloss with this format
// (the attribute of "/"). Neither is collective, neither throws.
bool has_seal(const std::string& path);
bool is_whole_file_of(const std::string& format, const std::string& path);

// Read the same data as checksum_fault and discard them: all attributes of an object; all of a file. progress() is
// called after every object. In a damaged file the list of attributes may lack one that can still be opened by name:
// `names` are the attributes that a reader opens by name.
void touch_attributes(const InputFile& file, const std::string& object, std::vector<std::string> names);
void touch_contents(const InputFile& file, const std::function<void()>& progress);

// Reads the whole file, every rank a share. "" if the file is unchanged, otherwise its fault; the same on all ranks.
// Collective. The first function checks the seal, the second the checksums in the file.
std::string seal_fault(const std::string& path, const ProcessGrid& grid);
std::string checksum_fault(const std::string& path, const ProcessGrid& grid);

// The text of the lowest rank whose text is not empty, on every rank. Collective.
std::string first_text(const std::string& mine, const ProcessGrid& grid);

}  // namespace spikefloss
