// A batch of sequences in backend memory, and the loss of a readout against its targets.
#pragma once

#include "backend/buffer.hpp"
#include "parallel/process_grid.hpp"
#include "tasks/task.hpp"
#include "train/batch_inputs.hpp"

#include <limits>
#include <vector>

namespace spikefloss {

struct Outcome {
    double loss = 0.0;       // mean over the loss terms of all sequences
    double accuracy = 0.0;   // share of correct answers among them; NaN for a loss without right and wrong answers
    std::int64_t right = 0;  // number of correct answers
    double terms = 0.0;      // number of loss terms
    // Of a squared error in an evaluation: 1 - loss / variance of the targets; else NaN.
    double r2 = std::numeric_limits<double>::quiet_NaN();
};

// Of each sequence: its class, and the class with the largest logit.
struct Answers {
    std::vector<std::int64_t> label, named;
};

// The variance of the targets that count, each output about its own mean.
class TargetVariance {
public:
    // Of the first `counted` sequences of a batch of this rank.
    void add(const Batch& batch, Index counted);
    // R^2 of a mean squared error over all of them, on all ranks together; NaN if all targets are equal. Collective.
    double r2(const ProcessGrid& grid, double loss) const;

private:
    double steps_ = 0.0, squares_ = 0.0;  // that count
    std::vector<double> sum_;             // [O]
};

class LossPass {
public:
    // T steps, b sequences of this rank, M inputs, O outputs.
    LossPass(Backend& backend, const ProcessGrid& grid, Index T, Index b, Index M, Index O, LossKind kind);

    // Takes the inputs and targets of a batch of this shape, which must stay as it is until the last operation on x()
    // has been called.
    void load(const Batch& batch) { load(batch, batch.sequences); }
    // The same, but only the first `counted` sequences of this rank count. The others only fill the batch.
    void load(const Batch& batch, Index counted);
    void load(Batch&&) = delete;  // it would be gone
    // Loss of y [T, b, O] over the sequences that count, on all ranks together. If all of this rank's sequences count,
    // dy() is dL/dy. Collective. begin() queues it and returns the number of loss terms, end() waits for it.
    Outcome evaluate(const float* y) {
        begin(y);
        return end();
    }
    double begin(const float* y);
    Outcome end();
    // Adds the answers of this rank's sequences that counted in the last loss to 0 at `first` and behind. Of the
    // neuron shards only the first adds something. For a loss that takes labels.
    void add_answers(Index first, Answers& answers) const;

    InputView x() const { return x_; }
    const float* dy() const { return dy_.data(); }

private:
    Backend& backend_;
    const ProcessGrid& grid_;
    std::vector<float> counted_of(const std::vector<float>& host, Index row) const;
    const float* counted_of(const float* y);
    Index count_unfit(const Batch& batch) const;
    [[noreturn]] void refuse(double unfit) const;

    Index T_, b_, O_;
    LossKind kind_;
    Index counted_ = 0;        // of the b sequences loaded
    Index terms_ = 0;          // of these
    double all_terms_ = 0.0;   // of all ranks
    Index unfit_ = 0;          // of these: sequences without a step that counts, or targets outside 0 to 1
    Buffer<float> counted_y_;  // [T, counted, O], if not all count
    BatchInputs inputs_;
    InputView x_ = nullptr;
    Buffer<float> mask_, target_, dy_;
    Buffer<std::int32_t> label_, named_;
    Buffer<double> result_;  // [2]
    Readback<double> read_result_;
};

}  // namespace spikefloss
