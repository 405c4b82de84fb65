// Owning array in backend memory, freed with its scope.
#pragma once

#include "backend/backend.hpp"

#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace spikefloss {

// For arrays that are written before they are read.
struct Unset {};

template <class T>
class Buffer {
public:
    Buffer() = default;
    // `count` elements, all zero bits.
    Buffer(Memory& memory, Index count) : Buffer(memory, count, Unset()) { zero(); }
    Buffer(Memory& memory, Index count, Unset) : memory_(&memory), count_(count) {
        data_ = static_cast<T*>(memory.allocate(bytes()));
    }
    Buffer(Memory& memory, const std::vector<T>& host) : Buffer(memory, static_cast<Index>(host.size())) {
        memory.copy_in(data_, host.data(), bytes());
    }
    ~Buffer() {
        if (data_) memory_->deallocate(data_);
    }
    Buffer(Buffer&& other) noexcept
        : memory_(other.memory_), data_(std::exchange(other.data_, nullptr)), count_(std::exchange(other.count_, 0)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(memory_, other.memory_);
        std::swap(data_, other.data_);
        std::swap(count_, other.count_);
        return *this;
    }

    T* data() { return data_; }
    const T* data() const { return data_; }
    Index size() const { return count_; }
    std::size_t bytes() const { return static_cast<std::size_t>(count_) * sizeof(T); }
    explicit operator bool() const { return data_ != nullptr; }

    void zero() { memory_->zero(data_, bytes()); }
    void copy_in(const T* host) {
        if (count_) memory_->copy_in(data_, host, bytes());
    }
    void copy_out(T* host) const {
        if (count_) memory_->copy_out(host, data_, bytes());
    }
    std::vector<T> to_host() const {
        std::vector<T> host(static_cast<std::size_t>(count_));
        copy_out(host.data());
        return host;
    }

private:
    Memory* memory_ = nullptr;
    T* data_ = nullptr;
    Index count_ = 0;
};

// An array of the host, for operations of a backend: the array itself where its memory is the host's, otherwise a copy.
template <class T>
class HostArray {
public:
    HostArray() = default;
    HostArray(Memory& memory, Index count) : in_place_(memory.is_host()), copy_(memory, in_place_ ? 0 : count) {}
    HostArray(Memory& memory, const std::vector<T>& host) : HostArray(memory, static_cast<Index>(host.size())) {
        show(host.data());
    }
    HostArray(Memory&, std::vector<T>&&) = delete;  // it would be gone
    // Shows the elements of `host`, which must stay as they are until the last operation on data() has been called.
    void show(const T* host) {
        if (!in_place_) copy_.copy_in(host);
        data_ = in_place_ ? host : copy_.data();
    }
    const T* data() const { return data_; }

private:
    bool in_place_ = false;
    Buffer<T> copy_;
    const T* data_ = nullptr;
};

// Results that the host takes later, so that work can be queued behind them. On a GPU only get() waits.
template <class T>
class Readback {
public:
    Readback(Memory& memory, Index most) : arrival_(memory.arrival(static_cast<std::size_t>(most) * sizeof(T))) {}
    // Queues the copy of source[count], backend memory, to the host.
    void begin(const T* source, Index count) {
        count_ = static_cast<std::size_t>(count);
        if (count_) arrival_->begin(source, count_ * sizeof(T));
    }
    void begin(const Buffer<T>& source) { begin(source.data(), source.size()); }
    // Waits for the copy. Valid until the next begin().
    std::span<const T> get() {
        return count_ ? std::span(static_cast<const T*>(arrival_->get()), count_) : std::span<const T>();
    }

private:
    std::unique_ptr<Arrival> arrival_;
    std::size_t count_ = 0;
};

// The sum of squares of x[count] (backend memory), copied to the host through `sum`, one double in backend memory.
inline double squares_of(Backend& backend, const float* x, Index count, Buffer<double>& sum) {
    sum.zero();
    const Squares all{x, 1, count, count, sum.data()};
    backend.sum_squares({&all, 1});
    return sum.to_host()[0];
}

// Partial sums in the backend's Sums type, seen as a [rows, cols] matrix.
class SumBuffer {
public:
    SumBuffer() = default;
    SumBuffer(Backend& backend, Index count)
        : type_(scalar_of(backend.sums())),
          count_(count),
          bytes_(backend, count * static_cast<Index>(size_of(type_))) {}

    SumMatrix matrix(Index rows, Index cols, Index offset = 0) {
        return {bytes_.data() + offset * static_cast<Index>(size_of(type_)), type_, rows, cols, cols};
    }
    void* data(Index offset = 0) { return bytes_.data() + offset * static_cast<Index>(size_of(type_)); }
    Scalar type() const { return type_; }
    Index size() const { return count_; }
    void zero() { bytes_.zero(); }

private:
    Scalar type_ = Scalar::float32;
    Index count_ = 0;
    Buffer<unsigned char> bytes_;
};

}  // namespace spikefloss
