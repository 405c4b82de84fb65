// Non-owning views of backend memory: a pointer and a shape. Arrays are row-major; the last index is contiguous.
#pragma once

#include "core/choices.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace spikefloss {

using Index = std::int64_t;

enum class Scalar { float32, float64, int64 };

inline std::size_t size_of(Scalar type) { return type == Scalar::float32 ? 4 : 8; }

// A [rows, cols] matrix of sums: float or double.
struct SumMatrix {
    void* data;
    Scalar type;
    Index rows, cols, stride;
    bool operator==(const SumMatrix&) const = default;
};

// A [rows, cols] matrix whose rows start `stride` elements apart.
template <class T>
struct Matrix {
    T* data;
    Index rows, cols, stride;

    Matrix(T* data_, Index rows_, Index cols_) : Matrix(data_, rows_, cols_, cols_) {}
    Matrix(T* data_, Index rows_, Index cols_, Index stride_)
        : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
    // A matrix converts to a matrix of constants.
    template <class U>
        requires std::is_same_v<const U, T>
    Matrix(const Matrix<U>& m) : Matrix(m.data, m.rows, m.cols, m.stride) {}
    // Finished sums are floats.
    operator SumMatrix() const
        requires std::is_same_v<T, float>
    {
        return {data, Scalar::float32, rows, cols, stride};
    }
};

inline Scalar scalar_of(Sums sums) { return sums == Sums::float32 ? Scalar::float32 : Scalar::float64; }

}  // namespace spikefloss
