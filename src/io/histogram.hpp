// Counts of values between fixed limits that grow by a tenth from 1e-12 to 1e20, on both sides of 0: those that
// TensorBoard uses. Fixed, so that the counts of ranks can be added up.
#pragma once

#include "parallel/process_grid.hpp"
#include "train/training_state.hpp"

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

struct Histogram {
    double least = 0.0, most = 0.0;  // of the values; 0 when there are none
    double count = 0.0, sum = 0.0, sum_of_squares = 0.0;
    std::vector<double> counts;  // counts[i]: of values v with limits[i-1] <= v < limits[i]
    static const std::vector<double>& limits();

    // Values that are not finite are left out.
    explicit Histogram(std::span<const float> values = {});
    explicit Histogram(const std::vector<double>& values);

private:
    void add(double value);
};

// Of each parameter, over all ranks, with its name; each value counts once, however many ranks hold it. Collective.
std::vector<std::pair<std::string, Histogram>> parameter_histograms(const ProcessGrid& grid,
                                                                    const HostNetwork& network);

}  // namespace spikefloss
