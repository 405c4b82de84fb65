// When the tangent basis is factorised. A fixed interval m gives QRs after steps m, 2m, 3m ... With m = 0 the interval
// is chosen during the pass, from the strain of the QRs so far (QrFindings in backend/backend.hpp).
//
// The choice. The exponents and the flossing gradient do not depend on the interval, up to rounding. Between two QRs
// the vectors turn towards the first one. Vector j then keeps the fraction R_jj / |A_j| of its length beside the
// earlier ones, and a float has that part with a relative error of 2^-24 |A_j| / R_jj. So the error of ln R_jj and of
// the adjoint of the QR is 2^-24 exp(strain). The aim of exp(strain) <= 32 = 2^5 keeps it at 2^-19 = 2e-6 for any k;
// the Gram matrix in double needs exp(2 strain) < 2^53 only. The strain grows about linearly with the interval, because
// vectors separate at the difference of their exponents. So the next interval is the present one times aim / strain,
// at most twice the present one. A QR with exp(strain) > 128, a failure or doubt cancels the steps since the last
// decision, and they are taken again with a shorter interval, down to 1. After a failure no later interval is longer.
#pragma once

#include "core/view.hpp"

namespace spikefloss {

// Steps first .. first + steps - 1, with QRs after every `interval` of them. steps is a multiple of the interval.
struct QrSegment {
    Index first, steps, interval;
    Index qrs() const { return steps / interval; }
};

class QrSchedule {
public:
    // QRs over T steps every `interval` steps, 0: chosen. With a chosen interval a QR ends the warm-up and the last
    // step.
    QrSchedule(Index T, Index warmup, Index interval);

    bool chosen() const { return chosen_; }
    // The last step that ends with a QR.
    Index last() const { return last_; }
    bool done() const { return next_.first >= last_; }
    // The next steps to take.
    QrSegment next() const { return next_; }
    // Goes on to the steps after them. strain: the largest of their QRs. failed: a QR failed or left doubt. Returns
    // false if they must be taken again, which next() then gives. A fixed schedule accepts every segment.
    bool accept(double strain, bool failed);
    // All later QRs follow each other at intervals of 1. For a measurement that has lost vectors.
    void stay_at_one() { longest_ = 1; }

private:
    void plan(Index first);

    bool chosen_;
    Index warmup_, last_;
    Index interval_, qrs_, longest_;  // of the next segment, before it is cut at the warm-up and at the end
    QrSegment next_{};
};

}  // namespace spikefloss
