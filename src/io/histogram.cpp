// Fills histograms, and adds those of all ranks.
#include "io/histogram.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace spikefloss {

const std::vector<double>& Histogram::limits() {
    static const std::vector<double> all = [] {
        std::vector<double> positive, both;
        for (double limit = 1e-12; limit < 1e20; limit *= 1.1) positive.push_back(limit);
        for (auto limit = positive.rbegin(); limit != positive.rend(); ++limit) both.push_back(-*limit);
        both.push_back(0.0);
        both.insert(both.end(), positive.begin(), positive.end());
        both.push_back(std::numeric_limits<double>::max());
        return both;
    }();
    return all;
}

Histogram::Histogram(std::span<const float> values) : counts(limits().size(), 0.0) {
    for (float value : values) add(value);
}

Histogram::Histogram(const std::vector<double>& values) : counts(limits().size(), 0.0) {
    for (double value : values) add(value);
}

void Histogram::add(double value) {
    if (!std::isfinite(value)) return;
    least = count == 0.0 ? value : std::min(least, value);
    most = count == 0.0 ? value : std::max(most, value);
    ++count;
    sum += value;
    sum_of_squares += value * value;
    const auto above = std::upper_bound(limits().begin(), limits().end() - 1, value);
    ++counts[static_cast<std::size_t>(above - limits().begin())];
}

std::vector<std::pair<std::string, Histogram>> parameter_histograms(const ProcessGrid& grid,
                                                                    const HostNetwork& network) {
    std::vector<std::pair<std::string, Histogram>> histograms;
    for (const Segment& segment : network.layout.segments()) {
        const bool counts = grid.batch_shard() == 0 && (!segment.replicated || grid.neuron_shard() == 0);
        std::vector<float> values;
        if (counts)
            segment.each_row(network.values.data(),
                             [&](const float* row, Index) { values.insert(values.end(), row, row + segment.cols); });
        Histogram all(values);
        // [count, least, most] of every rank; then the counts, which are added.
        const double own[3] = {all.count, all.least, all.most};
        std::vector<double> every(3 * static_cast<std::size_t>(grid.ranks()));
        grid.control().all_gather(own, every.data(),
                                  std::vector<Index>(static_cast<std::size_t>(grid.ranks()), sizeof own));
        double ends[2] = {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
        for (std::size_t at = 0; at < every.size(); at += 3) {
            if (every[at] == 0.0) continue;
            ends[0] = std::min(ends[0], every[at + 1]);
            ends[1] = std::max(ends[1], every[at + 2]);
        }
        double sums[3] = {all.count, all.sum, all.sum_of_squares};
        grid.control().all_reduce_sum(sums, Scalar::float64, 3);
        grid.control().all_reduce_sum(all.counts.data(), Scalar::float64, static_cast<Index>(all.counts.size()));
        all.count = sums[0], all.sum = sums[1], all.sum_of_squares = sums[2];
        if (all.count > 0.0) all.least = ends[0], all.most = ends[1];
        histograms.emplace_back(segment.name, std::move(all));
    }
    return histograms;
}

}  // namespace spikefloss
