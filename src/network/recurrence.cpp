#include "network/recurrence.hpp"

namespace spikefloss {

Recurrence::Recurrence(Backend& backend, const ProcessGrid& grid, Index neurons, Index max_rows)
    : backend_(backend),
      comm_(grid.neurons()),
      blocks_(block_ranges(neurons, grid.shape().neuron_shards)),
      sizes_(blocks_.size()),
      n_(grid.neurons_of(neurons).size()),
      gathered_(backend, shards() > 1 ? max_rows * neurons : 0),
      sums_(backend, max_rows * n_) {
    if (shards() > 1) partial_ = SumBuffer(backend, max_rows * neurons);
}

const float* Recurrence::gather(Index rows, const float* x) {
    if (shards() == 1) return x;
    for (Index p = 0; p < shards(); ++p)
        sizes_[static_cast<std::size_t>(p)] = rows * block(p).size() * static_cast<Index>(sizeof(float));
    comm_.all_gather(x, gathered_.data(), sizes_);
    return gathered_.data();
}

void Recurrence::apply(const float* w, Index rows, const float* gathered, float* out) {
    for (Index p = 0; p < shards(); ++p) {
        const Matrix<const float> x(gathered + rows * block(p).begin, rows, block(p).size());
        backend_.gemm(Transpose::no, Transpose::yes, x, columns_of(w, p), sums_.matrix(rows, n_), p > 0);
    }
    backend_.round_sums(sums_.data(), out, rows * n_);
}

void Recurrence::apply_transposed(const float* w, Index rows, const float* y, float* out) {
    SumBuffer& sums = shards() == 1 ? sums_ : partial_;
    for (Index p = 0; p < shards(); ++p) {
        const Index n_p = block(p).size();
        backend_.gemm(Transpose::no, Transpose::no, {y, rows, n_}, columns_of(w, p),
                      sums.matrix(rows, n_p, rows * block(p).begin), false);
        sizes_[static_cast<std::size_t>(p)] = rows * n_p;
    }
    if (shards() > 1) comm_.reduce_scatter_sum(partial_.data(), sums_.data(), sums_.type(), sizes_);
    backend_.round_sums(sums_.data(), out, rows * n_);
}

void Recurrence::add_outer(Index rows, const float* y, const float* gathered, SumMatrix dw) {
    for (Index p = 0; p < shards(); ++p) {
        const Matrix<const float> x(gathered + rows * block(p).begin, rows, block(p).size());
        backend_.gemm(Transpose::yes, Transpose::no, {y, rows, n_}, x, columns_of(dw, p), true);
    }
}

SumMatrix Recurrence::columns_of(const SumMatrix& dw, Index p) const {
    char* at = static_cast<char*>(dw.data) + block(p).begin * static_cast<Index>(size_of(dw.type));
    return {at, dw.type, dw.rows, block(p).size(), dw.stride};
}

}  // namespace spikefloss
