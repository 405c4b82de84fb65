// Device functions of digits.hpp.
#pragma once

#include "digits.hpp"
#include "kernel.cuh"

#include <cmath>

namespace spikefloss {

inline constexpr std::uint32_t bits_of_infinity = 0x7F800000u;

// The least e, but at least -126, with magnitude < 2^e.
__device__ inline int exponent_of(std::uint32_t magnitude) { return static_cast<int>(magnitude >> 23) - 126; }

// x 2^power; NaN if the magnitude that the power comes from is not finite.
__device__ inline float scaled(float x, std::uint32_t magnitude, int power) {
    return magnitude < bits_of_infinity ? scalbnf(x, power) : NAN;
}

}  // namespace spikefloss
