// Products with the row-sharded recurrent weights and their transpose, the only communication inside a time step:
//
//   apply             sum over terms of W_local x_d          [rows, N] of all ranks -> [rows, n]
//   apply_transposed  reduce_scatter(sum over terms of W_local' y_d)
//
// A term has the weights of one delay d (network/parameters.hpp). x_d is spikes or tangents of d - 1 steps before, y_d
// the adjoints of d - 1 steps later. All ranks hold a gathered array as P blocks [rows, n_p], one after another. Block
// p is multiplied with the columns of shard p of W_local [n, N], so no data is reordered. Spikes are sent as bits
// (network/spike_tape.hpp).
//
// A backend can have copies of dense weights with which products take less time (Backend::pack). They are made when a
// product first needs them after begin().
#pragma once

#include "backend/buffer.hpp"
#include "network/parameters.hpp"
#include "parallel/process_grid.hpp"

#include <functional>
#include <span>
#include <vector>

namespace spikefloss {

class Recurrence {
public:
    // For N neurons and arrays of at most max_rows rows. operand: what apply() is mostly called with. With spikes,
    // apply() and apply_transposed() should not alternate: their copies of the weights have the same memory.
    Recurrence(Backend& backend, const ProcessGrid& grid, Index neurons, std::vector<Term> terms, Index max_rows,
               Product operand = Product::values);

    // Before products after the weights have changed, or after a whole pass of the backend has run: both use the
    // memory of passes.
    void begin() { operands_.of = adjoints_.of = nullptr; }

    // x [rows, n] of this rank -> all P blocks [rows, n_p]. The second form: in memory of the caller [rows, N].
    const float* gather(Index rows, const float* x);
    void gather(Index rows, const float* x, float* gathered) const;
    std::vector<Activity> blocks_of(Index rows, const float* gathered) const;

    // The x_d [rows, n_p] of each shard, none if there is nothing to add; the y_d [rows, n], null likewise.
    using Operand = std::function<std::vector<Activity>(Index delay)>;
    using Adjoint = std::function<const float*(Index delay)>;

    // w: the w_rec part of a parameter buffer.
    void apply(const float* w, Index rows, const Operand& x, float* out);
    // out [rows, n] = this rank's block of the sum over shards.
    void apply_transposed(const float* w, Index rows, const Adjoint& y, float* out);
    // dw (the w_rec part of a gradient) += y' x for one term.
    void add_outer(const Term& term, Index rows, const float* y, std::span<const Activity> x, const SumMatrix& dw);

    const std::vector<Term>& terms() const { return terms_; }
    // The neurons of shard p, and of this rank.
    const BlockRange& block(Index p) const { return blocks_[static_cast<std::size_t>(p)]; }
    Index shards() const { return static_cast<Index>(blocks_.size()); }
    Index neurons() const { return blocks_.back().end; }
    Index n() const { return n_; }

private:
    // Copies of the dense weights of all terms and shards, for one kind of product.
    struct Packed {
        Product product;
        std::vector<Index> offset = {};  // [terms, shards]; -1: there is none
        Index size = 0;
        Buffer<float> panels = {};
        const float* of = nullptr;  // the weights that were copied
    };
    Packed packed_for(Product product) const;
    bool same_memory() const { return operands_.product == Product::spikes; }
    void pack(Packed& packed, const float* w);
    // The weights of a term from the neurons of shard p, with their copy in `packed`, if it is not null.
    Weights weights(const Term& term, const float* w, Index p, const Packed* packed) const;
    const Packed* packed_of(const Activity& x) const;
    // Whether one product is the whole sum.
    bool single() const { return shards() == 1 && terms_.size() == 1; }

    Backend& backend_;
    Communicator& comm_;
    std::vector<BlockRange> blocks_;
    std::vector<Term> terms_;
    std::vector<Index> sizes_;  // message sizes of the next collective, one per shard
    Index n_;
    Buffer<float> gathered_;  // [max_rows N], if there are several shards
    // Unless one product is the whole sum:
    SumBuffer sums_;     // [max_rows n], this rank's finished sums
    SumBuffer partial_;  // [max_rows N], sums for all shards
    Packed operands_, adjoints_;
};

// Whether W x of all steps is one product with a dense W. Only then inputs can be bits.
bool one_dense_product(const std::vector<Term>& terms);

// Steps [first, first + steps) of b sequences and their inputs x [steps, b, M], which follow those of the steps before.
struct InputSteps {
    Index b, M, first, steps;
    const float* x;             // or null, if there are bits
    const std::uint32_t* bits;  // of the same inputs, or null
};
// The same for the terms of the inputs: out [steps b, n] = sum over terms of W x[t+1-d], w: the w_in part of a
// parameter buffer; and its gradient, dw += the sum over terms and steps of g' x[t+1-d], g [steps b, n].
void project_inputs(Backend& backend, const std::vector<Term>& terms, const InputSteps& inputs, const float* w, Index n,
                    float* out);
void add_inputs(Backend& backend, const std::vector<Term>& terms, const InputSteps& inputs, const float* g, Index n,
                const SumMatrix& dw);

}  // namespace spikefloss
