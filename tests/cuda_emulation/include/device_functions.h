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

// ---- barriers ----
inline void __syncthreads(emulation::Place place = emulation::Place::current()) { emulation::block_barrier(place); }

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
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  emulation::Place place = emulation::Place::current()) {
    return emulation::shuffle(emulation::WarpCall::shfl_xor, mask, value, lanes, width, place);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emulation::Place place = emulation::Place::current()) {
    return static_cast<unsigned>(emulation::warp_call(emulation::WarpCall::ballot, mask, predicate != 0, 0, 32, place));
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
template <class T>
T atomicMin(T* address, T x) {
    return emulation::replace(address, x < *address ? x : *address);
}
inline unsigned atomicMax(unsigned* address, unsigned x) {
    return emulation::replace(address, x > *address ? x : *address);
}

// ---- loads and stores with a cache hint ----
template <class T>
SPIKEFLOSS_UNTRACED T __ldcg(const T* p) {
    emulation::load_past_cache(p, sizeof(T));
    return *p;
}

// ---- bits ----
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }

// ---- arithmetic ----
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }

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
