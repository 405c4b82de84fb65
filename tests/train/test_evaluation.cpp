// An evaluation counts every held-out sequence once, for any batch, grid and number of sequences.
#include "support/near.hpp"
#include "support/small_training.hpp"

namespace spikefloss {
namespace {

using namespace testing_support;

// Ten held-out sequences of the small task. Position p of any batch has number p modulo ten.
class HeldOut final : public Task {
public:
    static constexpr Index count = 10;
    Index steps() const override { return task_->steps(); }
    Index inputs() const override { return 1; }
    Index outputs() const override { return 1; }
    LossKind loss() const override { return task_->loss(); }
    Index dataset_size(Purpose) const override { return count; }
    Batch sample(Purpose purpose, std::int64_t step, Index batch, BlockRange sequences) const override {
        Batch result;
        result.steps = steps(), result.sequences = sequences.size(), result.inputs = result.outputs = 1;
        result.x.resize(static_cast<std::size_t>(steps() * sequences.size()));
        result.target.resize(result.x.size());
        result.mask.resize(result.x.size());
        for (Index j = 0; j < sequences.size(); ++j) {
            const Batch one = task_->sample(purpose, (step * batch + sequences.begin + j) % count, 1, {0, 1});
            for (Index t = 0; t < steps(); ++t) {
                result.mask[static_cast<std::size_t>(t * sequences.size() + j)] = one.mask[static_cast<std::size_t>(t)];
                result.x[static_cast<std::size_t>(t * sequences.size() + j)] = one.x[static_cast<std::size_t>(t)];
                result.target[static_cast<std::size_t>(t * sequences.size() + j)] =
                    one.target[static_cast<std::size_t>(t)];
            }
        }
        return result;
    }

private:
    std::unique_ptr<Task> task_ = small_task();
};

Outcome evaluated(const ProcessGrid& grid, const Task& task, Index batch, Index sequences) {
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float64);
    Backend& backend = *made;
    TrainerOptions options = small_options(Flossing::none);
    options.batch = batch;
    options.test_sequences = sequences;
    Trainer trainer(backend, grid, task, options, {small_network(grid), {}, {}, {}});
    return trainer.evaluate();
}

TEST(Evaluation, CountsEveryHeldOutSequenceOnce) {
    const HeldOut task;
    // One sequence at a time: no batch is padded.
    const Outcome expected = evaluated(alone(), task, 1, HeldOut::count);
    EXPECT_GT(expected.right, 0);
    on_every_grid([&](const ProcessGrid& grid) {
        for (const Index batch : {1, 2, 3, 5, 7, 9, 10, 11, 16, 40}) {
            if (batch < grid.shape().batch_shards) continue;
            const Outcome outcome = evaluated(grid, task, batch, HeldOut::count);
            EXPECT_EQ(outcome.right, expected.right) << "batch " << batch;
            EXPECT_EQ(outcome.accuracy, expected.accuracy) << "batch " << batch;
            EXPECT_NEAR(outcome.loss, expected.loss, 1e-6 * expected.loss) << "batch " << batch;
        }
    });
}

TEST(Evaluation, TakesTheFirstWhereFewerAreAskedFor) {
    const HeldOut task;
    Outcome sum;
    for (Index all = 1; all <= HeldOut::count; ++all) {
        const Outcome outcome = evaluated(alone(), task, 4, all);
        const Outcome one = evaluated(alone(), task, 1, all);
        EXPECT_EQ(outcome.right, one.right) << all;
        EXPECT_NEAR(outcome.loss, one.loss, 1e-6 * one.loss) << all;
        EXPECT_GE(outcome.right, sum.right) << all;
        sum = outcome;
    }
}

// Batches that are all whole: the loss is the mean of their losses, to the bit.
TEST(Evaluation, OfWholeBatchesIsTheMeanOfTheirLosses) {
    const std::unique_ptr<Task> task = small_task();
    const Outcome both = evaluated(alone(), *task, 6, 12), first = evaluated(alone(), *task, 6, 6);
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float64);
    Backend& backend = *made;
    const HostNetwork host = small_network(alone());
    const Network network(backend, alone(), host);
    StatePass pass(backend, alone(), network, task->steps(), 6, {.keep_current = true});
    LossPass loss(backend, alone(), task->steps(), 6, 1, 1, task->loss());
    const Batch batch = task->sample(Purpose::test, 1, 6, {0, 6});
    loss.load(batch);
    pass.forward(network, loss.x());
    const Outcome second = loss.evaluate(pass.tape().readout.data());
    EXPECT_EQ(both.loss, first.loss / 2.0 + second.loss / 2.0);
    EXPECT_EQ(both.right, first.right + second.right);
}

}  // namespace
}  // namespace spikefloss
