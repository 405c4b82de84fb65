// Eight floats at a time, for the inner loops that the compiler does not vectorise well by itself. With AVX2 and FMA they
// are one register; otherwise the compiler's own vector type, which any processor can run.
#pragma once

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

namespace spikefloss {

inline constexpr long lane_size = 8;

#if defined(__AVX2__) && defined(__FMA__)

using Lane = __m256;
inline Lane load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Lane v) { _mm256_storeu_ps(p, v); }
inline Lane repeat(float x) { return _mm256_set1_ps(x); }
inline Lane zero_lane() { return _mm256_setzero_ps(); }
inline Lane add(Lane a, Lane b) { return _mm256_add_ps(a, b); }
inline Lane multiply_add(Lane a, Lane b, Lane c) { return _mm256_fmadd_ps(a, b, c); }

#else

typedef float Lane __attribute__((vector_size(32)));
typedef float UnalignedLane __attribute__((vector_size(32), aligned(4), may_alias));
inline Lane load(const float* p) { return *reinterpret_cast<const UnalignedLane*>(p); }
inline void store(float* p, Lane v) { *reinterpret_cast<UnalignedLane*>(p) = v; }
inline Lane repeat(float x) { return Lane{x, x, x, x, x, x, x, x}; }
inline Lane zero_lane() { return Lane{}; }
inline Lane add(Lane a, Lane b) { return a + b; }
inline Lane multiply_add(Lane a, Lane b, Lane c) { return a * b + c; }

#endif

}  // namespace spikefloss
