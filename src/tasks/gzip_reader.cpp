#include "tasks/gzip_reader.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"

#include <zlib.h>

#include <algorithm>
#include <filesystem>

namespace spikefloss {

GzipReader::GzipReader(std::string path, std::string suggestion)
    : path_(std::move(path)), suggestion_(std::move(suggestion)), file_(nullptr, gzclose) {
    std::error_code ignored;
    if (std::filesystem::is_directory(path_, ignored)) fail("expected a file, found a folder");
    require_regular_file(path_);
    file_.reset(gzopen(path_.c_str(), "rb"));
    if (!file_) fail("cannot be opened");
    gzbuffer(file_.get(), 1 << 18);
}

void GzipReader::fail(const std::string& problem) const {
    throw Error(Exit::bad_file, path_ + ": " + problem, suggestion_);
}

Index GzipReader::read(void* data, Index count) {
    constexpr Index piece = 1 << 22;
    Index done = 0;
    while (done < count) {
        const int got =
            gzread(file_.get(), static_cast<char*>(data) + done, static_cast<unsigned>(std::min(count - done, piece)));
        int code = Z_OK;
        if (got < 0) fail(std::string("expected readable data, found an error: ") + gzerror(file_.get(), &code));
        if (got == 0) break;
        done += got;
    }
    return done;
}

void GzipReader::append(std::vector<std::uint8_t>& data, Index count) {
    constexpr Index piece = 1 << 22;
    while (count > 0) {
        const std::size_t before = data.size();
        const Index wanted = std::min(count, piece);
        data.resize(before + static_cast<std::size_t>(wanted));
        const Index got = read(data.data() + before, wanted);
        data.resize(before + static_cast<std::size_t>(got));
        if (got < wanted) return;
        count -= got;
    }
}

bool GzipReader::at_end() {
    std::uint8_t byte;
    if (read(&byte, 1) > 0) return false;
    int code = Z_OK;
    const std::string text = gzerror(file_.get(), &code);
    if (code == Z_BUF_ERROR) fail("expected whole gzip data, found that it breaks off: " + text);
    return true;
}

}  // namespace spikefloss
