// The header is not trusted: memory grows with the data that are there, not with the sizes in the header.
#include "tasks/idx.hpp"

#include "core/digest.hpp"
#include "core/error.hpp"
#include "tasks/gzip_reader.hpp"

#include <cerrno>
#include <filesystem>
#include <functional>
#include <numeric>

namespace spikefloss {

const char* const idx_suggestion =
    "set task.images to a folder with whole IDX files; Debian's package dataset-fashion-mnist installs them in "
    "/usr/share/datasets/fashion-mnist (apt install dataset-fashion-mnist)";

namespace {

constexpr Index max_side = 4096;  // most rows or columns of a picture; more means a damaged header

[[noreturn]] void fail(const std::string& path, const std::string& problem) {
    throw Error(Exit::bad_file, path + ": " + problem, idx_suggestion);
}

[[noreturn]] void not_permitted(const std::string& path) {
    throw Error(Exit::bad_file, path + ": cannot be opened: Permission denied", "check who may read it and its folder");
}

std::string find(const std::string& folder, const std::string& name) {
    namespace fs = std::filesystem;
    std::error_code ignored;
    const bool is_folder = fs::is_directory(folder, ignored);
    if (ignored.value() == EACCES) not_permitted(folder);
    if (!is_folder) fail(folder, "expected a folder with IDX files, found none");
    const std::string plain = (fs::path(folder) / name).string();
    for (const auto& path : {plain, plain + ".gz"}) {
        if (fs::exists(path, ignored)) return path;
        if (ignored.value() == EACCES) not_permitted(path);
    }
    fail(plain, fmt::format("expected this file or {}.gz, found neither", name));
}

std::uint32_t big_endian(const std::uint8_t* p) {
    return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}

}  // namespace

IdxArray read_idx(const std::string& folder, const std::string& name, int dimensions) {
    IdxArray result;
    result.path = find(folder, name);
    GzipReader reader(result.path, idx_suggestion);

    std::vector<std::uint8_t> header;
    const Index header_bytes = 4 + 4 * dimensions;
    reader.append(header, header_bytes);
    if (static_cast<Index>(header.size()) < header_bytes)
        fail(result.path,
             fmt::format("expected a header of {} bytes, found {} bytes in all", header_bytes, header.size()));
    const std::uint32_t magic = 0x800u + static_cast<std::uint32_t>(dimensions), found = big_endian(header.data());
    if (found != magic)
        fail(result.path,
             fmt::format("expected the magic number {:#010x} (unsigned bytes, {} dimension{}), found {:#010x}", magic,
                         dimensions, dimensions == 1 ? "" : "s", found));
    for (int i = 0; i < dimensions; ++i) {
        const Index size = big_endian(&header[4 + 4 * i]);
        if (size == 0 || (i > 0 && size > max_side))
            fail(result.path, fmt::format("expected a size {} of dimension {}, found {}",
                                          i > 0 ? fmt::format("of 1 .. {}", max_side) : "above 0", i + 1, size));
        result.shape.push_back(size);
    }

    const Index bytes = std::accumulate(result.shape.begin(), result.shape.end(), Index{1}, std::multiplies<>());
    reader.append(result.data, bytes);
    if (static_cast<Index>(result.data.size()) < bytes)
        fail(result.path, fmt::format("expected {} bytes after the header ({} items), found {}", bytes, result.shape[0],
                                      result.data.size()));
    if (!reader.at_end())
        fail(result.path,
             fmt::format("expected {} bytes after the header ({} items), found more", bytes, result.shape[0]));
    return result;
}

std::uint64_t digest_of(const IdxArray& array, std::uint64_t before) {
    Digest digest(before);
    for (const Index size : array.shape) digest.add(static_cast<std::uint64_t>(size));
    digest.add(array.data.data(), array.data.size());
    return digest.value();
}

}  // namespace spikefloss
