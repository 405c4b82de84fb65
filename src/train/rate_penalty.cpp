#include "train/rate_penalty.hpp"

#include <algorithm>

namespace spikefloss {

RatePenalty::RatePenalty(Backend& backend, const ProcessGrid& grid, RateOptions options, Index N, Index T, Index b,
                         Index B)
    : backend_(backend),
      grid_(grid),
      options_(options),
      N_(N),
      n_(grid.neurons_of(N).size()),
      T_(T),
      b_(b),
      B_(B),
      chunk_(std::clamp<Index>(backend.chunk_rows(std::max<Index>(1, n_)) / std::max<Index>(1, b), 1, T)),
      ones_(backend, std::vector<float>(static_cast<std::size_t>(chunk_ * b), 1.0f)),
      counts_(backend, n_),
      count_(backend, n_),
      adjoint_(backend, n_) {}

double RatePenalty::evaluate(const SpikeTape& spikes) {
    counts_.zero();
    for (Index t = 0; t < T_; t += chunk_) {
        const Index rows = std::min(chunk_, T_ - t) * b_;
        backend_.add_outer({ones_.data(), rows, 1}, spikes.mine(t + 1), counts_.matrix(1, n_));
    }
    grid_.batch().all_reduce_sum(counts_.data(), counts_.type(), n_);
    backend_.round_sums(counts_.data(), count_.data(), n_);
    const RateOptions& o = options_;
    const auto T = static_cast<double>(T_), B = static_cast<double>(B_), N = static_cast<double>(N_);
    std::vector<float> adjoint;
    double sum = 0.0;
    for (const float total : count_.to_host()) {
        const double count = total / B, rate = count / T;
        sum += o.l1 * count + o.l2 * count * count +
               o.bound * (std::max(0.0, o.lower - rate) + std::max(0.0, rate - o.upper));
        const double side = rate < o.lower ? -1.0 : rate > o.upper ? 1.0 : 0.0;
        adjoint.push_back(static_cast<float>((o.l1 + 2.0 * o.l2 * count + o.bound * side / T) / (B * N)));
    }
    adjoint_.copy_in(adjoint.data());
    // The batch shards hold the same counts; only the first contributes.
    if (grid_.batch_shard() != 0) sum = 0.0;
    grid_.control().all_reduce_sum(&sum, Scalar::float64, 1);
    return sum / N;
}

}  // namespace spikefloss
