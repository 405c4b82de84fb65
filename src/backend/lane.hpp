// Eight floats or four doubles at a time, for the inner loops that the compiler does not vectorise well by itself. With
// AVX2 and FMA they are one register, on Arm two registers of NEON. Both round alike: products are fused with their
// sums. Otherwise they are the compiler's own vector type, which any processor can run, and products are rounded before
// they are added. Sums over lanes have the same order everywhere. A Tile is sixteen floats: two lanes, or one register
// of AVX-512.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace spikefloss {

inline constexpr long lane_size = 8;       // floats
inline constexpr long wide_lane_size = 4;  // doubles
inline constexpr long tile = 2 * lane_size;

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

#elif defined(__aarch64__)

struct Lane {
    float32x4_t low, high;
};
inline Lane load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
inline void store(float* p, Lane v) { vst1q_f32(p, v.low), vst1q_f32(p + 4, v.high); }
inline Lane repeat(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Lane zero_lane() { return repeat(0.0f); }
inline Lane add(Lane a, Lane b) { return {vaddq_f32(a.low, b.low), vaddq_f32(a.high, b.high)}; }
inline Lane multiply_add(Lane a, Lane b, Lane c) {
    return {vfmaq_f32(c.low, a.low, b.low), vfmaq_f32(c.high, a.high, b.high)};
}
// Bit l: lane l of the masks is set.
inline unsigned bits(uint32x4_t low, uint32x4_t high) {
    constexpr std::uint32_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    return vaddvq_u32(vorrq_u32(vandq_u32(low, vld1q_u32(weights)), vandq_u32(high, vld1q_u32(weights + 4))));
}
inline unsigned nonzero(Lane a) { return bits(vmvnq_u32(vceqzq_f32(a.low)), vmvnq_u32(vceqzq_f32(a.high))); }
inline unsigned greater(Lane a, Lane b) { return bits(vcgtq_f32(a.low, b.low), vcgtq_f32(a.high, b.high)); }
inline Lane picked(Lane a, const std::uint8_t* places) {
    constexpr std::uint8_t four_times[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    constexpr std::uint8_t next[16] = {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3};
    const uint8x16_t first = vld1q_u8(four_times), eight = vcombine_u8(vld1_u8(places), vdup_n_u8(0));
    const uint8x16x2_t bytes{{vreinterpretq_u8_f32(a.low), vreinterpretq_u8_f32(a.high)}};
    const auto half = [&](uint8x16_t which) {
        const uint8x16_t place = vqtbl1q_u8(eight, which);
        return vreinterpretq_f32_u8(vqtbl2q_u8(bytes, vaddq_u8(vshlq_n_u8(place, 2), vld1q_u8(next))));
    };
    return {half(first), half(vaddq_u8(first, vdupq_n_u8(4)))};
}
inline void store_sums(std::uint16_t first, const std::uint8_t* places, std::uint16_t* to) {
    vst1q_u16(to, vaddq_u16(vdupq_n_u16(first), vmovl_u8(vld1_u8(places))));
}

struct WideLane {
    float64x2_t low, high;
};
inline WideLane load(const double* p) { return {vld1q_f64(p), vld1q_f64(p + 2)}; }
inline WideLane wide(float32x4_t v) { return {vcvt_f64_f32(vget_low_f32(v)), vcvt_high_f64_f32(v)}; }
inline WideLane load_wide(const float* p) { return wide(vld1q_f32(p)); }
inline void store(double* p, WideLane v) { vst1q_f64(p, v.low), vst1q_f64(p + 2, v.high); }
inline void store(float* p, WideLane v) { vst1q_f32(p, vcvt_high_f32_f64(vcvt_f32_f64(v.low), v.high)); }
inline WideLane repeat(double x) { return {vdupq_n_f64(x), vdupq_n_f64(x)}; }
inline WideLane zero_wide_lane() { return repeat(0.0); }
inline WideLane add(WideLane a, WideLane b) { return {vaddq_f64(a.low, b.low), vaddq_f64(a.high, b.high)}; }
inline WideLane multiply(WideLane a, WideLane b) { return {vmulq_f64(a.low, b.low), vmulq_f64(a.high, b.high)}; }
inline WideLane multiply_add(WideLane a, WideLane b, WideLane c) {
    return {vfmaq_f64(c.low, a.low, b.low), vfmaq_f64(c.high, a.high, b.high)};
}
inline WideLane subtract_product(WideLane a, WideLane b, WideLane c) {
    return {vfmsq_f64(c.low, a.low, b.low), vfmsq_f64(c.high, a.high, b.high)};
}
inline WideLane sums(WideLane a, WideLane b, WideLane c, WideLane d) {
    const auto sum = [](WideLane e, WideLane f) {
        return vaddq_f64(vpaddq_f64(e.low, f.low), vpaddq_f64(e.high, f.high));
    };
    return {sum(a, b), sum(c, d)};
}
// {sum of a, sum of b, sum of c, sum of d}
inline float32x4_t sums_of_four(Lane a, Lane b, Lane c, Lane d) {
    return vaddq_f32(vpaddq_f32(vpaddq_f32(a.low, b.low), vpaddq_f32(c.low, d.low)),
                     vpaddq_f32(vpaddq_f32(a.high, b.high), vpaddq_f32(c.high, d.high)));
}
inline Lane sums(const Lane* a) { return {sums_of_four(a[0], a[1], a[2], a[3]), sums_of_four(a[4], a[5], a[6], a[7])}; }
inline WideLane sums(Lane a, Lane b, Lane c, Lane d) { return wide(sums_of_four(a, b, c, d)); }
inline void transpose(Lane* a) {
    // Lane c of v[r] becomes lane r of v[c].
    const auto turn = [](float32x4_t* v) {
        const float32x4x2_t even = vtrnq_f32(v[0], v[1]), odd = vtrnq_f32(v[2], v[3]);
        for (int i = 0; i < 2; ++i) {
            v[i] = vcombine_f32(vget_low_f32(even.val[i]), vget_low_f32(odd.val[i]));
            v[i + 2] = vcombine_f32(vget_high_f32(even.val[i]), vget_high_f32(odd.val[i]));
        }
    };
    float32x4_t quarters[2][2][4];  // [rows, columns]
    for (int r = 0; r < 8; ++r) quarters[r / 4][0][r % 4] = a[r].low, quarters[r / 4][1][r % 4] = a[r].high;
    for (auto& rows : quarters)
        for (auto& quarter : rows) turn(quarter);
    for (int c = 0; c < 8; ++c) a[c] = {quarters[0][c / 4][c % 4], quarters[1][c / 4][c % 4]};
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

// Keeps v, which was loaded, in a register. Otherwise GCC reads it again from memory for each of its few products.
#if defined(__AVX2__) && defined(__FMA__)
inline void keep(Lane& v) { asm("" : "+x"(v)); }
#elif defined(__aarch64__)
inline void keep(Lane& v) { asm("" : "+w"(v.low), "+w"(v.high)); }
#else
inline void keep(Lane&) {}
#endif

// The sums of an inner loop stay in registers: tile_rows x tile_columns tiles of a product, or panel_tiles tiles of a
// row.
#if defined(__AVX512F__)

using Tile = __m512;
inline Tile load_tile(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, Tile v) { _mm512_storeu_ps(p, v); }
inline Tile zero_tile() { return _mm512_setzero_ps(); }
inline Tile add(Tile a, Tile b) { return _mm512_add_ps(a, b); }
inline Tile multiply_add(float a, Tile b, Tile c) { return _mm512_fmadd_ps(_mm512_set1_ps(a), b, c); }
inline void keep(Tile& v) { asm("" : "+v"(v)); }
inline constexpr int tile_rows = 12, tile_columns = 2, panel_tiles = 8;

#else

struct Tile {
    Lane low, high;
};
inline Tile load_tile(const float* p) { return {load(p), load(p + lane_size)}; }
inline void store(float* p, Tile v) { store(p, v.low), store(p + lane_size, v.high); }
inline Tile zero_tile() { return {zero_lane(), zero_lane()}; }
inline Tile add(Tile a, Tile b) { return {add(a.low, b.low), add(a.high, b.high)}; }
inline Tile multiply_add(float a, Tile b, Tile c) {
    const Lane x = repeat(a);
    return {multiply_add(x, b.low, c.low), multiply_add(x, b.high, c.high)};
}
inline void keep(Tile& v) { keep(v.low), keep(v.high); }
inline constexpr int tile_rows = 6, tile_columns = 1, panel_tiles = 4;

#endif

// One element of multiply_add.
#if (defined(__AVX2__) && defined(__FMA__)) || defined(__aarch64__)
inline float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline double multiply_add(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
inline float multiply_add(float a, float b, float c) { return a * b + c; }
inline double multiply_add(double a, double b, double c) { return a * b + c; }
#endif

// add(sum, j) for j = 0 .. count - 1. Sum l takes every j = l (mod `partial`) of whole groups, and sum 0 the rest.
// Their sum is the result. So the order of the sum does not depend on the width of registers.
template <int partial, class T, class Add>
inline T sum_in_lanes(long count, Add&& add) {
    T sums[partial] = {};
    long j = 0;
    for (; j + partial <= count; j += partial)
        for (int l = 0; l < partial; ++l) sums[l] = add(sums[l], j + l);
    for (; j < count; ++j) sums[0] = add(sums[0], j);
    T total{};
    for (const T sum : sums) total += sum;
    return total;
}

// to[c * to_stride + r] = from[r * from_stride + c] for all r < rows and c < cols.
template <class From, class To>
void copy_transposed(const From* from, long from_stride, long rows, long cols, To* to, long to_stride) {
    long blocks = 0;  // the columns that are taken in blocks of 8 x 8
    if constexpr (std::is_same_v<From, float> && std::is_same_v<To, float>) {
        blocks = rows < lane_size ? 0 : cols / lane_size * lane_size;
        for (long c = 0; c < blocks; c += lane_size)
            for (long r = 0; r < rows; r += lane_size) {
                r = std::min(r, rows - lane_size);
                Lane a[lane_size];
                for (long l = 0; l < lane_size; ++l) a[l] = load(from + (r + l) * from_stride + c);
                transpose(a);
                for (long l = 0; l < lane_size; ++l) store(to + (c + l) * to_stride + r, a[l]);
            }
    }
    for (long r = 0; r < rows; ++r)
        for (long c = blocks; c < cols; ++c) to[c * to_stride + r] = static_cast<To>(from[r * from_stride + c]);
}

}  // namespace spikefloss
