#include "network/recurrence.hpp"

#include "backend/state_passes.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

char* sums_at(const SumMatrix& sums, Index offset) {
    return static_cast<char*>(sums.data) + offset * static_cast<Index>(size_of(sums.type));
}

}  // namespace

Recurrence::Recurrence(Backend& backend, const ProcessGrid& grid, Index neurons, std::vector<Term> terms,
                       Index max_rows, Product operand)
    : backend_(backend),
      comm_(grid.neurons()),
      blocks_(block_ranges(neurons, grid.shape().neuron_shards)),
      terms_(std::move(terms)),
      sizes_(blocks_.size()),
      n_(grid.neurons_of(neurons).size()),
      gathered_(backend, shards() > 1 ? max_rows * neurons : 0),
      sums_(backend, single() ? 0 : max_rows * n_),
      partial_(backend, single() ? 0 : max_rows * neurons) {
    operands_ = packed_for(operand);
    adjoints_ = packed_for(Product::adjoints);
    const Index both = std::max(operands_.size, adjoints_.size);
    for (Packed* const packed : {&operands_, &adjoints_}) {
        if (packed == &operands_ || same_memory()) backend.pass_memory().begin_pass();
        packed->panels = Buffer<float>(backend.pass_memory(), same_memory() ? both : packed->size, Unset());
    }
}

Recurrence::Packed Recurrence::packed_for(Product product) const {
    Packed packed{.product = product};
    for (const Term& term : terms_)
        for (const BlockRange& block : blocks_) {
            const Index size = term.synapses ? 0 : backend_.packed_size(product, n_, block.size());
            packed.offset.push_back(size ? packed.size : -1);
            packed.size += size;
        }
    return packed;
}

void Recurrence::pack(Packed& packed, const float* w) {
    if (packed.of == w) return;
    if (same_memory()) begin();
    packed.of = w;
    const Index* offset = packed.offset.data();
    for (const Term& term : terms_)
        for (Index p = 0; p < shards(); ++p, ++offset)
            if (*offset >= 0)
                backend_.pack(packed.product, weights(term, w, p, nullptr), packed.panels.data() + *offset);
}

const float* Recurrence::gather(Index rows, const float* x) {
    if (shards() == 1) return x;
    gather(rows, x, gathered_.data());
    return gathered_.data();
}

void Recurrence::gather(Index rows, const float* x, float* gathered) const {
    std::vector<Index> sizes;
    for (const BlockRange& block : blocks_) sizes.push_back(rows * block.size() * static_cast<Index>(sizeof(float)));
    comm_.all_gather(x, gathered, sizes);
}

std::vector<Activity> Recurrence::blocks_of(Index rows, const float* gathered) const {
    std::vector<Activity> blocks;
    for (const BlockRange& block : blocks_)
        blocks.push_back({.values = gathered + rows * block.begin, .stride = block.size()});
    return blocks;
}

Weights Recurrence::weights(const Term& term, const float* w, Index p, const Packed* packed) const {
    if (term.synapses) return term.synapses->weights(p, w + term.offset);
    Weights of_block{n_, block(p).size(), w + term.offset + block(p).begin, neurons()};
    const Index offset = packed ? packed->offset[static_cast<std::size_t>((&term - terms_.data()) * shards() + p)] : -1;
    if (offset >= 0) of_block.packed = packed->panels.data() + offset;
    return of_block;
}

// Products of both kinds of operands are right; one of them takes less time.
const Recurrence::Packed* Recurrence::packed_of(const Activity& x) const {
    return (operands_.product == Product::spikes) == (x.bits != nullptr) ? &operands_ : nullptr;
}

void Recurrence::apply(const float* w, Index rows, const Operand& x, float* out) {
    pack(operands_, w);
    if (single()) {
        const std::vector<Activity> operand = x(terms()[0].delay);
        if (operand.empty()) return backend_.zero(out, static_cast<std::size_t>(rows * n_) * sizeof(float));
        return backend_.project(weights(terms()[0], w, 0, packed_of(operand[0])), operand[0],
                                Matrix<float>(out, rows, n_), false);
    }
    const SumMatrix sums = sums_.matrix(rows, n_);
    bool begun = false;
    for (const Term& term : terms()) {
        const std::vector<Activity> operand = x(term.delay);
        if (operand.empty()) continue;
        for (Index p = 0; p < shards(); ++p) {
            const Activity& x_p = operand[static_cast<std::size_t>(p)];
            backend_.project(weights(term, w, p, packed_of(x_p)), x_p, sums, begun);
            begun = true;
        }
    }
    if (!begun) backend_.zero(sums_.data(), static_cast<std::size_t>(rows * n_) * size_of(sums.type));
    backend_.round_sums(sums_.data(), out, rows * n_);
}

void Recurrence::apply_transposed(const float* w, Index rows, const Adjoint& y, float* out) {
    pack(adjoints_, w);
    if (single()) {
        const float* const factor = y(terms()[0].delay);
        if (!factor) return backend_.zero(out, static_cast<std::size_t>(rows * n_) * sizeof(float));
        return backend_.project_transposed(weights(terms()[0], w, 0, &adjoints_), {factor, rows, n_},
                                           Matrix<float>(out, rows, n_), false);
    }
    for (Index p = 0; p < shards(); ++p) {
        const Index n_p = block(p).size();
        const SumMatrix sums = partial_.matrix(rows, n_p, rows * block(p).begin);
        sizes_[static_cast<std::size_t>(p)] = rows * n_p;
        bool begun = false;
        for (const Term& term : terms()) {
            const float* const factor = y(term.delay);
            if (!factor) continue;
            backend_.project_transposed(weights(term, w, p, &adjoints_), {factor, rows, n_}, sums, begun);
            begun = true;
        }
        if (!begun) backend_.zero(sums.data, static_cast<std::size_t>(rows * n_p) * size_of(sums.type));
    }
    if (shards() == 1) return backend_.round_sums(partial_.data(), out, rows * n_);
    comm_.reduce_scatter_sum(partial_.data(), sums_.data(), sums_.type(), sizes_);
    backend_.round_sums(sums_.data(), out, rows * n_);
}

void Recurrence::add_outer(const Term& term, Index rows, const float* y, std::span<const Activity> x,
                           const SumMatrix& dw) {
    const Matrix<const float> factor(y, rows, n_);
    for (Index p = 0; p < shards(); ++p) {
        const Activity& operand = x[static_cast<std::size_t>(p)];
        if (term.synapses)
            backend_.add_outer(factor, operand, {sums_at(dw, term.offset), dw.type, 1, term.entries, term.entries},
                               &term.synapses->pattern(p));
        else
            backend_.add_outer(factor, operand,
                               {sums_at(dw, term.offset + block(p).begin), dw.type, n_, block(p).size(), neurons()},
                               nullptr);
    }
}

// ---- inputs ---------------------------------------------------------------------------------------------------------

namespace {

// One product that begins with the first step of a chunk.
bool single(const std::vector<Term>& terms) { return terms.size() == 1 && terms[0].delay == 1; }

// Calls work(term, weights, steps skipped, x of the first step that is not). A term of delay d adds W x[t+1-d] in step
// t, and nothing where t+1-d < 0.
template <class Work>
void each_input_term(const std::vector<Term>& terms, const InputSteps& in, const float* w, Work&& work) {
    for (const Term& term : terms) {
        const Index skipped = std::clamp<Index>(term.delay - 1 - in.first, 0, in.steps);
        if (skipped == in.steps) continue;
        const Weights weights = term.synapses ? term.synapses->weights(0, w + term.offset)
                                              : Weights{term.rows, in.M, w + term.offset, in.M};
        work(term, weights, skipped, inputs_of(in.M, in.x + (skipped + 1 - term.delay) * in.b * in.M, in.bits));
    }
}

}  // namespace

bool one_dense_product(const std::vector<Term>& terms) { return single(terms) && !terms[0].synapses; }

void project_inputs(Backend& backend, const std::vector<Term>& terms, const InputSteps& in, const float* w, Index n,
                    float* out) {
    const bool accumulate = !single(terms);
    if (accumulate) backend.zero(out, static_cast<std::size_t>(in.steps * in.b * n) * sizeof(float));
    each_input_term(terms, in, w, [&](const Term&, const Weights& weights, Index skipped, const Activity& x) {
        const Matrix<float> to(out + skipped * in.b * n, (in.steps - skipped) * in.b, n);
        backend.project(weights, x, to, accumulate);
    });
}

void add_inputs(Backend& backend, const std::vector<Term>& terms, const InputSteps& in, const float* g, Index n,
                const SumMatrix& dw) {
    each_input_term(
        terms, in, nullptr, [&](const Term& term, const Weights& weights, Index skipped, const Activity& x) {
            const Matrix<const float> factor(g + skipped * in.b * n, (in.steps - skipped) * in.b, n);
            const Index rows = weights.pattern ? 1 : n, cols = weights.pattern ? term.entries : in.M;
            backend.add_outer(factor, x, {sums_at(dw, term.offset), dw.type, rows, cols, cols}, weights.pattern);
        });
}

}  // namespace spikefloss
