// One update of each optimiser, in double. Moments start at 0 and have the size of the values.
#pragma once

#include "reference/model.hpp"

#include <functional>

namespace spikefloss::reference {

struct AdamSettings {
    double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
    double weight_decay = 0.0;  // decoupled (AdamW); 0 is Adam
};

// Update number `step`, 1 at the first:
//   m = beta1 m + (1-beta1) g,  v = beta2 v + (1-beta2) g^2,
//   x -= rate (m / (1-beta1^step) / (sqrt(v / (1-beta2^step)) + eps) + decay x).
void adam(const AdamSettings& settings, std::int64_t step, const std::vector<double>& gradient, std::vector<double>& m,
          std::vector<double>& v, std::vector<double>& values);

// velocity = momentum velocity + g,  x -= rate velocity.
void sgd(double learning_rate, double momentum, const std::vector<double>& gradient, std::vector<double>& velocity,
         std::vector<double>& values);

// `update` of the logits x of the values, which are in (0, 1). `gradient` is that of the values.
void update_fraction(std::vector<double> gradient, std::vector<double>& values,
                     const std::function<void(const std::vector<double>& gradient, std::vector<double>& x)>& update);

}  // namespace spikefloss::reference
