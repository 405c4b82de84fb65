// A batch of sequences in backend memory, and the loss of a readout against its targets.
#pragma once

#include "backend/buffer.hpp"
#include "parallel/process_grid.hpp"
#include "tasks/task.hpp"

namespace spikefloss {

struct Outcome {
    double loss = 0.0;      // mean over the loss terms of all sequences
    double accuracy = 0.0;  // share of right answers among them
};

class LossPass {
public:
    // T steps, b sequences of this rank, M inputs, O outputs.
    LossPass(Backend& backend, const ProcessGrid& grid, Index T, Index b, Index M, Index O, LossKind kind);

    // Brings a batch of this shape into backend memory.
    void load(const Batch& batch);
    // Loss of y [T, b, O] over `sequences` sequences of all ranks; leaves dL/dy. Collective.
    Outcome evaluate(const float* y, Index sequences);

    const float* x() const { return x_.data(); }
    const float* dy() const { return dy_.data(); }
    // Number of loss terms in a batch of `sequences`.
    double terms(Index sequences) const { return static_cast<double>(terms_per_sequence_) * static_cast<double>(sequences); }

private:
    Backend& backend_;
    const ProcessGrid& grid_;
    Index T_, b_, O_;
    LossKind kind_;
    Index terms_per_sequence_ = 1;
    Buffer<float> x_, mask_, target_, dy_;
    Buffer<std::int32_t> label_;
    Buffer<double> result_;
};

}  // namespace spikefloss
