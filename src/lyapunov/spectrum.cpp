#include "lyapunov/spectrum.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace spikefloss {

Spectrum mean_spectrum(const ProcessGrid& grid, const TangentPass& tangents, Index sequences, Index state_size) {
    Spectrum spectrum;
    spectrum.per_sequence = tangents.exponents();
    spectrum.sequences = sequences;
    spectrum.state_size = state_size;
    const auto k = static_cast<std::size_t>(tangents.vectors());
    spectrum.exponents.assign(k, 0.0);
    // All neuron shards of a sequence hold the same exponents; only the first contributes.
    if (grid.neuron_shard() == 0)
        for (std::size_t i = 0; i < spectrum.per_sequence.size(); ++i)
            spectrum.exponents[i % k] += spectrum.per_sequence[i];
    grid.control().all_reduce_sum(spectrum.exponents.data(), Scalar::float64, static_cast<Index>(k));
    for (double& lambda : spectrum.exponents) lambda /= static_cast<double>(sequences);
    return spectrum;
}

std::string lost_text(const std::vector<double>& exponents) {
    const auto k = exponents.size();
    const auto first = static_cast<std::size_t>(
        std::find_if(exponents.begin(), exponents.end(), [](double x) { return std::isinf(x); }) - exponents.begin());
    if (first == k) return "";
    return fmt::format(
        "{} of the {} exponents measured {} -infinite: the tangent map removes these directions, for example by "
        "spikes that reset a membrane to 0, or by a surrogate that is 0 far from threshold",
        first + 1 == k ? fmt::format("number {}", k) : fmt::format("numbers {} to {}", first + 1, k), k,
        first + 1 == k ? "is" : "are");
}

KaplanYorke kaplan_yorke(const Spectrum& spectrum) {
    std::vector<double> lambda = spectrum.exponents;
    std::sort(lambda.begin(), lambda.end(), std::greater<>());
    double sum = 0.0;
    for (std::size_t j = 0; j < lambda.size(); ++j) {
        if (sum + lambda[j] < 0.0) return {static_cast<double>(j) + sum / std::fabs(lambda[j]), false};
        sum += lambda[j];
    }
    const auto k = static_cast<Index>(lambda.size());
    return {static_cast<double>(k), k < spectrum.state_size};
}

double entropy_rate(const Spectrum& spectrum) {
    return std::accumulate(spectrum.exponents.begin(), spectrum.exponents.end(), 0.0,
                           [](double sum, double lambda) { return sum + std::max(lambda, 0.0); });
}

double log10_condition_number(const Spectrum& spectrum, Index T) {
    if (std::isinf(spectrum.exponents.back())) return std::numeric_limits<double>::infinity();
    return (spectrum.exponents.front() - spectrum.exponents.back()) * static_cast<double>(T) / std::log(10.0);
}

}  // namespace spikefloss
