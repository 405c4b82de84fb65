// Reads strings as bytes: of fixed length in a row, or as pointers to memory of the library.
#include "io/hdf5_strings.hpp"

#include <fmt/format.h>

#include <cstring>

namespace spikefloss {

std::vector<std::string> read_strings(const InputFile& file, const std::string& name) {
    const std::vector<Index> dims = file.shape(name);  // also refuses links to other files
    const Hdf5Handle dataset(H5Dopen2(file.id(), name.c_str(), H5P_DEFAULT), H5Dclose);
    const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
    if (H5Tget_class(type) != H5T_STRING) file.fail(fmt::format("{} holds no strings", name), "write it as strings");
    const bool any_length = H5Tis_variable_str(type) > 0;
    const std::size_t size = any_length ? sizeof(char*) : H5Tget_size(type);
    const Hdf5Handle memory_type(H5Tcopy(H5T_C_S1), H5Tclose);
    H5Tset_size(memory_type, any_length ? H5T_VARIABLE : size);
    H5Tset_cset(memory_type, H5Tget_cset(type));
    H5Tset_strpad(memory_type, H5T_STR_NULLPAD);
    file.require_room(name, dims, static_cast<Index>(size));
    Index count = 1;
    for (const Index n : dims) count *= n;
    std::vector<char> bytes(static_cast<std::size_t>(count) * size, '\0');
    if (count > 0 && H5Dread(dataset, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, bytes.data()) < 0)
        file.fail(fmt::format("{} cannot be read: {}", name, hdf5_reason()), "copy or write the file again");
    std::vector<std::string> texts;
    for (std::size_t at = 0; at < bytes.size(); at += size) {
        if (any_length) {
            const char* text = nullptr;
            std::memcpy(&text, &bytes[at], size);
            texts.emplace_back(text ? text : "");
        } else {
            const std::string text(&bytes[at], size);
            texts.push_back(text.substr(0, text.find_last_not_of(std::string(" \0", 2)) + 1));
        }
    }
    if (any_length && count > 0) {
        const Hdf5Handle space(H5Dget_space(dataset), H5Sclose);
        H5Dvlen_reclaim(memory_type, space, H5P_DEFAULT, bytes.data());
    }
    return texts;
}

}  // namespace spikefloss
