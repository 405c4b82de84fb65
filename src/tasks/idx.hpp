// Reader of IDX files, the format of the MNIST family: a big-endian header (magic number 0x0000080d for d dimensions of
// unsigned bytes, then d 32-bit sizes) and the bytes, row-major.
#pragma once

#include "core/view.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spikefloss {

struct IdxArray {
    std::string path;  // of the file it was read from
    std::vector<Index> shape;
    std::vector<std::uint8_t> data;  // [product of shape]
};

// Reads folder/name, or folder/name.gz if the former does not exist. The array must have `dimensions` dimensions.
// Throws Error(Exit::bad_file) for a missing folder or file, a wrong header, and content whose length does not match
// the header.
IdxArray read_idx(const std::string& folder, const std::string& name, int dimensions);

// The digest (core/digest.hpp) of shape and data. `before`: the digest of the arrays before this one.
std::uint64_t digest_of(const IdxArray& array, std::uint64_t before);

// What to do about missing or bad files.
extern const char* const idx_suggestion;

}  // namespace spikefloss
