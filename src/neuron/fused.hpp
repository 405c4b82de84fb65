// The fused product and sum of floats, a b + c with one rounding, on x86-64 processors without an instruction for it.
// There the library of C changes the rounding mode twice a call, and loops over it are not vectorised. Elsewhere this
// file leaves fmaf as it is.
#pragma once

#include <bit>
#include <cstdint>

#ifndef __CUDACC__

namespace spikefloss {

// The product of two floats is exact in double. Its sum with c is rounded to odd: if it is not exact, its last bit is
// set. Then the second rounding, to float, is that of the exact sum (Boldo and Melquiond, IEEE Trans. Comput. 57,
// 2008).
inline __attribute__((always_inline)) float fused_in_double(float a, float b, float c) {
    const double product = static_cast<double>(a) * b, sum = product + c;
    const double added = sum - product;
    const double error = (product - (sum - added)) + (c - added);  // of the sum; NaN if that is not finite
    const auto bits = std::bit_cast<std::int64_t>(sum);
    const bool inexact = error < 0.0 || error > 0.0;
    const std::int64_t towards = (error > 0.0) == (sum > 0.0) ? 1 : -1;
    const bool even = (bits & 1) == 0;
    return static_cast<float>(std::bit_cast<double>(inexact && even ? bits + towards : bits));
}

#if defined(__x86_64__) && !defined(__FMA__)
inline __attribute__((always_inline)) float fmaf(float a, float b, float c) { return fused_in_double(a, b, c); }
#endif

}  // namespace spikefloss

#endif
