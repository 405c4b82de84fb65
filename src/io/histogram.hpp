// Counts of values between fixed limits that grow by a tenth from 1e-12 to 1e20, on both sides of 0, as in TensorBoard.
// The limits are fixed so that the counts of ranks can be added.
#pragma once

#include "parallel/process_grid.hpp"
#include "train/training_state.hpp"

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

struct Histogram {
    double least = 0.0, most = 0.0;  // of the values; 0 if there are none
    double count = 0.0, sum = 0.0, sum_of_squares = 0.0;
    std::vector<double> counts;  // counts[i]: of values v with limits[i-1] <= v < limits[i]
    static const std::vector<double>& limits();

    // Values that are not finite are left out.
    explicit Histogram(std::span<const float> values = {});
    explicit Histogram(const std::vector<double>& values);

private:
    void add(double value);
};

// The histogram of each parameter over all ranks, with its name. Replicated values count once. Collective.
std::vector<std::pair<std::string, Histogram>> parameter_histograms(const ProcessGrid& grid,
                                                                    const HostNetwork& network);

}  // namespace spikefloss
