// Datasets whose elements are lists of numbers of any length ("vlen"), and files that are gzip-compressed as a whole.
#include "core/error.hpp"
#include "io/hdf5_file.hpp"
#include "tasks/gzip_reader.hpp"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace spikefloss {

bool is_gzip(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    char magic[2] = {};
    return file.read(magic, 2) && magic[0] == '\x1f' && magic[1] == '\x8b';
}

TemporaryFile::TemporaryFile() {
    std::error_code ignored;
    name_ = (std::filesystem::temp_directory_path(ignored) / "spikefloss_XXXXXX").string();
    descriptor_ = mkstemp(name_.data());
    require(descriptor_ >= 0, Exit::storage, fmt::format("cannot make the file {}: {}", name_, std::strerror(errno)),
            "set TMPDIR to a folder that you may write to");
}

TemporaryFile::~TemporaryFile() {
    close(descriptor_);
    unlink(name_.c_str());
}

void unpack_gzip(const std::string& path, const TemporaryFile& to, const std::function<void()>& progress) {
    GzipReader reader(path, "copy the file again; gunzip -t tests it");
    std::vector<char> piece(std::size_t{1} << 22);
    while (const Index got = reader.read(piece.data(), static_cast<Index>(piece.size()))) {
        const char* from = piece.data();
        for (Index left = got; left > 0;) {
            const ssize_t written = write(to.descriptor(), from, static_cast<std::size_t>(left));
            if (written < 0 && errno == EINTR) continue;
            require(written > 0, Exit::storage,
                    fmt::format("{}: cannot unpack it to {}: {}", path, to.name(), std::strerror(errno)),
                    "set TMPDIR to a folder with more space, or unpack it with gunzip and name the unpacked file");
            from += written, left -= written;
        }
        if (progress) progress();
    }
    reader.at_end();
}

namespace {

// The type of the elements of the lists, or none if the dataset holds no lists.
Hdf5Handle list_type(hid_t dataset) {
    const Hdf5Handle type(H5Dget_type(dataset), H5Tclose);
    if (H5Tget_class(type) != H5T_VLEN) return {};
    return {H5Tget_super(type), H5Tclose};
}

// IEEE 754 binary16, in the byte order of this machine: the type of the times of the Spiking Heidelberg Digits.
Hdf5Handle half_type() {
    Hdf5Handle half(H5Tcopy(H5T_NATIVE_FLOAT), H5Tclose);
    H5Tset_fields(half, 15, 10, 5, 0, 10);
    H5Tset_size(half, 2);
    H5Tset_ebias(half, 15);
    return half;
}

double value_of_half(std::uint16_t bits) {
    const std::uint64_t exponent = bits >> 10 & 31, fraction = bits & 1023;
    double size = static_cast<double>(fraction) * 0x1p-24;
    if (exponent == 31)
        size = fraction ? NAN : HUGE_VAL;
    else if (exponent != 0)
        size = std::bit_cast<double>((exponent + 1023 - 15) << 52 | fraction << 42);
    return bits >> 15 ? -size : size;
}

}  // namespace

bool InputFile::holds_lists(const std::string& name) const {
    const Hdf5Handle type = list_type(open_dataset(name));
    if (!type) return false;
    const H5T_class_t kind = H5Tget_class(type);
    return kind == H5T_FLOAT || kind == H5T_INTEGER;
}

bool InputFile::holds_whole_numbers(const std::string& name) const {
    const Hdf5Handle dataset = open_dataset(name);
    const Hdf5Handle list = list_type(dataset), type(H5Dget_type(dataset), H5Tclose);
    return H5Tget_class(list ? list : type) == H5T_INTEGER;
}

void InputFile::read_lists(const std::string& name, Index first, Index count,
                           std::vector<std::vector<double>>& lists) const {
    const Hdf5Handle dataset = open_dataset(name);
    // HDF5 would take 0.1 us to convert one number of 16 bits.
    const Hdf5Handle half = half_type();
    const bool halves = H5Tequal(list_type(dataset), half) > 0;
    const Hdf5Handle memory_type(H5Tvlen_create(halves ? static_cast<hid_t>(half) : H5T_NATIVE_DOUBLE), H5Tclose);
    const Hdf5Handle memory = hdf5_space({count}), selection = hdf5_space(shape(name), {first}, {count});
    std::vector<hvl_t> found(static_cast<std::size_t>(count), hvl_t{0, nullptr});
    const bool read = H5Dread(dataset, memory_type, memory, selection, H5P_DEFAULT, found.data()) >= 0;
    const std::string reason = read ? "" : hdf5_reason();
    lists.resize(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < found.size(); ++i) {
        const std::size_t size = read ? found[i].len : 0;
        if (halves) {
            const auto* values = static_cast<const std::uint16_t*>(found[i].p);
            lists[i].resize(size);
            std::transform(values, values + size, lists[i].begin(), value_of_half);
        } else {
            const auto* values = static_cast<const double*>(found[i].p);
            lists[i].assign(values, values + size);
        }
    }
    H5Dvlen_reclaim(memory_type, memory, H5P_DEFAULT, found.data());
    if (!read) fail(fmt::format("{} cannot be read: {}", name, reason), "copy or write the file again");
}

}  // namespace spikefloss
