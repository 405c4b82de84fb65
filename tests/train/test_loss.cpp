// The losses over the batch shards of every grid: value, accuracy and gradient, with logits of any size.
#include "train/loss.hpp"

#include "backend/instruction_sets.hpp"
#include "core/error.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

using namespace testing_support;

// Sequences of an example, and logits for them; some are very large.
struct Logits {
    reference::Network net;
    reference::Sequences seq;
    std::vector<double> y;  // [T, B, O]
};
Logits logits(reference::LossKind kind) {
    reference::Example example{.neurons = 3, .outputs = 3, .steps = 9, .batch = 7, .exponents = 0, .loss = kind};
    example.own_lengths = true;
    Logits l{reference::random_network(example), reference::random_sequences(example), {}};
    for (Index j = 0; j < 9 * 7 * 3; ++j) l.y.push_back(3.0 * std::sin(static_cast<double>(5 * j)));
    if (kind == reference::LossKind::binary_cross_entropy) l.y[100] = 500.0, l.y[101] = -500.0, l.y[102] = 0.0;
    return l;
}

TEST(LossPass, IsTheReferenceOnEveryGrid) {
    for (const auto kind : reference::all_losses) {
        const Logits l = logits(kind);
        const reference::Loss expected = reference::task_loss(l.seq, l.y);
        on_every_grid([&](const ProcessGrid& grid) {
            const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
            Backend& backend = *made;
            const BlockRange mine = grid.sequences_of(7);
            const Batch batch = host_batch(l.net, l.seq, mine);
            LossPass loss(backend, grid, 9, mine.size(), l.net.inputs, 3, batch.loss);
            loss.load(batch);
            std::vector<float> y;
            for (Index t = 0; t < 9; ++t)
                y.insert(y.end(), l.y.begin() + (t * 7 + mine.begin) * 3, l.y.begin() + (t * 7 + mine.end) * 3);
            const Buffer<float> y_local(backend, y);
            const Outcome outcome = loss.evaluate(y_local.data());
            EXPECT_NEAR(outcome.loss, expected.value, 1e-6 * expected.value);
            if (has_accuracy(batch.loss))
                EXPECT_NEAR(outcome.accuracy, expected.accuracy, 1e-12);
            else
                EXPECT_TRUE(std::isnan(outcome.accuracy));
            EXPECT_EQ(outcome.terms, static_cast<double>(expected.terms));
            std::vector<float> dy(y.size());
            backend.copy_out(dy.data(), loss.dy(), dy.size() * sizeof(float));
            const auto all = gathered_sequences(grid, std::vector<double>(dy.begin(), dy.end()), 9, 7, 3);
            EXPECT_TRUE(all_near(all, expected.gradient, 1e-7));
            EXPECT_TRUE(near_in_norm(all, expected.gradient, 1e-6));
        });
    }
}

// Only the first `all` of 7 sequences count, as if the others did not exist.
TEST(LossPass, SequencesThatFillABatchUpDoNotCount) {
    for (const auto kind : {reference::LossKind::binary_cross_entropy, reference::LossKind::cross_entropy_mean}) {
        const Logits l = logits(kind);
        const auto readout = [&](BlockRange range) {
            std::vector<float> y;
            for (Index t = 0; t < 9; ++t)
                y.insert(y.end(), l.y.begin() + (t * 7 + range.begin) * 3, l.y.begin() + (t * 7 + range.end) * 3);
            return y;
        };
        const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
        Backend& backend = *made;
        for (Index all = 1; all <= 7; ++all) {
            const Batch few = host_batch(l.net, l.seq, {0, all});
            LossPass of_few(backend, alone(), 9, all, l.net.inputs, 3, few.loss);
            of_few.load(few);
            const Outcome expected = of_few.evaluate(Buffer<float>(backend, readout({0, all})).data());
            on_every_grid([&](const ProcessGrid& grid) {
                const BlockRange mine = grid.sequences_of(7);
                const Batch batch = host_batch(l.net, l.seq, mine);
                LossPass loss(backend, grid, 9, mine.size(), l.net.inputs, 3, batch.loss);
                loss.load(batch, std::clamp<Index>(all - mine.begin, 0, mine.size()));
                const Outcome outcome = loss.evaluate(Buffer<float>(backend, readout(mine)).data());
                EXPECT_NEAR(outcome.loss, expected.loss, 1e-12 * expected.loss) << all << " sequences";
                EXPECT_EQ(outcome.right, expected.right) << all << " sequences";
                EXPECT_EQ(outcome.accuracy, expected.accuracy) << all << " sequences";
            });
        }
    }
}

TEST(LossPass, RefusesWhatItCannotTake) {
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
    Backend& backend = *made;
    const auto refuses = [&](const Batch& batch, LossKind kind) {
        LossPass loss(backend, alone(), 9, 7, batch.inputs, 3, kind);
        loss.load(batch);
        EXPECT_THROW(loss.evaluate(Buffer<float>(backend, 9 * 7 * 3).data()), Error) << name_of(kind);
    };
    const Logits bits = logits(reference::LossKind::binary_cross_entropy);
    Batch batch = host_batch(bits.net, bits.seq, {0, 7});
    batch.mask.assign(9 * 7, 0.0f);
    refuses(batch, LossKind::binary_cross_entropy);
    // Targets that are no bits.
    const Logits numbers = logits(reference::LossKind::mean_squared_error);
    refuses(host_batch(numbers.net, numbers.seq, {0, 7}), LossKind::binary_cross_entropy);
    // One sequence without a step that counts has no logits.
    const Logits labels = logits(reference::LossKind::cross_entropy_max);
    batch = host_batch(labels.net, labels.seq, {0, 7});
    for (Index t = 0; t < 9; ++t) batch.mask[static_cast<std::size_t>(t * 7 + 5)] = 0.0f;
    refuses(batch, LossKind::cross_entropy_max);
}

}  // namespace
}  // namespace spikefloss
