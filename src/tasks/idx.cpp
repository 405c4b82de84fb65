// Reads IDX files by gzread of zlib, which also reads files that are not compressed. The header is not trusted: memory
// grows with the data that are there, not with the sizes in the header.
#include "tasks/idx.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
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

class Reader {
public:
    explicit Reader(const std::string& path) : path_(checked(path)), file_(gzopen(path.c_str(), "rb"), gzclose) {
        if (!file_) fail(path_, "cannot be opened");
        gzbuffer(file_.get(), 1 << 18);
    }

    // Appends up to `count` bytes to data; fewer at the end of the file, or where compressed data breaks off.
    void append(std::vector<std::uint8_t>& data, Index count) {
        constexpr Index piece = 1 << 22;
        while (count > 0) {
            const std::size_t before = data.size();
            const Index wanted = std::min(count, piece);
            data.resize(before + static_cast<std::size_t>(wanted));
            const Index got = read(data.data() + before, wanted);
            data.resize(before + static_cast<std::size_t>(got));
            if (got == 0) return;
            count -= got;
        }
    }

    // True at the end of the file. For a compressed file this also compares its checksum.
    bool at_end() {
        std::uint8_t byte;
        if (read(&byte, 1) > 0) return false;
        int code = Z_OK;
        const std::string text = gzerror(file_.get(), &code);
        if (code == Z_BUF_ERROR) fail(path_, "expected whole gzip data, found that it breaks off: " + text);
        return true;
    }

private:
    static const std::string& checked(const std::string& path) {
        std::error_code ignored;
        if (std::filesystem::is_directory(path, ignored)) fail(path, "expected an IDX file, found a folder");
        require_regular_file(path);
        return path;
    }
    Index read(std::uint8_t* data, Index count) {
        const int got = gzread(file_.get(), data, static_cast<unsigned>(count));
        int code = Z_OK;
        if (got < 0) fail(path_, std::string("expected readable data, found an error: ") + gzerror(file_.get(), &code));
        return got;
    }

    std::string path_;
    std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

std::uint32_t big_endian(const std::uint8_t* p) {
    return std::uint32_t{p[0]} << 24 | std::uint32_t{p[1]} << 16 | std::uint32_t{p[2]} << 8 | p[3];
}

}  // namespace

IdxArray read_idx(const std::string& folder, const std::string& name, int dimensions) {
    IdxArray result;
    result.path = find(folder, name);
    Reader reader(result.path);

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
    std::uint64_t digest = before;
    const auto add = [&](std::uint64_t word) {
        digest = (digest ^ word) * 0x100000001B3u;
        digest ^= digest >> 29;  // a product alone never moves high bits down
    };
    for (const Index size : array.shape) add(static_cast<std::uint64_t>(size));
    for (std::size_t at = 0; at < array.data.size(); at += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, array.data.data() + at, std::min<std::size_t>(8, array.data.size() - at));
        add(word);
    }
    return digest;
}

}  // namespace spikefloss
