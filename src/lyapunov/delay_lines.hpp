// The spikes that are on their way through delays, as rows of the tangent basis. A neuron of depth L_j (the largest
// delay that leaves it, minus 1) has L_j rows: H_l is the perturbation of its spike l steps ago. These rows are never
// stored. What is kept of each of the last L steps t', L = max L_j:
//
//   sigma[t']  [b, k, n]  the perturbation of the spikes, as it was made;  H_l = sigma[t'] C[t'],  l = t - t'
//   C[t']      [b, k, k]  the product of the R^-1 since
//   Gamma_d    [b, k, k]  sigma' sigma over the neurons of depth d
//
// The rows add to the Gram matrix of a QR of lag l: C' (sum over d >= l of Gamma_d) C. Backwards, as seen from the
// basis in which sigma was made, its adjoint is X + sigma Y_d, and K = X' sigma:
//
//   Qb'Q += C^-1 (K + sum over d >= l of Y_d Gamma_d) C;   Y_d += C C_q C' for d >= l;   then C <- C R
//
// All matrices are in double on the host. Gamma and K are of this rank's neurons: the sum over ranks is that of the
// Gram matrix.
#pragma once

#include "backend/buffer.hpp"
#include "network/parameters.hpp"
#include "parallel/process_grid.hpp"

#include <deque>
#include <vector>

namespace spikefloss {

class DelayLines {
public:
    using Matrices = std::vector<double>;  // [b, k, k]

    // rows_of_all: the floats of a gathered sigma, b k N; keeps_adjoint: also for backward passes.
    DelayLines(Backend& backend, const ParameterLayout& layout, const BasisShape& shape, Index rows_of_all,
               bool keeps_adjoint);

    // L; 0: no recurrent projection has a delay above 1, and nothing is kept.
    Index depth() const { return depth_; }

    // Forgets all steps.
    void clear() { lines_.clear(); }
    // Where the gathered sigma of step t is. It is kept until step t + L is over.
    float* place(Index t) { return sigma_.data() + t % capacity_ * rows_of_all_; }
    // Adds step t, whose sigma is in its place; `own` [b, k, n] is this rank's part.
    void enter(Index t, const float* own, Matrices c);
    void enter(Index t, const float* own) { enter(t, own, identity()); }
    // Forgets the steps before `first`.
    void leave_before(Index first);
    // Forgets step t and those after it. For backward passes.
    void leave(Index t);
    bool holds(Index t) const { return !lines_.empty() && t >= lines_.front().made && t <= lines_.back().made; }
    const Matrices& c(Index t) const { return line(t).c; }
    // y [b, k, n] += x C[t], and y += x C[t]'.
    void add_times_c(Index t, const float* x, float* y);
    void add_times_c_transposed(Index t, const float* x, float* y);

    // ---- QR after step `end` (from 1); all lines are of steps end - L .. end - 1 ----
    // Adds the rows' part of the Gram matrix, this rank's.
    void add_gram(Index end, Matrices& g) const;
    // Every C <- C R^-1. r: upper triangular.
    void divide(const Matrices& r);
    // The columns of C of vectors that are lost, from `first` on, become 0.
    void drop(Index sequence, Index first);

    // Steps that the next `steps` steps overwrite can be had again by rewind().
    void mark(Index steps);
    void rewind();

    // ---- backwards ----
    void add_adjoint_gram(Index end, Matrices& qbq) const;
    // Y and C after the adjoint of the QR; cq is the C of lyapunov/qr.hpp. C becomes that before this QR.
    void take_back(Index end, const Matrices& cq, const Matrices& r);
    // X[t] += x and K[t] += x' sigma[t]; x [b, k, n], own: this rank's sigma.
    void add_adjoint(Index t, const float* x, const float* own);
    // y += X[t] + sigma[t] Y.
    void add_whole_adjoint(Index t, const float* own, float* y);

    Matrices identity() const;
    // R^-1 c; r upper triangular.
    Matrices divided_by(const Matrices& r, Matrices c) const;

private:
    struct Line {
        Index made;
        Matrices c, k = {};
        std::vector<Matrices> gamma = {}, y = {};  // for each range
    };
    // This rank's neurons of a population of depth > 0.
    struct Range {
        Index begin, end, depth;
    };
    Line& line(Index t) { return lines_[static_cast<std::size_t>(t - lines_.front().made)]; }
    const Line& line(Index t) const { return lines_[static_cast<std::size_t>(t - lines_.front().made)]; }
    float* adjoint(Index t) { return adjoint_.data() + t % (depth_ + 1) * shape_.rows() * shape_.n; }
    Matrices gram(const float* x, const float* y, Index begin, Index end);
    void add_product(const Matrices& c, const float* x, float* y, Index begin, Index end);
    // The sum over ranges with a row of this lag.
    Matrices sum_of(const std::vector<Matrices>& gamma, Index lag) const;

    Backend& backend_;
    BasisShape shape_;
    Index rows_of_all_, depth_ = 0, capacity_;
    bool keeps_adjoint_;
    std::vector<Range> ranges_;
    std::deque<Line> lines_;   // of consecutive steps
    Buffer<float> sigma_;      // [capacity][b, k, N]
    Buffer<float> adjoint_;    // [L + 1][b, k, n] X
    Buffer<double> matrices_;  // [b, k, k] for the backend
    std::deque<Line> marked_lines_;
    Buffer<float> marked_;  // [L][b, k, N], if a mark needed a copy
    bool copied_ = false;
};

}  // namespace spikefloss
