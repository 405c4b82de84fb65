// Parts of one allocation, for the scratch of an operation or a pass.
#pragma once

#include "core/view.hpp"

#include <cstdint>

namespace spikefloss {

// Hands out parts of one allocation, each at the beginning of a cache line.
class Arena {
public:
    template <class T>
    T* take(Index count) {
        T* at = reinterpret_cast<T*>(next_);  // NOLINT(performance-no-int-to-ptr): it is rounded up
        next_ += static_cast<std::uintptr_t>(bytes<T>(count));
        return at;
    }
    template <class T>
    static Index bytes(Index count) {
        return (count * static_cast<Index>(sizeof(T)) + 63) / 64 * 64;
    }
    explicit Arena(void* begin) : next_((reinterpret_cast<std::uintptr_t>(begin) + 63) / 64 * 64) {}

private:
    std::uintptr_t next_;
};

}  // namespace spikefloss
