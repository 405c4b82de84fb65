// An HDF5 file made of the bytes of an input, in a folder of this process.
#pragma once

#include "fuzz/fuzz.hpp"
#include "io/file_probe.hpp"

#include <filesystem>
#include <fstream>

namespace spikefloss::fuzz {

// Writes the input. As in the program, a read_or_refuse of it begins with the probe.
inline std::string input_file(const std::uint8_t* data, std::size_t size) {
    static const std::string path = [] {
        std::string pattern = (std::filesystem::temp_directory_path() / "spikefloss_fuzz_XXXXXX").string();
        return std::string(mkdtemp(pattern.data())) + "/input.h5";
    }();
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    return path;
}

inline const ProcessGrid& alone() {
    static const ProcessGrid grid(MPI_COMM_WORLD, {1, 1});
    return grid;
}

}  // namespace spikefloss::fuzz
