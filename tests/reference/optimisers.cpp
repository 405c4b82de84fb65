// The updates of optimisers.hpp, element by element.
#include "reference/optimisers.hpp"

#include <cmath>

namespace spikefloss::reference {

void adam(const AdamSettings& settings, std::int64_t step, const std::vector<double>& gradient, std::vector<double>& m,
          std::vector<double>& v, std::vector<double>& values) {
    const double unbias1 = 1.0 - std::pow(settings.beta1, static_cast<double>(step));
    const double unbias2 = 1.0 - std::pow(settings.beta2, static_cast<double>(step));
    for (std::size_t j = 0; j < values.size(); ++j) {
        m[j] = settings.beta1 * m[j] + (1.0 - settings.beta1) * gradient[j];
        v[j] = settings.beta2 * v[j] + (1.0 - settings.beta2) * gradient[j] * gradient[j];
        const double direction = m[j] / unbias1 / (std::sqrt(v[j] / unbias2) + settings.eps);
        values[j] -= settings.learning_rate * (direction + settings.weight_decay * values[j]);
    }
}

void sgd(double learning_rate, double momentum, const std::vector<double>& gradient, std::vector<double>& velocity,
         std::vector<double>& values) {
    for (std::size_t j = 0; j < values.size(); ++j) {
        velocity[j] = momentum * velocity[j] + gradient[j];
        values[j] -= learning_rate * velocity[j];
    }
}

void update_fraction(std::vector<double> gradient, std::vector<double>& values,
                     const std::function<void(const std::vector<double>&, std::vector<double>&)>& update) {
    for (std::size_t j = 0; j < values.size(); ++j) {
        gradient[j] *= values[j] * (1.0 - values[j]);
        values[j] = std::log(values[j] / (1.0 - values[j]));
    }
    update(gradient, values);
    for (double& x : values) x = 1.0 / (1.0 + std::exp(-x));
}

}  // namespace spikefloss::reference
