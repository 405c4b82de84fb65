// All step operations: arithmetic on one process, on memory that is already allocated. CpuBackend and CudaBackend
// implement them; tests compare each operation with tests/reference. A Backend does not depend on ranks.
//
// Symbols: b sequences and n neurons of this rank, k tangent vectors per sequence, T steps, O readouts. `rows` is b,
// b k or T b; an operation over [rows, n] treats all rows alike. Pointers are to backend memory unless a comment says
// otherwise. Operations are queued in order. Only copy_out and operations that return a value wait for the queue.
#pragma once

#include "backend/memory.hpp"
#include "backend/update.hpp"
#include "core/view.hpp"
#include "neuron/lif.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace spikefloss {

// The weights of a product [rows, cols], the rows `stride` floats apart.
struct Weights {
    Index rows, cols;
    const float* values;
    Index stride;
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
    const float* alpha;
    const float* beta;
    const float* bias;
    bool operator==(const NeuronVectors&) const = default;
};

// The tangent vectors of all sequences are one array, the basis [b, k, D]. Row j of sequence s is vector j: its current
// part [n], if the state has a current (some alpha is not 0), before its membrane part [n].
struct BasisShape {
    Index b, k, n;
    bool current;

    SPIKEFLOSS_HD Index rows() const { return b * k; }
    // NOLINTNEXTLINE(readability-identifier-naming): D of the equations
    SPIKEFLOSS_HD Index D() const { return current ? 2 * n : n; }
    SPIKEFLOSS_HD Index membrane() const { return current ? n : 0; }  // where the membrane part of a row begins
    SPIKEFLOSS_HD Index size() const { return rows() * D(); }
};

// For the gradients with respect to alpha and beta of a tangent step: the Q before it, W x, and [1, n] sums.
struct TangentTimeConstants {
    const float *q, *wx;
    SumMatrix d_alpha, d_beta;
};

// The outputs of neuron_step_backward for alpha and beta: d_alpha[j] += sum over b of g i_before; d_beta[j] += sum over
// b of dv (u_before - i_now). [1, n] sums.
struct TimeConstantSums {
    const float *i_before, *i_now;  // [b, n]
    SumMatrix d_alpha, d_beta;
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

// 32 neurons per word.
SPIKEFLOSS_HD Index spike_words(Index n) { return (n + 31) / 32; }

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

    // A new recording; null where replaying saves nothing (CPU).
    virtual std::unique_ptr<Recording> recording() { return nullptr; }

    // ---- sums and products ------------------------------------------------------------------------------------------
    // out[rows, w.rows] = x W', or += when accumulate; x is [rows, w.cols]. Sums are taken in sums(). If out has floats
    // and sums() is float64, each sum is rounded once. The same holds for the next two.
    virtual void project(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) = 0;
    // out[rows, w.cols] = y W, or += when accumulate; y is [rows, w.rows].
    virtual void project_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) = 0;
    // gradient[n, m] += y' x; y is [rows, n], x [rows, m].
    virtual void add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient) = 0;
    // c[j] += sum over rows of a[row, j]; c is [1, cols].
    virtual void add_column_sums(Matrix<const float> a, SumMatrix c) = 0;
    // out[i] = in[i] rounded to float; in and out may be the same memory when sums() is float32.
    virtual void round_sums(const void* in, float* out, Index count) = 0;
    // *sum += the sum of squares of x[count], in double; sum is backend memory. A non-finite element makes it
    // non-finite.
    virtual void sum_squares(const float* x, Index count, double* sum) = 0;
    // out[r] = sum over columns of a[r, j]^2 + b[r, j]^2, in double; b may be null.
    virtual void row_sum_squares(Index rows, Index n, const float* a, const float* b, double* out) = 0;
    // Scales row r of a and of b by min(1, limit[0] / sqrt(squares[r])). The limit is in backend memory, so that a
    // recorded pass is the same for every limit.
    virtual void cap_rows(Index rows, Index n, const double* squares, const float* limit, float* a, float* b) = 0;
    // out[r, j] = row[j] for each of `rows` rows.
    virtual void repeat_row(Index rows, Index n, const float* row, float* out) = 0;

    // ---- neurons: state, forwards and backwards ---------------------------------------------------------------------
    // One step of neuron/lif.hpp for [b, n]; total = (input + recurrent) + bias. i_next may be i.
    virtual void neuron_step(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                             const float* input, const float* recurrent, const float* i, const float* u, float* i_next,
                             float* u_next) = 0;
    // bits [rows, spike_words(n)]: bit j of a row is set when u[row, j] > theta.
    virtual void pack_spikes(const NeuronModel& model, Index rows, Index n, const float* u, std::uint32_t* bits) = 0;
    // *count += the number of set bits in bits [rows, words], the rows `stride` words apart; count is backend memory.
    virtual void count_spikes(Index rows, Index words, const std::uint32_t* bits, Index stride, double* count) = 0;
    // From the adjoints (di, du) of step t computes the adjoint g of the current, and the parts of (di, du) of step t-1
    // that need no recurrence: dv = du (1 - s[t-1]) for reset zero, else du; g = di + (1-beta) dv; di = alpha g; du =
    // beta dv. time_constants: null, or also these sums.
    virtual void neuron_step_backward(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index n,
                                      const float* u_before, float* di, float* du, float* g,
                                      const TimeConstantSums* time_constants) = 0;
    // du += psi back + r + e, in this order, with psi = psi(u - theta) and r = from_readout, times psi if the readout
    // reads spikes. [rows, n] each; back, from_readout and extra (e) may be null: nothing is added.
    virtual void add_adjoints(const NeuronModel& model, Readout readout, Index rows, Index n, const float* u,
                              const float* back, const float* from_readout, const float* extra, float* du) = 0;

    // ---- whole passes: many steps in one call, when one rank holds all N neurons ------------------------------------
    // The passes of the state (state_passes.hpp); a null object where the loop over step operations runs instead. Both
    // give the same result. The objects allocate their scratch from `memory`.
    virtual StatePasses state_passes(const StatePlan& plan, Memory& memory) = 0;
    // The whole tangent passes for this plan, with scratch from `memory`.
    virtual TangentPasses tangent_passes(const TangentPlan& plan, Memory& memory) = 0;

    // ---- readout and loss -------------------------------------------------------------------------------------------
    // y[t] = kappa y[t-1] + (1 - kappa) (z[t] + bias), y[-1] = 0; z and y are [T, b, O] and may be the same memory.
    virtual void readout_filter(Index T, Index b, Index O, const float* kappa, const float* bias, const float* z,
                                float* y) = 0;
    // dz[t] = (1 - kappa) dr[t], dr[t] = kappa dr[t+1] + dy[t]; d_kappa[o] += sum of dr[t] (y[t-1] - (z[t] + bias)).
    // dy and dz may be the same memory. z[t] + bias is recovered from y. d_kappa [1, O] sums.
    virtual void readout_filter_backward(Index T, Index b, Index O, const float* kappa, const float* y, const float* dy,
                                         float* dz, SumMatrix d_kappa) = 0;
    // Binary cross-entropy with logits y against target, both [T, b, O], where mask [T, b] is 1: result[0] = the sum of
    // the losses, result[1] = the number of elements with the right sign (double, backend memory);
    // dy = weight (sigmoid(y) - target) mask.
    virtual void binary_cross_entropy(Index T, Index b, Index O, const float* y, const float* target, const float* mask,
                                      float weight, float* dy, double* result) = 0;
    // Softmax cross-entropy of each sequence's mean of y over its steps with mask 1, at least one, against label [b];
    // result and dy as above, dy scaled by weight.
    virtual void softmax_cross_entropy(Index T, Index b, Index O, const float* y, const std::int32_t* label,
                                       const float* mask, float weight, float* dy, double* result) = 0;

    // ---- tangents: forwards and backwards ---------------------------------------------------------------------------
    // x = psi(u - theta) * Q.membrane, u [b, n], x [b, k, n].
    virtual void tangent_input(const NeuronModel& model, const BasisShape& shape, const float* u, const float* q,
                               float* x) = 0;
    // P.current = alpha Q.current + wx;  P.membrane = (1 - s) (beta Q.membrane + (1-beta) P.current). P may be Q.
    virtual void tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                              const BasisShape& shape, const float* u, const float* wx, const float* q, float* p) = 0;
    // A.membrane *= (1 - s);  g = A.current + (1-beta) A.membrane.
    // With time_constants: d_alpha[j] += sum of g Q.current; d_beta[j] += sum of A.membrane (Q.membrane - P.current),
    // over b and k, with P.current = alpha Q.current + wx.
    virtual void tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                       const BasisShape& shape, const float* u, float* a, float* g,
                                       const TangentTimeConstants* time_constants) = 0;
    // With back = W_rec' g: e[b, n] += psi'(u - theta) sum over k of back * Q.membrane;
    // A.current = alpha g;  A.membrane = beta A.membrane + psi(u - theta) back. (A becomes the adjoint of Q.)
    virtual void tangent_input_backward(const NeuronModel& model, const NeuronVectors& neurons, const BasisShape& shape,
                                        const float* u, const float* q, const float* back, const float* g, float* a,
                                        float* e) = 0;

    // ---- QR of [D, k] bases with sharded rows -----------------------------------------------------------------------
    // G[b, k, k] = x y', in double; x and y are bases.
    virtual void gram(const BasisShape& shape, const float* x, const float* y, double* g) = 0;
    // g = R' R with R upper triangular and R_jj > 0, in place, the lower triangle set to 0. Round 0: r = R. Round 1:
    // r = R r. log_r[b, k] = ln r_jj. `findings` are updated, so that the host need not wait. A failure recorded
    // earlier stays.
    virtual void cholesky(Index b, Index k, const QrRound& round, double* g, double* r, double* log_r,
                          const QrFindings& findings) = 0;
    // x[b, k, D] <- (R^-1)' x: the rows of x, which are the columns of A, become those of Q = A R^-1.
    virtual void divide_by_r(Index b, Index k, Index D, const double* r, float* x) = 0;
    // Householder QR of A (rows of x are columns of A), R_jj > 0, log_r as in cholesky; info[s] is 0, or the column
    // (from 1) at which sequence s fails.
    virtual void householder(Index b, Index k, Index D, float* x, double* r, double* log_r, std::int32_t* info) = 0;
    // The adjoint of A = Q R. qbq [b, k, k] holds Qb'Q, and weight[b, j] = dL/d(ln R_jj):
    //   Rb = diag(weight[j] / R_jj),  M = R Rb' - Qb'Q,  C = tril(M) + tril(M, -1)',  Qb <- (Qb + Q C) R^-T.
    // qbq is overwritten by C.
    virtual void qr_backward(Index b, Index k, Index D, const float* q, const double* r, const double* weight,
                             double* qbq, float* qb) = 0;

    // ---- optimisers -------------------------------------------------------------------------------------------------
    // Changes the values and moments of `view` by one update (backend/update.hpp).
    virtual void update(const UpdateRule& rule, Constraint constraint, float gradient_scale,
                        const UpdateView& view) = 0;
};

}  // namespace spikefloss
