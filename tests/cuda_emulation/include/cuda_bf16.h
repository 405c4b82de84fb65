// bfloat16: a float's upper half, rounded to nearest even.
#pragma once

#include "vector_types.h"

#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
    std::uint16_t bits;

    __nv_bfloat16() = default;
    explicit __nv_bfloat16(float x) {
        std::uint32_t whole;
        std::memcpy(&whole, &x, sizeof whole);
        const bool nan = (whole & 0x7FFFFFFFu) > 0x7F800000u;
        bits = nan ? 0x7FFF : static_cast<std::uint16_t>((whole + 0x7FFFu + (whole >> 16 & 1u)) >> 16);
    }
    operator float() const {
        const std::uint32_t whole = static_cast<std::uint32_t>(bits) << 16;
        float x;
        std::memcpy(&x, &whole, sizeof x);
        return x;
    }
};

inline __nv_bfloat16 __float2bfloat16(float x) { return __nv_bfloat16(x); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __nv_bfloat16(x); }
inline float __bfloat162float(__nv_bfloat16 x) { return x; }
