// Comparison of batches, and joining of the sequences of a split batch.
#pragma once

#include "tasks/task.hpp"

#include <gtest/gtest.h>

namespace spikefloss {

inline Batch whole_batch(const Task& task, Purpose purpose, std::int64_t step, Index batch) {
    return task.sample(purpose, step, batch, {0, batch});
}

// The same batch drawn in `parts` parts.
inline Batch joined_batch(const Task& task, Purpose purpose, std::int64_t step, Index batch, Index parts) {
    Batch all = whole_batch(task, purpose, step, 0);
    const Index T = task.steps(), M = task.inputs(), O = task.outputs();
    all.sequences = batch;
    all.x.assign(T * batch * M, -1);
    all.mask.assign(T * batch, -1);
    const bool targets = task.loss() == LossKind::binary_cross_entropy;
    if (targets) all.target.assign(T * batch * O, -1);
    for (const BlockRange range : block_ranges(batch, parts)) {
        const Batch part = task.sample(purpose, step, batch, range);
        const Index b = range.size();
        for (Index t = 0; t < T; ++t) {
            std::copy_n(part.mask.data() + t * b, b, all.mask.data() + t * batch + range.begin);
            std::copy_n(part.x.data() + t * b * M, b * M, all.x.data() + (t * batch + range.begin) * M);
            if (targets)
                std::copy_n(part.target.data() + t * b * O, b * O, all.target.data() + (t * batch + range.begin) * O);
        }
        all.label.insert(all.label.end(), part.label.begin(), part.label.end());
    }
    return all;
}

inline void expect_equal(const Batch& a, const Batch& b) {
    EXPECT_EQ(a.steps, b.steps);
    EXPECT_EQ(a.sequences, b.sequences);
    EXPECT_EQ(a.inputs, b.inputs);
    EXPECT_EQ(a.outputs, b.outputs);
    EXPECT_EQ(a.loss, b.loss);
    EXPECT_EQ(a.x, b.x);
    EXPECT_EQ(a.mask, b.mask);
    EXPECT_EQ(a.target, b.target);
    EXPECT_EQ(a.label, b.label);
}

inline void expect_shapes(const Task& task, const Batch& batch, Index b) {
    const auto T = static_cast<std::size_t>(task.steps()), n = static_cast<std::size_t>(b);
    EXPECT_EQ(batch.steps, task.steps());
    EXPECT_EQ(batch.sequences, b);
    EXPECT_EQ(batch.inputs, task.inputs());
    EXPECT_EQ(batch.outputs, task.outputs());
    EXPECT_EQ(batch.loss, task.loss());
    EXPECT_EQ(batch.x.size(), T * n * static_cast<std::size_t>(task.inputs()));
    EXPECT_EQ(batch.mask.size(), T * n);
    const bool targets = task.loss() == LossKind::binary_cross_entropy;
    EXPECT_EQ(batch.target.size(), targets ? T * n * static_cast<std::size_t>(task.outputs()) : 0);
    EXPECT_EQ(batch.label.size(), targets ? 0 : n);
}

constexpr Purpose all_purposes[] = {Purpose::train, Purpose::test, Purpose::floss, Purpose::diagnose};

}  // namespace spikefloss
