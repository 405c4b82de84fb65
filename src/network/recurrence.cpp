#include "network/recurrence.hpp"

namespace spikefloss {

Recurrence::Recurrence(Backend& backend, const ProcessGrid& grid, Index neurons, Index max_rows)
    : backend_(backend),
      comm_(grid.neurons()),
      blocks_(block_ranges(neurons, grid.shape().neuron_shards)),
      sizes_(blocks_.size()),
      n_(grid.neurons_of(neurons).size()),
      gathered_(backend, shards() > 1 ? max_rows * neurons : 0),
      sums_(backend, shards() > 1 ? max_rows * n_ : 0),
      partial_(backend, shards() > 1 ? max_rows * neurons : 0) {}

const float* Recurrence::gather(Index rows, const float* x) {
    if (shards() == 1) return x;
    for (Index p = 0; p < shards(); ++p)
        sizes_[static_cast<std::size_t>(p)] = rows * block(p).size() * static_cast<Index>(sizeof(float));
    comm_.all_gather(x, gathered_.data(), sizes_);
    return gathered_.data();
}

std::vector<Activity> Recurrence::blocks_of(Index rows, const float* gathered) const {
    std::vector<Activity> blocks;
    for (const BlockRange& block : blocks_)
        blocks.push_back({.values = gathered + rows * block.begin, .stride = block.size()});
    return blocks;
}

void Recurrence::apply(const float* w, Index rows, std::span<const Activity> x, float* out) {
    if (shards() == 1) return backend_.project(columns_of(w, 0), x[0], Matrix<float>(out, rows, n_), false);
    for (Index p = 0; p < shards(); ++p)
        backend_.project(columns_of(w, p), x[static_cast<std::size_t>(p)], sums_.matrix(rows, n_), p > 0);
    backend_.round_sums(sums_.data(), out, rows * n_);
}

void Recurrence::apply_transposed(const float* w, Index rows, const float* y, float* out) {
    const Matrix<const float> factor(y, rows, n_);
    if (shards() == 1)
        return backend_.project_transposed(columns_of(w, 0), factor, Matrix<float>(out, rows, n_), false);
    for (Index p = 0; p < shards(); ++p) {
        const Index n_p = block(p).size();
        backend_.project_transposed(columns_of(w, p), factor, partial_.matrix(rows, n_p, rows * block(p).begin), false);
        sizes_[static_cast<std::size_t>(p)] = rows * n_p;
    }
    comm_.reduce_scatter_sum(partial_.data(), sums_.data(), sums_.type(), sizes_);
    backend_.round_sums(sums_.data(), out, rows * n_);
}

void Recurrence::add_outer(Index rows, const float* y, std::span<const Activity> x, const SumMatrix& dw) {
    for (Index p = 0; p < shards(); ++p) {
        char* at = static_cast<char*>(dw.data) + block(p).begin * static_cast<Index>(size_of(dw.type));
        backend_.add_outer({y, rows, n_}, x[static_cast<std::size_t>(p)],
                           {at, dw.type, dw.rows, block(p).size(), dw.stride});
    }
}

}  // namespace spikefloss
