// Optimiser updates of the CUDA backend: Adam (Kingma & Ba 2015), AdamW (Loshchilov & Hutter 2019), SGD with momentum.
#include "cuda_backend.hpp"

#include "kernel.cuh"

#include <cmath>

namespace spikefloss {
namespace {

constexpr int block = 256;
constexpr double least = 1e-7, most = 1.0 - 0x1p-24;  // range of a parameter in (0, 1)

__device__ double clamped(double a) { return a < least ? least : a > most ? most : a; }

__global__ void adam_kernel(Index count, AdamSettings settings, float correction1, float correction2,
                            const float* gradient, float* m, float* v, float* values) {
    const float b1 = settings.beta1, b2 = settings.beta2;
    const float decay = 1.0f - settings.learning_rate * settings.weight_decay;
    for (Index i = first_element(); i < count; i += element_stride()) {
        const float g = fminf(fmaxf(gradient[i], -largest_adam_gradient), largest_adam_gradient);
        m[i] = fmaf(b1, m[i], (1.0f - b1) * g);
        v[i] = fmaf(b2, v[i], (1.0f - b2) * (g * g));
        const float step = (m[i] / correction1) / (sqrtf(v[i] / correction2) + settings.eps);
        values[i] = fmaf(-settings.learning_rate, step, values[i] * decay);
    }
}

__global__ void sgd_kernel(Index count, float learning_rate, float momentum, const float* gradient, float* velocity,
                           float* values) {
    for (Index i = first_element(); i < count; i += element_stride()) {
        velocity[i] = fmaf(momentum, velocity[i], gradient[i]);
        values[i] = fmaf(-learning_rate, velocity[i], values[i]);
    }
}

__global__ void to_logit_kernel(Index count, float* values, float* gradients) {
    for (Index i = first_element(); i < count; i += element_stride()) {
        const double a = clamped(values[i]);
        values[i] = static_cast<float>(log(a / (1.0 - a)));
        gradients[i] *= static_cast<float>(a * (1.0 - a));
    }
}

__global__ void from_logit_kernel(Index count, float* values) {
    for (Index i = first_element(); i < count; i += element_stride())
        values[i] = static_cast<float>(clamped(1.0 / (1.0 + exp(-static_cast<double>(values[i])))));
}

}  // namespace

void CudaBackend::adam(Index count, const AdamSettings& settings, const float* gradient, float* m, float* v,
                       float* values) {
    const auto correction = [&](float beta) {
        return static_cast<float>(1.0 - std::pow(static_cast<double>(beta), settings.step));
    };
    launch({grid_for(count, block), block, stream_}, adam_kernel, count, settings, correction(settings.beta1),
           correction(settings.beta2), gradient, m, v, values);
}

void CudaBackend::sgd(Index count, float learning_rate, float momentum, const float* gradient, float* velocity,
                      float* values) {
    launch({grid_for(count, block), block, stream_}, sgd_kernel, count, learning_rate, momentum, gradient, velocity,
           values);
}

void CudaBackend::to_logit(Index count, float* values, float* gradients) {
    launch({grid_for(count, block), block, stream_}, to_logit_kernel, count, values, gradients);
}

void CudaBackend::from_logit(Index count, float* values) {
    launch({grid_for(count, block), block, stream_}, from_logit_kernel, count, values);
}

}  // namespace spikefloss
