// Common parts of reading and writing HDF5: handles that close themselves, types, and the reason for a failure.
#pragma once

#include "core/view.hpp"

#include <hdf5.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

// Owns an HDF5 identifier; false if the call that made it failed.
class Hdf5Handle {
public:
    Hdf5Handle() = default;
    Hdf5Handle(hid_t id, herr_t (*close)(hid_t)) : id_(id), close_(close) {}
    ~Hdf5Handle() { reset(); }
    Hdf5Handle(Hdf5Handle&& other) noexcept : id_(other.release()), close_(other.close_) {}
    Hdf5Handle& operator=(Hdf5Handle&& other) noexcept {
        std::swap(id_, other.id_);
        std::swap(close_, other.close_);
        return *this;
    }
    operator hid_t() const { return id_; }
    explicit operator bool() const { return id_ >= 0; }
    // Closes now; false if the library fails.
    bool reset() {
        const hid_t id = release();
        return id < 0 || close_(id) >= 0;
    }
    // Releases the identifier without closing it.
    hid_t release() { return std::exchange(id_, hid_t(-1)); }

private:
    hid_t id_ = -1;
    herr_t (*close_)(hid_t) = nullptr;
};

// Held while a thread uses the library, wherever two threads may: it is not built for threads.
std::recursive_mutex& hdf5_mutex();

// Stops HDF5 from printing its error stack: failures are reported as Error. A second call has no cost.
void silence_hdf5();

// The innermost reason of the last failure, as the library words it, or "".
std::string hdf5_reason();

// The type of T in memory.
template <class T>
hid_t hdf5_native();
template <>
hid_t hdf5_native<float>();
template <>
hid_t hdf5_native<double>();
template <>
hid_t hdf5_native<std::int32_t>();
template <>
hid_t hdf5_native<std::int64_t>();
template <>
hid_t hdf5_native<std::uint8_t>();

// "[64, 32]"
std::string shape_text(const std::vector<Index>& shape);

// A dataspace of these dimensions (none: a scalar), with [offset, offset + count) selected when given.
Hdf5Handle hdf5_space(const std::vector<Index>& dims);
Hdf5Handle hdf5_space(const std::vector<Index>& dims, const std::vector<Index>& offset,
                      const std::vector<Index>& count);

}  // namespace spikefloss
