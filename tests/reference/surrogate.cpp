// The surrogates of surrogate.hpp, each formula written out once, with exponentials that cannot overflow.
#include "reference/surrogate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <stdexcept>

namespace spikefloss::reference {

namespace {
double sign(double v) { return v > 0.0 ? 1.0 : (v < 0.0 ? -1.0 : 0.0); }
// 1/(1+exp(-x)); exp never sees a positive argument, so it cannot overflow.
double logistic(double x) { return x >= 0.0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x)); }
}  // namespace

double psi(Surrogate surrogate, double v, double g) {
    switch (surrogate) {
        case Surrogate::fast_sigmoid: return 1.0 / std::pow(1.0 + g * std::abs(v), 2);
        case Surrogate::arctan: return 1.0 / (1.0 + (g * v) * (g * v));
        case Surrogate::sigmoid: return 4.0 * logistic(g * v) * logistic(-g * v);  // 1 - e(x) = e(-x)
        case Surrogate::gaussian: return std::exp(-(g * v) * (g * v) / 2.0);
        case Surrogate::triangle: return std::max(0.0, 1.0 - g * std::abs(v));
        case Surrogate::exponential: return std::exp(-g * std::abs(v));
    }
    throw std::invalid_argument("no such surrogate");
}

double psi_derivative(Surrogate surrogate, double v, double g) {
    switch (surrogate) {
        case Surrogate::fast_sigmoid: return -2.0 * g * sign(v) / std::pow(1.0 + g * std::abs(v), 3);
        case Surrogate::arctan: return -2.0 * g * g * v / std::pow(1.0 + (g * v) * (g * v), 2);
        case Surrogate::sigmoid: {
            const double e = logistic(g * v), one_minus_e = logistic(-g * v);
            return 4.0 * g * e * one_minus_e * (one_minus_e - e);
        }
        case Surrogate::gaussian: return -g * g * v * psi(surrogate, v, g);
        case Surrogate::triangle: return g * std::abs(v) < 1.0 ? -g * sign(v) : 0.0;
        case Surrogate::exponential: return -g * sign(v) * psi(surrogate, v, g);
    }
    throw std::invalid_argument("no such surrogate");
}

double psi_primitive(Surrogate surrogate, double v, double g) {
    switch (surrogate) {
        case Surrogate::fast_sigmoid: return 0.5 + v / (1.0 + g * std::abs(v));
        case Surrogate::arctan: return 0.5 + std::atan(g * v) / g;
        case Surrogate::sigmoid: return 0.5 + 4.0 / g * (logistic(g * v) - 0.5);
        case Surrogate::gaussian:
            return 0.5 + std::sqrt(std::numbers::pi / 2.0) / g * std::erf(g * v / std::numbers::sqrt2);
        case Surrogate::triangle:
            return g * std::abs(v) < 1.0 ? 0.5 + v - g * v * std::abs(v) / 2.0 : 0.5 + sign(v) / (2.0 * g);
        case Surrogate::exponential: return 0.5 + sign(v) * (1.0 - std::exp(-g * std::abs(v))) / g;
    }
    throw std::invalid_argument("no such surrogate");
}

double distance_to_kink(Surrogate surrogate, double v, double g) {
    if (surrogate == Surrogate::fast_sigmoid || surrogate == Surrogate::exponential) return std::abs(v);
    if (surrogate == Surrogate::triangle) return std::min(std::abs(v), std::abs(std::abs(v) - 1.0 / g));
    return std::numeric_limits<double>::infinity();
}

}  // namespace spikefloss::reference
