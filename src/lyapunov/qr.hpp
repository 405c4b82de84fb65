// QR of the tangent bases whose rows are spread over the neuron shards: Cholesky QR with the Gram matrix in double, one
// k x k all-reduce a round, a second round where the first leaves doubt, Householder QR when one rank holds all neurons
// and the Gram matrix is not positive definite. (Fukaya et al. 2020; Yamamoto et al. 2015.)
#pragma once

#include "backend/buffer.hpp"
#include "parallel/process_grid.hpp"

#include <vector>

namespace spikefloss {

class TangentQr {
public:
    // For b sequences, k tangent vectors, n neurons of this rank.
    TangentQr(Backend& backend, const ProcessGrid& grid, Index b, Index k, Index n);

    // A = Q R with R_jj > 0: a becomes Q, r [b, k, k] R; ln R_jj goes to log_r, host memory [b, k].
    // Throws Error(Exit::numerics) naming `step` and the sequence (counted from first_sequence) when A has lost rank.
    // independent [b], k where nothing is lost: a measurement goes on where a vector is a combination of those before
    // it. This vector and all after it become 0 and stay so, independent[s] is the number of those before it, and ln
    // R_jj of the others is -infinite. Null: an error. Vectors that are not finite are an error either way.
    void factorise(Index step, Index first_sequence, Tangents a, double* r, double* log_r,
                   std::vector<Index>* independent = nullptr);

    // The adjoint: with qb = dL/dQ, q = Q and weight[b, j] = dL/d(ln R_jj), qb becomes dL/dA:
    //   M = R Rb' - Qb' Q,  C = tril(M) + tril(M, -1)',  Ab = (Qb + Q C) R^-T.
    void backward(Tangents q, const double* r, const double* weight, Tangents qb);

private:
    // gram_ = x' y summed over all neurons.
    void gram(Tangents x, Tangents y);
    // 1 on the diagonal of gram_ for vectors that are lost: their R is that of the identity.
    void fill_up_gram(const std::vector<Index>& independent);
    bool finite(Tangents a, Index sequence, Index vector);
    void drop(Tangents a, Index sequence, Index first);
    [[noreturn]] void fail(Index step, Index sequence, Index column) const;

    Backend& backend_;
    const ProcessGrid& grid_;
    Index b_, k_, n_;
    Buffer<double> gram_;        // [b, k, k]
    Buffer<double> log_r_;       // [b, k]
    Buffer<std::int32_t> info_;  // [b]
    Buffer<double> square_;      // [1]
};

}  // namespace spikefloss
