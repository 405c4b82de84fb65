// QR of the tangent bases whose rows are distributed over the neuron shards: Cholesky QR with the Gram matrix in double
// and one k x k all-reduce per round. (Fukaya et al. 2020; Yamamoto et al. 2015.)
//
// A pass makes one round per QR and never waits for the host. If a QR leaves doubt or fails, the pass is repeated
// carefully: the host decides after each round. A second round then follows if the first is not accurate enough, and
// Householder QR if one rank holds all neurons and the Gram matrix is not positive definite.
#pragma once

#include "lyapunov/delay_lines.hpp"

#include <functional>
#include <vector>

namespace spikefloss {

class TangentQr {
public:
    // `shape` is that of the basis of this rank. `lines`: its further rows, null or of depth 0: none. Where there are
    // some, the host waits for every QR.
    TangentQr(Backend& backend, const ProcessGrid& grid, const BasisShape& shape, DelayLines* lines = nullptr);

    // A = Q R with R_jj > 0, in one round: a becomes Q, r [b, k, k] becomes R, log_r [b, k] ln R_jj, all in backend
    // memory. What `findings` tell about it is the same on all neuron shards.
    void factorise(Index step, float* a, double* r, double* log_r, const QrFindings& findings);

    // The same with up to two rounds; log_r is host memory. If a vector is a combination of earlier ones and
    // `independent` is null, throws Error(Exit::numerics), which names `step` and the sequence (counted from
    // first_sequence). A measurement gives independent [b], k for each sequence at the start. Then this vector and all
    // later ones become 0 and stay 0, independent[s] becomes the number of vectors before it, and ln R_jj of the others
    // is -infinite. Vectors that are not finite are always an error. A vector is also a combination of earlier ones
    // if less than the fraction `least` of it is left; 0: if nothing is left but rounding in double.
    void factorise_carefully(Index step, Index first_sequence, float* a, double* r, double* log_r,
                             const QrFindings& findings, std::vector<Index>* independent = nullptr, double least = 0.0);

    // The adjoint of the QR after step `step`: with qb = dL/dQ, q = Q and weight[b, j] = dL/d(ln R_jj), qb becomes
    // dL/dA:
    //   M = R Rb' - Qb' Q,  C = tril(M) + tril(M, -1)',  Ab = (Qb + Q C) R^-T.
    void backward(Index step, const float* q, const double* r, const double* weight, float* qb);

private:
    // gram_ = x' y summed over all neurons; more: adds what this rank's delay lines give.
    void gram(const float* x, const float* y, const std::function<void(DelayLines::Matrices&)>& more);
    // The Gram matrix of a and of the delay lines.
    void gram(Index step, const float* a) {
        gram(a, a, [&](DelayLines::Matrices& g) { lines_->add_gram(step, g); });
    }
    // Makes gram_ the identity for lost vectors, so that their part of R is the identity too.
    void fill_up_gram(const std::vector<Index>& independent);
    bool finite(const float* a, Index sequence, Index vector);
    void drop(float* a, Index sequence, Index first);
    [[noreturn]] void fail(Index step, Index sequence, Index column) const;

    Backend& backend_;
    const ProcessGrid& grid_;
    BasisShape shape_;
    DelayLines* lines_;  // null: there are none
    Index b_, k_;
    Buffer<double> gram_;        // [b, k, k]
    Buffer<double> first_r_;     // [b, k, k] R of the first round
    Buffer<double> log_r_;       // [b, k]
    Buffer<std::int32_t> info_;  // [b, 2] findings of one round
    Buffer<double> square_;      // [1]
};

}  // namespace spikefloss
