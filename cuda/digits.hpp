// Exact products on the tensor cores by integers. A row x of a matrix shares a power of two, 2^e, which is larger than
// each of its elements. An element is then rounded to an integer q of bits_of(count) bits, with a sign, and written in
// signed digits of 8 bits:
//
//   x[j] = 2^(e - bits) q[j],    q[j] = sum over a < count of 256^(count-1-a) d[a][j],    -128 <= d <= 127
//
// Products of digits are summed as 32-bit integers. These sums are exact, so they do not depend on their order. Spikes
// are 0 or 1, and so W s = 2^(e - bits) sum of 256^(count-1-a) (d[a] s) has one rounding, at the end. In W' g both
// factors have digits. The terms of digits a and c with a + c >= count are left out.
//
// Precision fp32 keeps four digits: an element is off by at most 2^-31 of 2^e, and W' g by about 2^-27 of the largest
// product. tf32 keeps three, bf16 two.
#pragma once

#include "core/view.hpp"
#include "neuron/host_device.hpp"

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace spikefloss {

inline int digits_of(Precision precision) {
    return precision == Precision::fp32 ? 4 : precision == Precision::tf32 ? 3 : 2;
}

// The bits of q. The first digit is at most 64, so that no rounding needs one more.
SPIKEFLOSS_HD constexpr int bits_of(int count) { return 8 * count - 2; }

// Sides of the matrices of digits are multiples of 16, as the integer products of cuBLAS want.
SPIKEFLOSS_HD constexpr Index digit_stride(Index n) { return (n + 15) / 16 * 16; }

// magnitude[row] = the largest magnitude of the row, as the bits of a float; those of infinity or NaN for a row that is
// not finite. With `column`, magnitudes of the columns, element j of a row is multiplied by 2^e of column j first.
void row_magnitudes(cudaStream_t stream, Matrix<const float> x, const std::uint32_t* column, std::uint32_t* magnitude);

struct DigitRows {
    const std::uint32_t* magnitude;  // of the rows
    const std::uint32_t* column;     // as in row_magnitudes; null: none
};

// digits [count, rows, cols], or [count, cols, rows] if they are turned; both sides are rounded up by digit_stride, and
// the digits beyond x are 0.
void split_digits(cudaStream_t stream, Matrix<const float> x, const DigitRows& scales, bool turned, int count,
                  std::int8_t* digits);

// sums [n, m] = b [n, inner] a [m, inner]', row-major.
void digit_product(cublasHandle_t blas, Index m, Index n, Index inner, const std::int8_t* a, const std::int8_t* b,
                   std::int32_t* sums);

}  // namespace spikefloss
