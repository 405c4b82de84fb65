// The tangent dynamics through time: forwards with a QR every few steps, backwards the adjoint of both.
//
//   P_i = alpha Q_i + W_rec (psi(u[t] - theta) * Q_u)
//   P_u = f (beta q Q_u + (1-beta) P_i)
//   after some steps (qr_schedule.hpp): [P_i; P_u] = Q R, and after the warm-up ln R_jj is added to exponent j.
//
// The whole pass of the backend takes the steps, or the loop (tangent_loop.hpp). If a QR leaves doubt or fails, the
// loop takes the steps again, carefully.
#pragma once

#include "core/error.hpp"
#include "lyapunov/qr_schedule.hpp"
#include "lyapunov/tangent_loop.hpp"
#include "network/state_pass.hpp"

#include <optional>
#include <string>

namespace spikefloss {

struct TangentOptions {
    Index exponents = 1;    // k <= D
    Index warmup = 0;       // steps not counted
    Index qr_interval = 0;  // m; 0: chosen during the pass
    JacobianReset reset = JacobianReset::detached;
    bool whole_passes = true;  // false: the loop, also where the backend has a whole pass
};

class TangentPass {
public:
    // T steps, b sequences of this rank. keep: hold the bases of all steps, which a backward pass needs. Without keep
    // the pass is a measurement: the exponents of directions that resets take away are -infinite; if a basis loses rank
    // otherwise, so are those of the lost vector and of all later ones. With keep this is an error.
    TangentPass(Backend& backend, const ProcessGrid& grid, const Network& network, TangentOptions options, Index T,
                Index b, bool keep);

    // q0: orthonormal starting bases of this rank, host memory [b, k, D_local]: row j of sequence s is vector j, its
    // current part [n] (when the network has one) before its membrane part [n].
    // first_sequence is the number of the first sequence in errors. Uses the membranes of `state`. Collective over the
    // grid: when a QR fails, all ranks throw together.
    void forward(const Network& network, StatePass& state, const std::vector<float>& q0, Index first_sequence);

    // Returns the options. Throws Error(Exit::usage) if a state of this size has fewer exponents, or no QR counts in T
    // steps. The constructor calls it before it allocates.
    static const TangentOptions& checked(const TangentOptions& options, Index state_size, Index T);
    // The passes and the reasons for them: "whole recurrence (one rank holds all neurons; ...)".
    std::string forward_text() const { return passes_.forward.text(); }
    std::string backward_text(bool time_constants) const {
        return time_constants ? "loop over steps (time constants are flossed)" : passes_.backward.text();
    }

    // The steps after which the QRs of the last forward pass that count were taken. A QR counts if all the steps it
    // covers are after the warm-up.
    const std::vector<std::int64_t>& counted_steps() const { return counted_; }
    Index vectors() const { return shape_.k; }
    // ln R_jj of the counted QRs, host memory [counted, b, k].
    const std::vector<double>& log_r() const { return log_r_; }
    // The exponents of each sequence of this rank, [b, k], per step.
    std::vector<double> exponents() const;

    // With d_exponents = dL/dlambda [b, k] (host): adds the direct gradient to w_rec (and alpha, beta when
    // time_constants) of `gradient`, and e[t], t = 0..T, to `extra` [T+1, b, n].
    void backward(const Network& network, StatePass& state, const std::vector<double>& d_exponents, bool time_constants,
                  SumBuffer& gradient, float* extra);

private:
    struct Report {  // of the QRs of a segment, over all sequences
        double strain = 0.0;
        bool failed = false, lost = false, broken = false;  // broken: an error ends the pass
    };
    bool resets_lose(const Network& network) const;
    // Removes the vectors whose exponents are -infinite because of resets from the basis before step 0, or throws if
    // there are any and the pass keeps its bases.
    void remove_lost(const Network& network, const StatePass& state, Index first_sequence);
    Report take(const TangentForwardCall& call, Index first_sequence, std::vector<double>& logs);
    Report agree(const Report& mine) const;
    float* basis(Index t) { return q_.data() + (keep_ ? t * shape_.size() : 0); }  // Q before step t (t = 0..T)
    Index counted_length() const;

    Backend& backend_;
    const ProcessGrid& grid_;
    TangentOptions options_;
    BasisShape shape_;
    Index last_;  // the last step that ends with a QR
    bool keep_;
    bool careful_ = false;  // a QR left doubt or failed before
    TangentLoop loop_;
    TangentPasses passes_;
    Buffer<float> q_;               // [last + 1 or 1][b, k, D]
    Buffer<float> start_;           // [b, k, D] before a segment, for a measurement
    Buffer<double> r_;              // [QRs or 1][b, k, k]
    Buffer<double> segment_log_r_;  // [QRs of a segment, b, k]
    Buffer<std::int32_t> failure_;  // [b, 2]
    Buffer<double> strain_;         // [b]
    Readback<double> read_log_r_;
    Readback<std::int32_t> read_failure_;
    Readback<double> read_strain_;
    Buffer<float> adjoint_;              // [b, k, D] of the basis
    Buffer<double> weight_;              // [b, k]
    std::vector<QrSegment> segments_;    // of the last forward pass
    std::vector<std::int64_t> counted_;  // steps
    std::vector<double> log_r_;          // [counted, b, k]
    double least_ = 0.0;                 // of a vector, for it to count (TangentQr::factorise_carefully)
    std::vector<Index> independent_;     // [b], the number of vectors that are not lost; for a measurement
    std::optional<Error> fault_;         // of the forward pass
};

// Random orthonormal bases for sequences `sequences` of a batch, the part of `neurons`, in the layout of
// TangentPass::forward. They depend on the seed and the global indices only. D = parts N.
std::vector<float> random_bases(std::uint64_t seed, Index k, Index neurons_total, Index parts, BlockRange neurons,
                                BlockRange sequences);

}  // namespace spikefloss
