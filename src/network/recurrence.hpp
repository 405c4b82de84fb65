// Products with the row-sharded recurrent matrix and its transpose, the only communication inside a time step:
//
//   apply(x)             = W_local all_gather(x)            [rows, n] -> [rows, n]
//   apply_transposed(y)  = reduce_scatter(W_local' y)
//
// x is spikes or tangents; y is their adjoints. All ranks hold a gathered array as P blocks [rows, n_p], one after
// another. Block p is multiplied with the columns of shard p of W_local [n, N], so no data is reordered. Spikes are
// sent as bits (network/spike_tape.hpp).
#pragma once

#include "backend/buffer.hpp"
#include "parallel/process_grid.hpp"

#include <span>
#include <vector>

namespace spikefloss {

class Recurrence {
public:
    // For N neurons and arrays of at most max_rows rows.
    Recurrence(Backend& backend, const ProcessGrid& grid, Index neurons, Index max_rows);

    // x [rows, n] of this rank -> all P blocks [rows, n_p]; valid until the next gather.
    const float* gather(Index rows, const float* x);

    // out [rows, n] = x W_local', x [rows, n_p] of each shard; w [n, N] is the w_rec part of a parameter buffer.
    void apply(const float* w, Index rows, std::span<const Activity> x, float* out);
    void apply(const float* w, Index rows, const float* gathered, float* out) {
        apply(w, rows, blocks_of(rows, gathered), out);
    }
    // out [rows, n] = this rank's block of the sum over shards of y W_local, y [rows, n].
    void apply_transposed(const float* w, Index rows, const float* y, float* out);
    // dw (the w_rec part [n, N] of a gradient) += y' x.
    void add_outer(Index rows, const float* y, std::span<const Activity> x, const SumMatrix& dw);
    void add_outer(Index rows, const float* y, const float* gathered, const SumMatrix& dw) {
        add_outer(rows, y, blocks_of(rows, gathered), dw);
    }

    // The neurons of shard p, and of this rank.
    const BlockRange& block(Index p) const { return blocks_[static_cast<std::size_t>(p)]; }
    Index shards() const { return static_cast<Index>(blocks_.size()); }
    Index n() const { return n_; }

private:
    // The columns of shard p of W_local.
    Weights columns_of(const float* w, Index p) const {
        return {n_, block(p).size(), w + block(p).begin, blocks_.back().end};
    }
    std::vector<Activity> blocks_of(Index rows, const float* gathered) const;

    Backend& backend_;
    Communicator& comm_;
    std::vector<BlockRange> blocks_;
    std::vector<Index> sizes_;  // message sizes of the next collective, one per shard
    Index n_;
    // If there are several shards:
    Buffer<float> gathered_;  // [max_rows N]
    SumBuffer sums_;          // [max_rows n], this rank's finished sums
    SumBuffer partial_;       // [max_rows N], sums for all shards
};

}  // namespace spikefloss
