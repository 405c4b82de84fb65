// A 64-bit digest of bytes: FNV-1a over 64-bit words. It detects accidental differences; it is not a signature.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace spikefloss {

class Digest {
public:
    explicit Digest(std::uint64_t before = 0xCBF29CE484222325u) : value_(before) {}

    void add(std::uint64_t word) {
        value_ = (value_ ^ word) * 0x100000001B3u;
        value_ ^= value_ >> 29;  // a product alone never moves high bits down
    }
    // The last word is filled up with zeros.
    void add(const void* data, std::size_t bytes) {
        for (std::size_t at = 0; at < bytes; at += 8) {
            std::uint64_t word = 0;
            std::memcpy(&word, static_cast<const char*>(data) + at, std::min<std::size_t>(8, bytes - at));
            add(word);
        }
    }
    std::uint64_t value() const { return value_; }

private:
    std::uint64_t value_;
};

}  // namespace spikefloss
