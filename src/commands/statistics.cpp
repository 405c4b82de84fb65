#include "commands/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spikefloss {
namespace {

// P(X <= k) of a binomial distribution, 0 < p < 1. Terms are computed from logarithms, so none overflows.
double at_most(std::int64_t k, std::int64_t n, double p) {
    const auto log_factorial = [](std::int64_t m) { return std::lgamma(static_cast<double>(m) + 1.0); };
    double sum = 0.0;
    for (std::int64_t i = 0; i <= k; ++i)
        sum += std::exp(log_factorial(n) - log_factorial(i) - log_factorial(n - i) +
                        static_cast<double>(i) * std::log(p) + static_cast<double>(n - i) * std::log1p(-p));
    return std::min(1.0, sum);
}

// The p at which P(X <= k) is `wanted`. P(X <= k) falls with p.
double probability_with(std::int64_t k, std::int64_t n, double wanted) {
    double low = 0.0, high = 1.0;
    for (int halving = 0; halving < 60; ++halving) {
        const double p = 0.5 * (low + high);
        (at_most(k, n, p) > wanted ? low : high) = p;
    }
    return 0.5 * (low + high);
}

}  // namespace

std::array<double, 3> quartiles(std::vector<double> values) {
    constexpr double none = std::numeric_limits<double>::quiet_NaN();
    if (values.empty()) return {none, none, none};
    std::sort(values.begin(), values.end());
    const auto at = [&](double fraction) {
        const double place = fraction * static_cast<double>(values.size() - 1);
        const auto below = static_cast<std::size_t>(place);
        const double part = place - static_cast<double>(below), low = values[below];
        if (part == 0.0 || std::isinf(low)) return low;
        return low + part * (values[below + 1] - low);
    };
    return {at(0.25), at(0.5), at(0.75)};
}

Interval exact_interval(std::int64_t successes, std::int64_t trials) {
    constexpr double tail = 0.025;
    return {successes == 0 ? 0.0 : probability_with(successes - 1, trials, 1.0 - tail),
            successes == trials ? 1.0 : probability_with(successes, trials, tail)};
}

}  // namespace spikefloss
