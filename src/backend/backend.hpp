// All step operations: arithmetic on one process, on memory that is already allocated. CpuBackend and CudaBackend
// implement them; tests compare each operation with tests/reference. A Backend does not depend on ranks.
//
// Symbols: b sequences and n neurons of this rank, k tangent vectors per sequence, T steps, O readouts. `rows` is b,
// b k or T b; an operation over [rows, n] treats all rows alike. Pointers are to backend memory unless a comment says
// otherwise. Operations are queued in order. Only copy_out and operations that return a value wait for the queue.
#pragma once

#include "backend/pass_memory.hpp"
#include "backend/update.hpp"
#include "core/view.hpp"
#include "neuron/lif.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include <time.h>

namespace spikefloss {

// The entries of rows [first, first + rows) of a sparse matrix from one range of columns. A column of an entry counts
// from first_column (can be negative), the operand's column 0.
struct PatternRows {
    Index first, rows;
    const Index *begin, *end;  // [rows]
    Index first_column;
};

// Indices of entries, in backend memory: of 16 bits if all of them fit, else of 32. The other pointer is null.
struct EntryIndices {
    const std::uint16_t* narrow = nullptr;
    const std::int32_t* wide = nullptr;

    SPIKEFLOSS_HD Index operator[](Index e) const { return narrow ? Index{narrow[e]} : Index{wide[e]}; }
};

// The synapses of this rank's rows of a sparse matrix [rows, cols] by row (CSR) and by column, in ascending order. A
// row can be in several parts, then its columns ascend from part to part. Patterns of other columns share the arrays of
// entries. All pointers are to backend memory, also that of the parts.
struct SparsePattern {
    Index rows, cols;
    std::span<const PatternRows> parts;  // ordered by `first`; two parts have the same rows or none in common
    EntryIndices column;                 // [entries]
    const PatternRows* by_column;        // the columns as rows, in one part
    EntryIndices row;                    // [entries] by column
    const std::uint32_t* place;          // [entries] the entry that this is
};

// A kind of product with weights: project with spikes as bits, project with floats, or project_transposed.
enum class Product { spikes, values, adjoints };

// The weights of a product [rows, cols], the rows `stride` floats apart; or sparse, with a pattern.
struct Weights {
    Index rows, cols;
    const float* values;                     // sparse: [entries]
    Index stride;                            // dense only
    const SparsePattern* pattern = nullptr;  // host memory
    const float* by_column = nullptr;        // values[place[i]] as entry i, which saves time; or null
    const float* packed = nullptr;           // dense only: the copy by Backend::pack for this product; or null
};

// What weights are multiplied with: rows of spikes as bits, or rows of floats. The other pointer is null.
struct Activity {
    const std::uint32_t* bits = nullptr;  // bit j % 32 of word j / 32 is neuron j; the bits after the last are 0
    const float* values = nullptr;
    Index stride = 0;                      // words or floats from row to row
    Index step_rows = 0, step_stride = 0;  // bits only: rows of a step, and words from step to step; 0: one step
    bool sparse = false;                   // values only: most can be 0 (inputs that spike), so skipping them can pay

    // Words or floats before a row.
    SPIKEFLOSS_HD Index before(Index row) const {
        return step_rows == 0 ? row * stride : row / step_rows * step_stride + row % step_rows * stride;
    }
};

// Per-neuron constants, [n] each.
struct NeuronVectors {
    const float *alpha, *beta, *bias;
    const float* threshold = nullptr;  // theta; null: NeuronModel::threshold for all
    // rho, a_u, a_s; null without adaptation
    const float *rho = nullptr, *adapt_membrane = nullptr, *adapt_spike = nullptr;
    bool operator==(const NeuronVectors&) const = default;
};

// 32 neurons per word.
SPIKEFLOSS_HD Index spike_words(Index n) { return (n + 31) / 32; }

// Which neurons of a step are refractory (m = 0): those with a bit in the spikes of one of the steps before. `spikes`
// are the bits of the last step, [rows, spike_words(n)], the rows `stride` words apart; those of each earlier step are
// `step_stride` words before. `steps` is the number of these steps; 0: no neuron is refractory.
struct Refractory {
    const std::uint32_t* spikes = nullptr;
    Index stride = 0, steps = 0, step_stride = 0;

    // The refractory neurons 32 word .. 32 word + 31 of a row, as bits.
    SPIKEFLOSS_HD std::uint32_t bits(Index row, Index word) const {
        std::uint32_t all = 0;
        for (Index l = 0; l < steps; ++l) all |= spikes[row * stride + word - l * step_stride];
        return all;
    }
};

// The state of a step, [rows, n] each. An operation that does not need a part takes null. w: with adaptation only.
struct NeuronState {
    const float *i, *u, *w = nullptr;
    Refractory refractory{};
};
// The state after a step, to be written.
struct NextState {
    float *i, *u, *w = nullptr;
};
// The adjoint of a state.
struct StateAdjoint {
    float *di, *du, *dw = nullptr;
    bool operator==(const StateAdjoint&) const = default;
};

// The tangent vectors of all sequences are one array, the basis [b, k, D]. Row j of sequence s is vector j: its current
// part [n], if the state has a current (some alpha is not 0), its membrane part [n], and its adaptation part [n], if
// the neurons adapt.
// The sum of squares of x [rows, cols], with rows `stride` elements apart, is added to *sum; backend memory.
struct Squares {
    const float* x;
    Index rows, cols, stride;
    double* sum;
};

struct BasisShape {
    Index b, k, n;
    bool current, adaptation = false;

    SPIKEFLOSS_HD Index rows() const { return b * k; }
    // NOLINTNEXTLINE(readability-identifier-naming): D of the equations
    SPIKEFLOSS_HD Index D() const { return n * (1 + (current ? 1 : 0) + (adaptation ? 1 : 0)); }
    // Where these parts of a row begin.
    SPIKEFLOSS_HD Index membrane() const { return current ? n : 0; }
    SPIKEFLOSS_HD Index adaptation_part() const { return membrane() + n; }
    SPIKEFLOSS_HD Index size() const { return rows() * D(); }
};

// Columns of rows that are longer.
struct ColumnRange {
    Index begin, end;
    SPIKEFLOSS_HD Index size() const { return end - begin; }
};

// The gradients with respect to the constants of the neurons, [1, n] sums each; null data: not wanted.
struct ConstantSums {
    SumMatrix alpha{}, beta{}, threshold{}, rho{}, adapt_membrane{}, adapt_spike{};
    bool operator==(const ConstantSums&) const = default;
    bool any() const {
        return alpha.data || beta.data || threshold.data || rho.data || adapt_membrane.data || adapt_spike.data;
    }
};

struct StatePlan;  // state_passes.hpp
struct StatePasses;

// The findings of the QRs of a pass about each sequence, in backend memory. Strain is the largest of ln(|A_j| / R_jj),
// the digits that vector j loses when the earlier ones are taken off, and |ln R_jj| / 8, over all j and QRs.
struct QrFindings {
    std::int32_t* failure;  // [b, 2] step and column (from 1) of the first QR that failed, 0 0: none. Column 0: a
                            // second round is needed (lyapunov/qr.hpp), but the pass makes one round
    double* strain;         // [b]
    bool operator==(const QrFindings&) const = default;
};

// After one round of Cholesky QR, |Q'Q - I| is about 2^-53 kappa^2 + 2^-24. The ratio of the largest to the smallest
// R_jj is a lower bound of kappa. Above this ratio a second round follows.
inline constexpr double qr_second_round_ratio = 1e3;

// The second round corrects the rounding errors of the first, whose vectors otherwise have norm 1. If less than this of
// a vector remains, it is a combination of the earlier ones: the first round found only rounding errors.
inline constexpr double qr_lost_rank = 1e-3;

// One round of a Cholesky QR after step `step` (from 1).
struct QrRound {
    Index step;
    int round;  // 0 or 1
    bool last;  // no other round follows
};

struct TangentPlan;  // backend/tangent_passes.hpp
struct TangentPasses;

// A sequence of operations on fixed memory, recorded once and replayed as a unit (a CUDA graph).
class Recording {
public:
    virtual ~Recording() = default;
    // Queues the operations of `work`, which must be the same at every call. These are operations of the backend that
    // do not allocate and do not wait, and collectives of communicators that are recorded(). All ranks of such a
    // collective must make the same calls.
    virtual void run(const std::function<void()>& work) = 0;
};

class Backend : public Memory {
public:
    virtual std::string name() const = 0;
    virtual Sums sums() const = 0;
    // The best number of rows (steps x sequences) of n neurons for products and passes over many steps to take at once;
    // at least 1.
    virtual Index chunk_rows(Index n) const = 0;

    // ---- scratch of operations: one array, which grows to the largest that an operation asks for --------------------
    // The most bytes that the operations in `work` ask for. They compute nothing.
    std::size_t scratch_of(const std::function<void()>& work) {
        std::size_t most = 0;
        counted_ = &most;
        work();
        counted_ = nullptr;
        return most;
    }
    // Whether scratch is only counted: an operation then returns after it has asked. So does a whole pass after the
    // operations that it calls have asked.
    bool counting() const { return counted_ != nullptr; }
    std::size_t scratch_bytes() const { return scratch_bytes_; }
    void reserve_scratch(std::size_t bytes) { scratch<char>(static_cast<Index>(bytes)); }

    // ---- interruption -----------------------------------------------------------------------------------------------
    // Loops over steps, chunks and segments call may_stop() on the thread of the caller. It calls `check`, at most
    // every check_interval. What that throws ends the pass, which can begin again. A whole pass does not stop inside:
    // its threads take their sequences through all steps without waiting for each other.
    void set_check(std::function<void()> check) {
        check_ = std::move(check);
        checked_ = milliseconds();
    }
    void may_stop() {
        if (!check_ || milliseconds() - checked_ < check_interval) return;
        check_();
        checked_ = milliseconds();
    }

    // ---- inputs as bits ---------------------------------------------------------------------------------------------
    // Whether inputs [rows, m] of n neurons can be worth packing on this backend. Only if its memory is the host's.
    virtual bool packs_inputs(Index /*rows*/, Index /*m*/, Index /*n*/) const { return false; }
    // Writes the bits [rows, spike_words(m)] of x [rows, m] if all entries are 0 or 1 and products with the bits take
    // less time than with x. Returns whether it did.
    virtual bool pack_inputs(const float* /*x*/, Index /*rows*/, Index /*m*/, Index /*n*/, std::uint32_t* /*bits*/) {
        return false;
    }

    // ---- dense weights in another order -----------------------------------------------------------------------------
    // Floats of a copy of dense weights [rows, cols] for many products of one kind, which take less time with it; 0:
    // none.
    virtual Index packed_size(Product /*of*/, Index /*rows*/, Index /*cols*/) const { return 0; }
    // Writes this copy.
    virtual void pack(Product /*of*/, const Weights& /*w*/, float* /*to*/) {}

    // A new recording; null where replaying saves nothing (CPU).
    virtual std::unique_ptr<Recording> recording() { return nullptr; }

    // ---- whole passes: many steps in one call, when one rank holds all N neurons ------------------------------------
    // The passes of the state (state_passes.hpp); a null object where the loop over step operations runs instead. Both
    // give the same result. The objects allocate their scratch from `memory`: in a run, pass_memory().
    virtual StatePasses state_passes(const StatePlan& plan, Memory& memory) = 0;
    // The whole tangent passes for this plan, with scratch from `memory`.
    virtual TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) = 0;
    PassMemory& pass_memory() { return pass_memory_; }

    // All operations.
#define SPIKEFLOSS_OPERATION(name, ...) virtual void name(__VA_ARGS__) = 0
#include "backend/operations.inc"

    // ---- several operations of the QR as one, when one rank holds all rows of the bases; a backend can fuse them
    // ------ One round after step `step`: gram(x, x), cholesky and divide_by_r. x becomes Q; g [b, k, k] is work space.
    virtual void factorise_basis(const BasisShape& shape, Index step, float* x, double* g, double* r, double* log_r,
                                 const QrFindings& findings) {
        gram(shape, x, x, g);
        cholesky(shape.b, shape.k, {step, 0, true}, g, r, log_r, findings);
        divide_by_r(shape.b, shape.k, shape.D(), g, x);
    }
    // Its adjoint: gram(qb, q) and qr_backward.
    virtual void factorise_basis_backward(const BasisShape& shape, const float* q, const double* r,
                                          const double* weight, double* g, float* qb) {
        gram(shape, qb, q, g);
        qr_backward(shape.b, shape.k, shape.D(), q, r, weight, g, qb);
    }

protected:
    // Scratch of an operation, which asks once, at its beginning. It is lost when another operation asks.
    template <class T>
    T* scratch(Index count) {
        const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(T);
        if (counted_) {
            *counted_ = std::max(*counted_, bytes);
            return nullptr;
        }
        if (bytes > scratch_bytes_) {
            scratch_bytes_ = 0;
            scratch_ = replace(std::exchange(scratch_, nullptr), bytes);
            scratch_bytes_ = bytes;
        }
        return static_cast<T*>(scratch_);
    }
    void* scratch_ = nullptr;  // a backend frees it in its destructor

private:
    std::size_t scratch_bytes_ = 0;
    std::size_t* counted_ = nullptr;
    // By the coarse clock, which takes 6 ns and advances every 4 ms; the other one takes 29 ns, and a step can take
    // 1000.
    static std::int64_t milliseconds() {
        timespec now = {};
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        return std::int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1'000'000;
    }
    static constexpr std::int64_t check_interval = 40;
    std::function<void()> check_;
    std::int64_t checked_ = 0;  // when
    PassMemory pass_memory_{*this};
};

}  // namespace spikefloss
