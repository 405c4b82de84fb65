// The update of one parameter w, once for all backends. g is the gradient times gradient_scale:
//
//   Adam   m = b1 m + (1-b1) g;   v = b2 v + (1-b2) g^2
//          w = w (1 - rate decay) - rate (m/(1-b1^step)) / (sqrt(v/(1-b2^step)) + eps)
//   SGD    m = momentum m + g;   w = w - rate m
//
// With Constraint::fraction, w = sigmoid(x) stays in (0, 1): x is updated in its place, with the gradient g w (1-w).
// With non_negative and non_positive (Dale's law) a w of the other sign becomes 0. The moments are not changed by this.
// (Adam: Kingma & Ba 2015; with a decay it is the AdamW of Loshchilov & Hutter 2019.)
#pragma once

#include "core/view.hpp"
#include "neuron/fused.hpp"
#include "neuron/host_device.hpp"

#include <cmath>
#include <variant>

namespace spikefloss {

enum class Constraint { none, fraction, non_negative, non_positive };

// The arrays of an update, [rows, cols] each, with rows `stride` elements apart. Adam has two moments, SGD with
// momentum the first, and without momentum none.
struct UpdateView {
    Index rows, cols, stride;
    const float* gradient;
    float *first, *second;
    float* values;
    Constraint constraint = Constraint::none;
};

// Adam limits gradients to this size. The square of a larger one is infinite in float32, and its parameter would never
// change again.
inline constexpr float largest_adam_gradient = 0x1p63f;

// The rules return the next w of element i.
struct Adam {
    float rate, beta1, beta2, eps, decay;
    std::int64_t step;  // 1 at the first update
    float unbias1 = unbias(beta1), unbias2 = unbias(beta2);

    float unbias(float beta) const { return static_cast<float>(1.0 - std::pow(static_cast<double>(beta), step)); }

    SPIKEFLOSS_HD float operator()(const UpdateView& at, Index i, float g, float w) const {
        g = g < -largest_adam_gradient ? -largest_adam_gradient : g > largest_adam_gradient ? largest_adam_gradient : g;
        const float m = at.first[i] = fmaf(beta1, at.first[i], (1.0f - beta1) * g);
        const float v = at.second[i] = fmaf(beta2, at.second[i], (1.0f - beta2) * (g * g));
        return fmaf(-rate, (m / unbias1) / (sqrtf(v / unbias2) + eps), w * (1.0f - rate * decay));
    }
};

struct Sgd {
    float rate, momentum;

    SPIKEFLOSS_HD float operator()(const UpdateView& at, Index i, float g, float w) const {
        if (at.first) at.first[i] = g = fmaf(momentum, at.first[i], g);
        return fmaf(-rate, g, w);
    }
};

using UpdateRule = std::variant<Adam, Sgd>;

SPIKEFLOSS_HD double within_0_and_1(double w) {
    constexpr double least = 1e-7, most = 1.0 - 0x1p-24;
    return w < least ? least : w > most ? most : w;
}

// Updates element i of the arrays. `constraint` is that of the view; as a constant it makes a loop of its own.
template <class Rule>
SPIKEFLOSS_HD void update_element(const Rule& rule, Constraint constraint, float gradient_scale, const UpdateView& at,
                                  Index i) {
    const float g = at.gradient[i] * gradient_scale;
    if (constraint != Constraint::fraction) {
        const float w = rule(at, i, g, at.values[i]);  // NaN stays NaN
        const bool wrong = (constraint == Constraint::non_negative && w < 0.0f) ||
                           (constraint == Constraint::non_positive && w > 0.0f);
        at.values[i] = wrong ? 0.0f : w;
        return;
    }
    const double w = within_0_and_1(at.values[i]);
    const float x = rule(at, i, g * static_cast<float>(w * (1.0 - w)), static_cast<float>(log(w / (1.0 - w))));
    at.values[i] = static_cast<float>(within_0_and_1(1.0 / (1.0 + exp(-static_cast<double>(x)))));
}

}  // namespace spikefloss
