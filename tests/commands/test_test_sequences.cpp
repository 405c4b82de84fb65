// The number of sequences of an evaluation: all sequences of a data set, for any batch; a number of batches of a
// generated task.
#include "commands/options.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

// A task whose held-out set has `size` samples; 0: generated.
class Sized final : public Task {
public:
    explicit Sized(Index size) : size_(size) {}
    Index steps() const override { return 300; }
    Index inputs() const override { return 1; }
    Index outputs() const override { return 1; }
    LossKind loss() const override { return LossKind::binary_cross_entropy; }
    Index dataset_size(Purpose purpose) const override { return purpose == Purpose::test ? size_ : 7 * size_; }
    Batch sample(Purpose, std::int64_t, Index, BlockRange) const override { return {}; }

private:
    Index size_;
};

TEST(TestSequences, AreTheWholeHeldOutSetOrSoManyFreshBatches) {
    Config config;
    for (const std::int64_t batch : {1, 3, 7, 10, 16, 1000})
        for (const std::int64_t batches : {1, 10, 40}) {
            config.train.batch = batch;
            config.train.test_batches = batches;
            EXPECT_EQ(trainer_options(config, Sized(10)).test_sequences, 10) << "batch " << batch;
            EXPECT_EQ(trainer_options(config, Sized(10'000)).test_sequences, 10'000) << "batch " << batch;
            EXPECT_EQ(trainer_options(config, Sized(0)).test_sequences, batch * batches) << "batch " << batch;
        }
}

}  // namespace
}  // namespace spikefloss
