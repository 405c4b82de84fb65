// Statistics of a summary over seeds: quartiles, and the confidence interval of a rate of success.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace spikefloss {

// Lower quartile, median, upper quartile, linear between the two nearest values (as numpy.quantile does); all NaN
// without values. Values may be infinite, and so may a quartile.
std::array<double, 3> quartiles(std::vector<double> values);

// Exact (Clopper-Pearson) 95 % interval of a probability after `successes` of `trials`: [0, 1] without trials.
struct Interval {
    double low, high;
};
Interval exact_interval(std::int64_t successes, std::int64_t trials);

}  // namespace spikefloss
