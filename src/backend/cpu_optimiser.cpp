// Optimiser updates of the CPU backend: Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019), SGD with momentum.
#include "backend/cpu_backend.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {

void CpuBackend::adam(Index count, const AdamSettings& settings, const float* gradient, float* m, float* v,
                      float* values) {
    const float b1 = settings.beta1, b2 = settings.beta2;
    const float correction1 = static_cast<float>(1.0 - std::pow(static_cast<double>(b1), settings.step));
    const float correction2 = static_cast<float>(1.0 - std::pow(static_cast<double>(b2), settings.step));
    const float decay = 1.0f - settings.learning_rate * settings.weight_decay;
#pragma omp simd
    for (Index i = 0; i < count; ++i) {
        const float g = std::min(std::max(gradient[i], -largest_adam_gradient), largest_adam_gradient);
        m[i] = fmaf(b1, m[i], (1.0f - b1) * g);
        v[i] = fmaf(b2, v[i], (1.0f - b2) * (g * g));
        const float step = (m[i] / correction1) / (std::sqrt(v[i] / correction2) + settings.eps);
        values[i] = fmaf(-settings.learning_rate, step, values[i] * decay);
    }
}

void CpuBackend::sgd(Index count, float learning_rate, float momentum, const float* gradient, float* velocity,
                     float* values) {
#pragma omp simd
    for (Index i = 0; i < count; ++i) {
        velocity[i] = fmaf(momentum, velocity[i], gradient[i]);
        values[i] = fmaf(-learning_rate, velocity[i], values[i]);
    }
}

void CpuBackend::to_logit(Index count, float* values, float* gradients) {
    for (Index i = 0; i < count; ++i) {
        const double a = std::clamp(static_cast<double>(values[i]), 1e-7, 1.0 - 0x1p-24);
        values[i] = static_cast<float>(std::log(a / (1.0 - a)));
        gradients[i] *= static_cast<float>(a * (1.0 - a));
    }
}

void CpuBackend::from_logit(Index count, float* values) {
    for (Index i = 0; i < count; ++i) {
        const double a = 1.0 / (1.0 + std::exp(-static_cast<double>(values[i])));
        values[i] = static_cast<float>(std::clamp(a, 1e-7, 1.0 - 0x1p-24));
    }
}

}  // namespace spikefloss
