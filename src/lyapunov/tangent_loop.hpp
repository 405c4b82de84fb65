// The tangent passes as loops over time of the backend's step operations, for any grid: the readable reference, and the
// only passes of sharded neurons. Where the backend records work, the steps of a call are recorded once and replayed.
//
// For the recurrence a tangent is like one more sequence: the k tangents of b sequences are b k rows.
#pragma once

#include "backend/recorded_calls.hpp"
#include "backend/tangent_passes.hpp"
#include "lyapunov/qr.hpp"
#include "network/recurrence.hpp"

#include <functional>
#include <vector>

namespace spikefloss {

class TangentLoop {
public:
    // N neurons on all ranks; `basis` is that of this rank.
    TangentLoop(Backend& backend, const ProcessGrid& grid, Index N, const BasisShape& basis, bool keeps_adjoint);

    // One round per QR, without a wait for the host.
    void forward(const TangentForwardCall& call);
    // As TangentQr::factorise_carefully. call.log_r is not used; returns ln R_jj [QRs, b, k].
    std::vector<double> forward_carefully(const TangentForwardCall& call, Index first_sequence,
                                          std::vector<Index>* independent, double least = 0.0);
    void backward(const TangentBackwardCall& call);

private:
    using Factorise = std::function<void(Index step, float* a, double* r, Index qr)>;
    void steps_forward(const TangentForwardCall& call, const Factorise& factorise);
    void steps_backward(const TangentBackwardCall& call);
    // Whether a recording is possible. Sums in double are not recorded, because they need memory of their own.
    bool recordable() const {
        return backend_.sums() == Sums::float32 && (recurrence_.shards() == 1 || grid_.neurons().recorded());
    }

    Backend& backend_;
    const ProcessGrid& grid_;
    BasisShape shape_;
    Recurrence recurrence_;
    TangentQr qr_;
    Buffer<float> x_, product_, g_;  // [b, k, n]: psi * Q.membrane; W x, and W' g; g
    Buffer<double> no_weight_;       // [b, k] of QRs that do not count
    RecordedCalls<TangentForwardCall> forward_calls_;
    RecordedCalls<TangentBackwardCall> backward_calls_;
};

}  // namespace spikefloss
