// Surrogate derivatives psi(v) of the spike at v = u - theta, with sharpness g, and their own derivatives psi'(v).
//
//   fast_sigmoid  1/(1+g|v|)^2        -2 g sign(v)/(1+g|v|)^3
//   arctan        1/(1+(g v)^2)       -2 g^2 v/(1+(g v)^2)^2
//   sigmoid       4 e (1-e)           4 g e (1-e)(1-2e),  e = 1/(1+exp(-g v))
//   gaussian      exp(-(g v)^2/2)     -g^2 v psi
//   triangle      max(0, 1-g|v|)      -g sign(v) inside, 0 outside
//   exponential   exp(-g|v|)          -g sign(v) psi
#pragma once

#include "core/choices.hpp"
#include "neuron/host_device.hpp"

#include <cmath>
#include <cstdint>
#include <cstring>

namespace spikefloss {

SPIKEFLOSS_HD float sign_of(float v) { return v > 0.0f ? 1.0f : (v < 0.0f ? -1.0f : 0.0f); }

// exp(x) for x <= 0, within 2 units in the last place; below -87 it is exp(-87), near the smallest normal number. The
// result has the same bits on every machine. There is no branch or call, so that loops over neurons are vectorised.
// x = n ln 2 + r, |r| <= ln(2)/2; the polynomial is the Taylor series of exp(r), with a remainder below 2e-8.
SPIKEFLOSS_HD float exp_of_negative(float x) {
    constexpr float shift = 12582912.0f;            // 1.5 2^23: adding it leaves the nearest integer in the lowest bits
    const float bounded = x < -87.0f ? -87.0f : x;  // NaN stays NaN
    const float shifted = fmaf(bounded, 1.44269504f, shift);
    const float n = shifted - shift;
    const float r = fmaf(n, -1.42860677e-6f, fmaf(n, -0.693145752f, bounded));
    float p = fmaf(r, 1.0f / 5040.0f, 1.0f / 720.0f);
    p = fmaf(p, r, 1.0f / 120.0f);
    p = fmaf(p, r, 1.0f / 24.0f);
    p = fmaf(p, r, 1.0f / 6.0f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    std::uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23;  // 2^n
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// Each surrogate is a type with two static functions, so that loops over neurons have no branch on its kind.
struct FastSigmoid {
    static SPIKEFLOSS_HD float psi(float v, float g) {
        const float r = 1.0f / fmaf(g, fabsf(v), 1.0f);
        return r * r;
    }
    static SPIKEFLOSS_HD float derivative(float v, float g) {
        const float r = 1.0f / fmaf(g, fabsf(v), 1.0f);
        return -2.0f * g * sign_of(v) * (r * r * r);
    }
};

struct Arctan {
    static SPIKEFLOSS_HD float psi(float v, float g) {
        const float x = g * v;
        return 1.0f / fmaf(x, x, 1.0f);
    }
    static SPIKEFLOSS_HD float derivative(float v, float g) {
        const float p = psi(v, g);
        return -2.0f * g * (g * v) * (p * p);
    }
};

struct Sigmoid {
    // With q = exp(-|g v|) <= 1 nothing overflows: e(1-e) = q/(1+q)^2 and 1-2e = -sign(v) (1-q)/(1+q).
    static SPIKEFLOSS_HD float psi(float v, float g) {
        const float q = exp_of_negative(-fabsf(g * v));
        const float r = 1.0f / (1.0f + q);
        return 4.0f * q * (r * r);
    }
    static SPIKEFLOSS_HD float derivative(float v, float g) {
        const float q = exp_of_negative(-fabsf(g * v));
        const float r = 1.0f / (1.0f + q);
        return -4.0f * g * sign_of(v) * (q * (r * r)) * ((1.0f - q) * r);
    }
};

struct Gaussian {
    static SPIKEFLOSS_HD float psi(float v, float g) {
        const float x = g * v;
        return exp_of_negative(-0.5f * (x * x));
    }
    static SPIKEFLOSS_HD float derivative(float v, float g) { return -g * (g * v) * psi(v, g); }
};

struct Triangle {
    static SPIKEFLOSS_HD float psi(float v, float g) { return fmaxf(0.0f, fmaf(-g, fabsf(v), 1.0f)); }
    static SPIKEFLOSS_HD float derivative(float v, float g) { return g * fabsf(v) < 1.0f ? -g * sign_of(v) : 0.0f; }
};

struct Exponential {
    static SPIKEFLOSS_HD float psi(float v, float g) { return exp_of_negative(-fabsf(g * v)); }
    static SPIKEFLOSS_HD float derivative(float v, float g) { return -g * sign_of(v) * psi(v, g); }
};

// Calls work(S{}), where S is the type of `kind`.
template <class Work>
void with_surrogate(Surrogate kind, Work&& work) {
    switch (kind) {
        case Surrogate::fast_sigmoid: return work(FastSigmoid{});
        case Surrogate::arctan: return work(Arctan{});
        case Surrogate::sigmoid: return work(Sigmoid{});
        case Surrogate::gaussian: return work(Gaussian{});
        case Surrogate::triangle: return work(Triangle{});
        case Surrogate::exponential: return work(Exponential{});
    }
}

}  // namespace spikefloss
