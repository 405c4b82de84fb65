// The tangent passes as loops over time of the backend's step operations, for any grid: the readable reference, and the
// only passes of sharded neurons. Where the backend records work, the steps of a call are recorded once and replayed.
//
// For the recurrence a tangent is like one more sequence: the k tangents of b sequences are b k rows.
#pragma once

#include "backend/recorded_calls.hpp"
#include "backend/tangent_passes.hpp"
#include "lyapunov/delay_lines.hpp"
#include "lyapunov/qr.hpp"
#include "network/recurrence.hpp"
#include "network/spike_tape.hpp"

#include <functional>
#include <vector>

namespace spikefloss {

class TangentLoop {
public:
    // `basis` is that of this rank, `terms` the recurrent ones of a network with this layout. They must be valid as
    // long as the loop.
    TangentLoop(Backend& backend, const ProcessGrid& grid, const ParameterLayout& layout, std::vector<Term> terms,
                const BasisShape& basis, bool keeps_adjoint);

    // Before the first call of a forward pass.
    void begin_forward(const SpikeTape& spikes) {
        spikes_ = &spikes;
        recurrence_.begin();
        lines_.clear();
    }
    // Before `steps` steps that can be taken again after rewind().
    void mark(Index steps) { lines_.mark(steps); }
    void rewind() { lines_.rewind(); }
    // One round per QR, without a wait for the host unless there are delays.
    void forward(const TangentForwardCall& call);
    // As TangentQr::factorise_carefully. call.log_r is not used; returns ln R_jj [QRs, b, k].
    std::vector<double> forward_carefully(const TangentForwardCall& call, Index first_sequence,
                                          std::vector<Index>* independent, double least = 0.0);
    // Before the first call of a backward pass of the same steps. r_after: R [b, k, k] of the QR after each step 1, 2,
    // ... of the pass, null where there is none; needed only with delays.
    void begin_backward(std::vector<const double*> r_after);
    void backward(const TangentBackwardCall& call);

private:
    using Factorise = std::function<void(Index step, float* a, double* r, Index qr)>;
    void steps_forward(const TangentForwardCall& call, const Factorise& factorise);
    void steps_backward(const TangentBackwardCall& call);
    // sigma of step t [b, k, n], from u and Q of this step, gathered.
    template <class Call>
    const float* perturb(const Call& call, Index t, const float* q);
    // The state of step t.
    template <class Call>
    NeuronState state(const Call& call, Index t) const;
    // product_ = the sum over projections of W times the perturbation of the spikes that arrive in step t; x: sigma of
    // t.
    void drive(const float* w_rec, Index t, const float* x);
    // The adjoint of this sum, g: adds to d_w_rec and to the adjoints of delayed spikes, without the part of spikes of
    // delay 1 in d_w_rec. product_ = the adjoint of sigma.
    void drive_backward(const TangentBackwardCall& call, Index t);
    // d_w_rec += y' x of the terms of one delay; y, x: of `steps` steps.
    void add_outer(const TangentBackwardCall& call, Index delay, Index steps, const float* y, const float* x);
    // The same for the steps that were kept.
    void add_kept(const TangentBackwardCall& call);
    // Backwards: adds step t to the delay lines, after t + 1.
    void enter_backwards(const TangentBackwardCall& call, Index t);
    // This rank's part of the sigma of step t in the delay lines.
    const float* own(Index t);
    // This rank's sigma of the present step.
    const float* sigma(Index t);
    // psi * Q.membrane and g of the present step.
    float* x() { return x_.data() + kept_ * shape_.rows() * shape_.n; }
    float* g() { return g_.data() + kept_ * shape_.rows() * shape_.n; }
    // Whether a recording is possible. Sums in double are not recorded, because they need memory of their own.
    bool recordable() const {
        return backend_.sums() == Sums::float32 && lines_.depth() == 0 &&
               (recurrence_.shards() == 1 || grid_.neurons().recorded());
    }

    Backend& backend_;
    const ProcessGrid& grid_;
    BasisShape shape_;
    const SpikeTape* spikes_ = nullptr;  // of the pass, for refractory neurons
    Recurrence recurrence_;
    DelayLines lines_;
    std::vector<Index> delays_;  // those above 1
    TangentQr qr_;
    // Steps whose x and g are kept, so that the gradient of the weights is read and written once for all of them.
    Index most_kept_, kept_ = 0;
    Buffer<float> x_, g_;           // [most_kept, b, k, n]: psi * Q.membrane; g
    Buffer<float> gathered_;        // [P][most_kept, b, k, n_p]: x of all shards, if there are several
    Buffer<float> product_;         // [b, k, n]: W x, and W' g
    Buffer<float> delayed_, back_;  // [b, k, n], with delays: a part of the drive, and of an adjoint
    Buffer<double> no_weight_;      // [b, k] of QRs that do not count
    std::vector<const double*> r_after_;
    RecordedCalls<TangentForwardCall> forward_calls_;
    RecordedCalls<TangentBackwardCall> backward_calls_;
};

}  // namespace spikefloss
