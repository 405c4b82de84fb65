// The tangent dynamics through time: forwards with a QR every few steps, backwards the adjoint of both.
//
//   P_i = alpha Q_i + W_rec (psi(u[t] - theta) * Q_u)
//   P_u = (1 - s[t]) (beta Q_u + (1-beta) P_i)
//   every qr_interval steps: [P_i; P_u] = Q R, and after the warm-up ln R_jj is added to exponent j.
//
// For the recurrence a tangent is like one more sequence: the k tangents of b sequences are b k rows.
#pragma once

#include "lyapunov/qr.hpp"
#include "network/state_pass.hpp"

namespace spikefloss {

struct TangentOptions {
    Index exponents = 1;    // k <= D
    Index warmup = 0;       // steps not counted
    Index qr_interval = 1;  // m
    JacobianReset reset = JacobianReset::detached;
};

class TangentPass {
public:
    // T steps, b sequences of this rank. keep: hold the bases of all steps, which a backward pass needs. Without keep
    // the pass is a measurement: if a basis loses rank, the exponents of the lost vector and of all later ones are
    // -infinite. With keep this is an error.
    TangentPass(Backend& backend, const ProcessGrid& grid, const Network& network, TangentOptions options, Index T,
                Index b, bool keep);

    // q0: orthonormal starting bases of this rank, host memory [b, k, D_local]: row j of sequence s is vector j, its
    // current part [n] (when the network has one) before its membrane part [n].
    // first_sequence is the number of the first sequence in errors. Uses the membranes of `state`. Collective over the
    // grid: when a QR fails, all ranks throw together.
    void forward(const Network& network, StatePass& state, const std::vector<float>& q0, Index first_sequence);

    // Whether the backend may take all steps in one operation (it may by default); tests compare both ways.
    void use_whole_passes(bool use) { whole_passes_ = use; }

    // Returns the options. Throws Error(Exit::usage) if a state of this size has fewer exponents, or no QR counts in T
    // steps. The constructor calls it before it allocates.
    static const TangentOptions& checked(const TangentOptions& options, Index state_size, Index T);
    // The forms of the passes. If a QR of a whole forward pass fails, the loop runs instead.
    PassChoice forward_choice() const {
        return choose_pass(whole_passes_, recurrence_.shards(), backend_.takes_tangents(b_, k_, n_));
    }
    PassChoice backward_choice(bool time_constants) const {
        if (time_constants) return {PassForm::loop, "time constants are flossed"};
        return choose_pass(whole_passes_, recurrence_.shards(), backend_.takes_tangents_backward(b_, k_, n_));
    }

    // The number of QRs that count. A QR counts if all the steps it covers are after the warm-up.
    static Index counted_qrs(const TangentOptions& options, Index T);
    Index counted() const { return counted_; }
    Index vectors() const { return k_; }
    // ln R_jj of the counted QRs, host memory [counted, b, k].
    const std::vector<double>& log_r() const { return log_r_; }
    // The exponents of each sequence of this rank, [b, k], per step.
    std::vector<double> exponents() const;

    // With d_exponents = dL/dlambda [b, k] (host): adds the direct gradient to w_rec (and alpha, beta when
    // time_constants) of `gradient`, and e[t], t = 0..T, to `extra` [T+1, b, n].
    void backward(const Network& network, StatePass& state, const std::vector<double>& d_exponents, bool time_constants,
                  SumBuffer& gradient, float* extra);

private:
    void start(const std::vector<float>& q0);
    void loop_forward(const Network& network, StatePass& state, Index first_sequence);
    bool whole_forward(const Network& network, StatePass& state, const std::vector<float>& q0);
    void loop_backward(const Network& network, StatePass& state, const std::vector<double>& weights,
                       bool time_constants, SumBuffer& gradient, float* extra);
    void whole_backward(const Network& network, StatePass& state, const std::vector<double>& weights,
                        SumBuffer& gradient, float* extra);
    float* basis(Index t) { return q_.data() + (keep_ ? t : t % 2) * shape_.size(); }  // Q before step t (t = 0..T)
    bool is_qr(Index end) const { return end % options_.qr_interval == 0; }
    bool counts(Index end) const { return end - options_.qr_interval >= options_.warmup; }
    const float* tangent_input(const Network& network, StatePass& state, Index t);

    Backend& backend_;
    const ProcessGrid& grid_;
    TangentOptions options_;
    BasisShape shape_;
    Index b_, k_, n_, rows_;  // of shape_
    Index last_;              // the last step that ends with a QR
    Index counted_;
    bool keep_;
    bool whole_passes_ = true;
    Index rounds_ = 1;  // of Cholesky in a QR of a whole pass; 2 after 1 was not enough
    Recurrence recurrence_;
    TangentQr qr_;
    Buffer<float> q_;                 // [last + 1 or 2][b, k, D]
    Buffer<double> r_;                // [QRs or 1][b, k, k]
    Buffer<float> x_, product_;       // [b, k, n]: psi * Q_u; W x, and W' g
    Buffer<float> adjoint_, g_;       // [b, k, D] adjoint of the basis; [b, k, n]
    Buffer<double> weight_;           // [b, k]
    Buffer<double> all_log_r_;        // [QRs, b, k] of a whole pass
    Buffer<std::int32_t> failure_;    // [b, 2] of a whole pass
    std::vector<double> log_r_;       // [counted, b, k]
    std::vector<Index> independent_;  // [b], the number of vectors that are not lost; for a measurement
};

// Random orthonormal bases for sequences `sequences` of a batch, the part of `neurons`, in the layout of
// TangentPass::forward. They depend on the seed and the global indices only. N neurons, has_current: D = 2N.
std::vector<float> random_bases(std::uint64_t seed, Index k, Index neurons_total, bool has_current, BlockRange neurons,
                                BlockRange sequences);

}  // namespace spikefloss
