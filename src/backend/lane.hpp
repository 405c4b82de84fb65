// Eight floats or four doubles at a time, for the inner loops that the compiler does not vectorise well by itself. With
// AVX2 and FMA they are one register; otherwise they are the compiler's own vector type, which any processor can run.
#pragma once

#include <cstdint>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

namespace spikefloss {

inline constexpr long lane_size = 8;       // floats
inline constexpr long wide_lane_size = 4;  // doubles

#if defined(__AVX2__) && defined(__FMA__)

using Lane = __m256;
inline Lane load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, Lane v) { _mm256_storeu_ps(p, v); }
inline Lane repeat(float x) { return _mm256_set1_ps(x); }
inline Lane zero_lane() { return _mm256_setzero_ps(); }
inline Lane add(Lane a, Lane b) { return _mm256_add_ps(a, b); }
inline Lane multiply_add(Lane a, Lane b, Lane c) { return _mm256_fmadd_ps(a, b, c); }
// Bit l: lane l is not zero.
inline unsigned nonzero(Lane a) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
}
// Bit l: lane l of a is greater than that of b.
inline unsigned greater(Lane a, Lane b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
}
// Lane places[l] of a becomes lane l.
inline Lane picked(Lane a, const std::uint8_t* places) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(places));
    return _mm256_permutevar8x32_ps(a, _mm256_cvtepu8_epi32(eight));
}
// to[l] = first + places[l], eight of them.
inline void store_sums(std::uint16_t first, const std::uint8_t* places, std::uint16_t* to) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(places));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                     _mm_add_epi16(_mm_set1_epi16(static_cast<short>(first)), _mm_cvtepu8_epi16(eight)));
}

using WideLane = __m256d;
inline WideLane load(const double* p) { return _mm256_loadu_pd(p); }
inline WideLane load_wide(const float* p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
inline void store(double* p, WideLane v) { _mm256_storeu_pd(p, v); }
inline void store(float* p, WideLane v) { _mm_storeu_ps(p, _mm256_cvtpd_ps(v)); }
inline WideLane repeat(double x) { return _mm256_set1_pd(x); }
inline WideLane zero_wide_lane() { return _mm256_setzero_pd(); }
inline WideLane add(WideLane a, WideLane b) { return _mm256_add_pd(a, b); }
inline WideLane multiply(WideLane a, WideLane b) { return _mm256_mul_pd(a, b); }
inline WideLane multiply_add(WideLane a, WideLane b, WideLane c) { return _mm256_fmadd_pd(a, b, c); }
// c - a b
inline WideLane subtract_product(WideLane a, WideLane b, WideLane c) { return _mm256_fnmadd_pd(a, b, c); }
// {sum of a, sum of b, sum of c, sum of d}
inline WideLane sums(WideLane a, WideLane b, WideLane c, WideLane d) {
    const WideLane ab = _mm256_hadd_pd(a, b), cd = _mm256_hadd_pd(c, d);  // a01 b01 a23 b23, c01 d01 c23 d23
    return _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x20), _mm256_permute2f128_pd(ab, cd, 0x31));
}
// {sum of a[0], ..., sum of a[7]}
inline Lane sums(const Lane* a) {
    const Lane low = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(a[2], a[3]));
    const Lane high = _mm256_hadd_ps(_mm256_hadd_ps(a[4], a[5]), _mm256_hadd_ps(a[6], a[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}
// Lane c of a[r] becomes lane r of a[c].
inline void transpose(Lane* a) {
    Lane pairs[8], fours[8];
    for (int r = 0; r < 8; r += 2) {
        pairs[r] = _mm256_unpacklo_ps(a[r], a[r + 1]);
        pairs[r + 1] = _mm256_unpackhi_ps(a[r], a[r + 1]);
    }
    for (int r = 0; r < 8; r += 4)
        for (int half = 0; half < 2; ++half) {
            fours[r + 2 * half] = _mm256_shuffle_ps(pairs[r + half], pairs[r + 2 + half], 0x44);
            fours[r + 2 * half + 1] = _mm256_shuffle_ps(pairs[r + half], pairs[r + 2 + half], 0xee);
        }
    for (int r = 0; r < 4; ++r) {
        a[r] = _mm256_permute2f128_ps(fours[r], fours[r + 4], 0x20);
        a[r + 4] = _mm256_permute2f128_ps(fours[r], fours[r + 4], 0x31);
    }
}
inline WideLane sums(Lane a, Lane b, Lane c, Lane d) {
    const Lane halves = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));  // of a b c d, twice
    return _mm256_cvtps_pd(_mm_add_ps(_mm256_castps256_ps128(halves), _mm256_extractf128_ps(halves, 1)));
}

#else

typedef float Lane __attribute__((vector_size(32)));
typedef float UnalignedLane __attribute__((vector_size(32), aligned(4), may_alias));
inline Lane load(const float* p) { return *reinterpret_cast<const UnalignedLane*>(p); }
inline void store(float* p, Lane v) { *reinterpret_cast<UnalignedLane*>(p) = v; }
inline Lane repeat(float x) { return Lane{x, x, x, x, x, x, x, x}; }
inline Lane zero_lane() { return Lane{}; }
inline Lane add(Lane a, Lane b) { return a + b; }
inline Lane multiply_add(Lane a, Lane b, Lane c) { return a * b + c; }
inline unsigned nonzero(Lane a) {
    unsigned bits = 0;
    for (int l = 0; l < lane_size; ++l) bits |= static_cast<unsigned>(a[l] != 0.0f) << l;
    return bits;
}
inline unsigned greater(Lane a, Lane b) {
    unsigned bits = 0;
    for (int l = 0; l < lane_size; ++l) bits |= static_cast<unsigned>(a[l] > b[l]) << l;
    return bits;
}
inline Lane picked(Lane a, const std::uint8_t* places) {
    Lane to;
    for (int l = 0; l < lane_size; ++l) to[l] = a[places[l]];
    return to;
}
inline void store_sums(std::uint16_t first, const std::uint8_t* places, std::uint16_t* to) {
    for (int l = 0; l < lane_size; ++l) to[l] = static_cast<std::uint16_t>(first + places[l]);
}

typedef double WideLane __attribute__((vector_size(32)));
typedef double UnalignedWideLane __attribute__((vector_size(32), aligned(8), may_alias));
inline WideLane load(const double* p) { return *reinterpret_cast<const UnalignedWideLane*>(p); }
inline WideLane load_wide(const float* p) { return WideLane{p[0], p[1], p[2], p[3]}; }
inline void store(double* p, WideLane v) { *reinterpret_cast<UnalignedWideLane*>(p) = v; }
inline void store(float* p, WideLane v) {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<float>(v[i]);
}
inline WideLane repeat(double x) { return WideLane{x, x, x, x}; }
inline WideLane zero_wide_lane() { return WideLane{}; }
inline WideLane add(WideLane a, WideLane b) { return a + b; }
inline WideLane multiply(WideLane a, WideLane b) { return a * b; }
inline WideLane multiply_add(WideLane a, WideLane b, WideLane c) { return a * b + c; }
inline WideLane subtract_product(WideLane a, WideLane b, WideLane c) { return c - a * b; }
inline WideLane sums(WideLane a, WideLane b, WideLane c, WideLane d) {
    const auto sum = [](WideLane v) { return (v[0] + v[1]) + (v[2] + v[3]); };
    return WideLane{sum(a), sum(b), sum(c), sum(d)};
}
inline WideLane sums(Lane a, Lane b, Lane c, Lane d) {
    const auto sum = [](Lane v) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); };
    return WideLane{sum(a), sum(b), sum(c), sum(d)};
}
inline void transpose(Lane* a) {
    for (int r = 0; r < lane_size; ++r)
        for (int c = r + 1; c < lane_size; ++c) {
            const float lower = a[c][r];
            a[c][r] = a[r][c];
            a[r][c] = lower;
        }
}
inline Lane sums(const Lane* a) {
    Lane all;
    for (int l = 0; l < lane_size; ++l)
        all[l] = ((a[l][0] + a[l][1]) + (a[l][2] + a[l][3])) + ((a[l][4] + a[l][5]) + (a[l][6] + a[l][7]));
    return all;
}

#endif

// One element of multiply_add.
#if defined(__AVX2__) && defined(__FMA__)
inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
inline float multiply_add(float a, float b, float c) { return a * b + c; }
inline double multiply_add(double a, double b, double c) { return a * b + c; }
#endif

}  // namespace spikefloss
