// Draws synapses. The synapses of one target with probability p each are a binomial number of them, then a set of this
// size in which all sources are equally probable. So the number of entries of other ranks costs one random number a
// row.
#include "network/connectivity.hpp"

#include "core/random.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Cumulative probabilities of a binomial distribution over n trials, where they differ from 0 and 1 by more than
// rounding: 40 standard deviations and more.
std::vector<double> binomial(Index n, double p, Index& lowest) {
    const double mean = static_cast<double>(n) * p, width = 20.0 * std::sqrt(mean * (1.0 - p)) + 40.0;
    lowest = std::max<Index>(0, static_cast<Index>(mean - width));
    const Index highest = std::min<Index>(n, static_cast<Index>(mean + width) + 1);
    const auto log_factorial = [](Index k) { return std::lgamma(static_cast<double>(k) + 1.0); };
    std::vector<double> up_to;
    double sum = 0.0;
    for (Index k = lowest; k <= highest; ++k) {
        sum += std::exp(log_factorial(n) - log_factorial(k) - log_factorial(n - k) +
                        static_cast<double>(k) * std::log(p) + static_cast<double>(n - k) * std::log1p(-p));
        up_to.push_back(sum);
    }
    for (double& value : up_to) value /= sum;
    return up_to;
}

}  // namespace

Connectivity::Connectivity(const InitialProjection& projection, std::uint64_t seed, Index begin, Index sources,
                           BlockRange targets, Index copy)
    : seed_(seed),
      begin_(begin),
      sources_(sources),
      targets_begin_(targets.begin),
      targets_(targets.size()),
      copy_(copy),
      same_(!projection.autapses && projection.source == projection.target) {
    const Index possible = sources - (same_ ? 1 : 0);
    if (projection.given) {
        given_ = projection.given(targets_, sources);
        if (!given_.sparse) fixed_ = sources;
        mean_ = static_cast<double>(given_.count) / static_cast<double>(targets_);
    } else if (projection.in_degree > 0) {
        fixed_ = projection.in_degree;
    } else if (projection.density >= 1.0) {
        fixed_ = possible;
    } else {
        mean_ = static_cast<double>(possible) * projection.density;
        up_to_ = binomial(possible, projection.density, lowest_);
    }
    all_ = !same_ && fixed_ == sources;
}

Index Connectivity::degree(Index row) const {
    if (fixed_ >= 0) return fixed_;
    // Draws of synapses count from 1 in the second counter.
    const auto w = random_words(seed_, Stream::synapses, static_cast<std::uint32_t>(targets_begin_ + row), 0,
                                static_cast<std::uint32_t>(begin_), static_cast<std::uint32_t>(copy_));
    const double u = (static_cast<double>(w[0]) + uniform(w[1])) * 0x1p-32;
    const auto found = std::lower_bound(up_to_.begin(), up_to_.end(), u);
    return lowest_ + std::min<Index>(found - up_to_.begin(), static_cast<Index>(up_to_.size()) - 1);
}

Index Connectivity::synapses_of(Index rows) const {
    if (fixed_ >= 0) return fixed_ * rows;
    if (given_.rows) return given_.count;
    Index sum = 0;
    for (Index row = 0; row < rows; ++row) sum += degree(row);
    return sum;
}

// Floyd's sampling: of all sets of K of n numbers each is equally probable, and the work is O(K).
Synapses Connectivity::synapses(Index first, Index rows) const {
    if (given_.sparse) return given_.rows(first, rows);
    const Index possible = sources_ - (same_ ? 1 : 0);
    Synapses own;
    own.first = synapses_of(first);
    own.row_begin.reserve(static_cast<std::size_t>(rows) + 1);
    own.column.reserve(static_cast<std::size_t>(synapses_of(first + rows) - own.first));
    std::vector<bool> taken(static_cast<std::size_t>(possible));
    for (Index row = first; row < first + rows; ++row) {
        const Index K = degree(row);
        const auto begin = static_cast<std::ptrdiff_t>(own.column.size());
        std::array<std::uint32_t, 4> words{};
        for (Index k = 0; k < K; ++k) {
            if (k % 4 == 0)
                words = random_words(seed_, Stream::synapses, static_cast<std::uint32_t>(targets_begin_ + row),
                                     static_cast<std::uint32_t>(1 + k / 4), static_cast<std::uint32_t>(begin_),
                                     static_cast<std::uint32_t>(copy_));
            const Index last = possible - K + k;
            auto source =
                static_cast<Index>(uniform(words[static_cast<std::size_t>(k % 4)]) * static_cast<double>(last + 1));
            if (taken[static_cast<std::size_t>(source)]) source = last;
            taken[static_cast<std::size_t>(source)] = true;
            own.column.push_back(static_cast<std::int32_t>(source));
        }
        for (auto c = own.column.begin() + begin; c != own.column.end(); ++c) {
            taken[static_cast<std::size_t>(*c)] = false;
            if (same_ && *c >= row) ++*c;
        }
        std::sort(own.column.begin() + begin, own.column.end());
        own.row_begin.push_back(static_cast<Index>(own.column.size()));
    }
    return own;
}

}  // namespace spikefloss
