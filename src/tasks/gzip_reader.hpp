// Reads a file that may be gzip-compressed as a whole, by zlib's gzread.
#pragma once

#include "core/view.hpp"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

struct gzFile_s;

namespace spikefloss {

// Every failure is Error(Exit::bad_file) with the given suggestion.
class GzipReader {
public:
    GzipReader(std::string path, std::string suggestion);

    // Reads up to `count` bytes and returns their number; fewer at the end of the file, or where compressed data breaks
    // off.
    Index read(void* data, Index count);
    // The same, appended to data. Memory grows with the data that are there.
    void append(std::vector<std::uint8_t>& data, Index count);
    // True at the end of the file. For a compressed file this also compares its checksum.
    bool at_end();

private:
    [[noreturn]] void fail(const std::string& problem) const;

    std::string path_, suggestion_;
    std::unique_ptr<gzFile_s, int (*)(gzFile_s*)> file_;
};

}  // namespace spikefloss
