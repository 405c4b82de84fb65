// Passes over many steps of the tangent dynamics, with their QRs: forwards, and backwards the adjoint. Arrays of a call
// begin at its first step.
#pragma once

#include "backend/backend.hpp"
#include "backend/pass_table.hpp"

namespace spikefloss {

// What a pass is made for. One rank holds all N neurons, so the basis is [b, k, D] with n = N.
struct TangentPlan {
    Index steps;  // the most steps of a call
    BasisShape basis;
};

// A QR follows every qr_interval steps.
struct TangentForwardCall {
    NeuronModel model;
    JacobianReset reset;
    NeuronVectors neurons;
    const float* w_rec;
    Index first, steps, qr_interval;  // steps before this call, for the findings; steps a multiple of qr_interval
    const float* u;                   // [steps, b, n]
    const float* w = nullptr;         // likewise, with adaptation
    float* q;                         // Q before the first step
    Index q_stride;                   // floats from Q before one step to Q before the next; 0: in place
    double* r;                        // [b, k, k] of the first QR, written
    Index r_stride;                   // doubles from one QR's R to the next; 0: only the last is kept
    double* log_r;                    // [QRs, b, k] ln R_jj, written
    QrFindings findings;
    bool operator==(const TangentForwardCall&) const = default;
};

// The adjoint. All bases and R are kept.
struct TangentBackwardCall {
    NeuronModel model;
    JacobianReset reset;
    NeuronVectors neurons;
    const float* w_rec;
    Index first, steps, qr_interval;  // steps before this call
    const float* u;                   // [steps, b, n]
    const float* w = nullptr;         // likewise, with adaptation
    const float* q;                   // Q before the first step; steps + 1 of them, q_stride apart
    Index q_stride;
    const double* r;           // [QRs, b, k, k]
    const double* weight;      // [b, k] dL/d(ln R_jj) ...
    Index first_counted;       // ... of QRs first_counted, first_counted + 1, ...; 0 of those before
    float* a;                  // [b, k, D] adjoint of the last basis; becomes that of the first
    SumMatrix d_w_rec;         // [n, N] += sum of g x', x = psi Q.membrane
    ConstantSums constants{};  // +=. Only the loop has them.
    float* e;                  // [steps, b, n] += the adjoint of u through psi
    bool operator==(const TangentBackwardCall&) const = default;
};

// If a QR of a sequence fails, the findings tell it, and later results of this sequence are undefined.
class TangentForward {
public:
    virtual ~TangentForward() = default;
    virtual void run(const TangentForwardCall& call) = 0;
};

class TangentBackward {
public:
    virtual ~TangentBackward() = default;
    virtual void run(const TangentBackwardCall& call) = 0;
};

struct TangentPasses {
    Chosen<TangentForward> forward;
    Chosen<TangentBackward> backward;
};

}  // namespace spikefloss
