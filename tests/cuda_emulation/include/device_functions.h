// The built-in variables and functions of device code.
#pragma once

#include "emulation.hpp"
#include "vector_types.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;

// ---- barriers and fences ----
inline void __syncthreads(emulation::Place place = emulation::Place::current()) { emulation::block_barrier(place); }
inline int __syncthreads_count(int p, emulation::Place place = emulation::Place::current()) {
    return emulation::block_vote(p, 0, place);
}
inline int __syncthreads_and(int p, emulation::Place place = emulation::Place::current()) {
    return emulation::block_vote(p, 1, place);
}
inline int __syncthreads_or(int p, emulation::Place place = emulation::Place::current()) {
    return emulation::block_vote(p, 2, place);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { emulation::let_others_run(); }

// ---- warps ----
namespace emulation {
template <class T>
T shuffle(WarpCall call, unsigned mask, T value, int argument, int width, Place place) {
    static_assert(sizeof(T) <= 8);
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = warp_call(call, mask, bits, argument, width, place);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
}  // namespace emulation

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, emulation::Place place = emulation::Place::current()) {
    return emulation::shuffle(emulation::WarpCall::shfl, mask, value, lane, width, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 emulation::Place place = emulation::Place::current()) {
    return emulation::shuffle(emulation::WarpCall::shfl_up, mask, value, static_cast<int>(delta), width, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   emulation::Place place = emulation::Place::current()) {
    return emulation::shuffle(emulation::WarpCall::shfl_down, mask, value, static_cast<int>(delta), width, place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  emulation::Place place = emulation::Place::current()) {
    return emulation::shuffle(emulation::WarpCall::shfl_xor, mask, value, lanes, width, place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
    return static_cast<unsigned>(emulation::warp_call(emulation::WarpCall::ballot, mask, predicate != 0, 0, 32, place));
}
inline int __any_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
    return static_cast<int>(emulation::warp_call(emulation::WarpCall::any, mask, predicate != 0, 0, 32, place));
}
inline int __all_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
    return static_cast<int>(emulation::warp_call(emulation::WarpCall::all, mask, predicate != 0, 0, 32, place));
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, emulation::Place place = emulation::Place::current()) {
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return static_cast<unsigned>(emulation::warp_call(emulation::WarpCall::match_any, mask, bits, 0, 32, place));
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu, emulation::Place place = emulation::Place::current()) {
    emulation::warp_call(emulation::WarpCall::syncwarp, mask, 0, 0, 32, place);
}

// ---- atomics: CUDA threads switch only where they wait, so plain accesses are atomic ----
namespace emulation {
// The race detector (races.hpp) must not take an atomic operation for a store.
#ifdef SPIKEFLOSS_TRACED
#define SPIKEFLOSS_UNTRACED __attribute__((no_sanitize_thread, noinline))
void load_past_cache(const void* address, std::size_t bytes);
#else
#define SPIKEFLOSS_UNTRACED
inline void load_past_cache(const void*, std::size_t) {}
#endif
template <class T>
SPIKEFLOSS_UNTRACED T replace(T* address, T value) {
    const T old = *address;
    *address = value;
    return old;
}
}  // namespace emulation
inline float atomicAdd(float* address, float x) { return emulation::replace(address, *address + x); }
inline double atomicAdd(double* address, double x) { return emulation::replace(address, *address + x); }
inline int atomicAdd(int* address, int x) {
    return emulation::replace(address, static_cast<int>(static_cast<unsigned>(*address) + static_cast<unsigned>(x)));
}
inline unsigned atomicAdd(unsigned* address, unsigned x) { return emulation::replace(address, *address + x); }
inline unsigned long long atomicAdd(unsigned long long* address, unsigned long long x) {
    return emulation::replace(address, *address + x);
}
inline int atomicSub(int* address, int x) { return emulation::replace(address, *address - x); }
inline unsigned atomicSub(unsigned* address, unsigned x) { return emulation::replace(address, *address - x); }
template <class T>
T atomicMax(T* address, T x) {
    return emulation::replace(address, *address < x ? x : *address);
}
template <class T>
T atomicMin(T* address, T x) {
    return emulation::replace(address, x < *address ? x : *address);
}
template <class T>
T atomicOr(T* address, T x) {
    return emulation::replace(address, static_cast<T>(*address | x));
}
template <class T>
T atomicAnd(T* address, T x) {
    return emulation::replace(address, static_cast<T>(*address & x));
}
template <class T>
T atomicXor(T* address, T x) {
    return emulation::replace(address, static_cast<T>(*address ^ x));
}
template <class T>
T atomicExch(T* address, T x) {
    return emulation::replace(address, x);
}
template <class T>
T atomicCAS(T* address, T compare, T x) {
    return emulation::replace(address, std::memcmp(address, &compare, sizeof x) == 0 ? x : *address);
}

// ---- loads and stores with a cache hint ----
template <class T>
T __ldg(const T* p) {
    return *p;
}
template <class T>
SPIKEFLOSS_UNTRACED T __ldcg(const T* p) {
    emulation::load_past_cache(p, sizeof(T));
    return *p;
}
template <class T>
T __ldca(const T* p) {
    return *p;
}
template <class T>
T __ldcs(const T* p) {
    return *p;
}
template <class T>
T __ldcv(const T* p) {
    return *p;
}
template <class T>
void __stcg(T* p, T x) {
    *p = x;
}
template <class T>
void __stcs(T* p, T x) {
    *p = x;
}
template <class T>
void __stwt(T* p, T x) {
    *p = x;
}

// ---- bits ----
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((std::uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<unsigned long long>((static_cast<Wide>(a) * b) >> 64);
}
inline unsigned __brev(unsigned x) {
    unsigned y = 0;
    for (int i = 0; i < 32; ++i) y |= ((x >> i) & 1u) << (31 - i);
    return y;
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

// ---- arithmetic ----
using std::isfinite, std::isinf, std::isnan;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __fma_rn(double a, double b, double c) { return std::fma(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return std::sqrt(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }

inline int min(int a, int b) { return a < b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline long min(long a, long b) { return a < b ? a : b; }
inline unsigned long min(unsigned long a, unsigned long b) { return a < b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline unsigned long long min(unsigned long long a, unsigned long long b) { return a < b ? a : b; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline long max(long a, long b) { return a > b ? a : b; }
inline unsigned long max(unsigned long a, unsigned long b) { return a > b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline unsigned long long max(unsigned long long a, unsigned long long b) { return a > b ? a : b; }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
