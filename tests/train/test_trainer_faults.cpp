// A number that is not finite is found before any parameter is changed. All ranks throw. Only the first prints the
// error with its place: step, rank, parameter.
#include "core/error.hpp"
#include "support/near.hpp"
#include "support/small_training.hpp"

#include <bit>
#include <cmath>
#include <limits>

namespace spikefloss {
namespace {

using namespace testing_support;

constexpr Index row = 8, col = 2;  // of w_rec [13, 13]

// The training state with `value` at w_rec[row, col], on the rank that owns it.
TrainingState planted(TrainingState state, float value) {
    const ParameterLayout& layout = state.network.layout;
    const BlockRange mine = layout.neurons();
    const Index at = layout.extent(Parameter::w_rec).offset + (row - mine.begin) * layout.shape().neurons + col;
    if (mine.begin <= row && row < mine.end) state.network.values[static_cast<std::size_t>(at)] = value;
    return state;
}

// NaN is not equal to itself: compare bits.
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
        return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
    });
}

// The text of the error that a step must throw on all ranks.
std::string fault_of_a_step(SmallTraining& run) {
    try {
        run.trainer.advance();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::numerics);
        EXPECT_TRUE(error.collective);
        return error.what();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
}

void nan_in_the_recurrent_weights(TapeKind tape) {
    on_every_grid([tape](const ProcessGrid& grid) {
        TrainerOptions options = small_options(Flossing::none);
        options.tape = tape;
        SmallTraining healthy(grid, Sums::float32, options);
        healthy.advance_to(3);
        SmallTraining run(grid, Sums::float32, options,
                          planted(healthy.trainer.state(), std::numeric_limits<float>::quiet_NaN()));
        const TrainingState before = run.trainer.state();
        int owner = 0;  // the rank of the first batch shard that owns the row
        while (!block_range(13, grid.shape().neuron_shards, owner).contains(row)) ++owner;
        const std::string text = fault_of_a_step(run);
        EXPECT_EQ(text.empty(), grid.rank() != 0);
        if (grid.rank() == 0) {
            for (const std::string& part : {std::string("training step 4"), std::string("the loss is"),
                                            std::string("w_rec"), fmt::format("rank {}", owner)})
                EXPECT_NE(text.find(part), std::string::npos) << text;
        }
        const TrainingState after = run.trainer.state();
        EXPECT_TRUE(same_bits(after.network.values, before.network.values));
        EXPECT_TRUE(same_bits(after.task.first, before.task.first));
        EXPECT_EQ(after.progress.step, 3);
        EXPECT_EQ(after.task.updates, 3);
    });
}

TEST(TrainerFaults, NanInTheRecurrentWeightsNamesStepRankAndParameter) { nan_in_the_recurrent_weights(TapeKind::full); }

// The membranes are read when only those of the first segment are held.
TEST(TrainerFaults, NanWithATapeInSegments) { nan_in_the_recurrent_weights(TapeKind::segments); }

// An infinite weight: the same, on any grid.
TEST(TrainerFaults, InfiniteWeight) {
    on_every_grid([](const ProcessGrid& grid) {
        SmallTraining run(
            grid, Sums::float32, small_options(Flossing::none),
            planted(TrainingState{small_network(grid), {}, {}, {}}, std::numeric_limits<float>::infinity()));
        const std::vector<float> before = run.trainer.network().values.to_host();
        EXPECT_THROW(run.trainer.advance(), Error);
        EXPECT_TRUE(same_bits(run.trainer.network().values.to_host(), before));
    });
}

// Flossing finds the fault first in its QR. All ranks throw, also those without a sequence; one of them prints.
TEST(TrainerFaults, FlossingOfANetworkWithNan) {
    on_every_grid([](const ProcessGrid& grid) {
        SmallTraining run(
            grid, Sums::float32, small_options(Flossing::before),
            planted(TrainingState{small_network(grid), {}, {}, {}}, std::numeric_limits<float>::quiet_NaN()));
        const std::vector<float> before = run.trainer.network().values.to_host();
        const std::string text = fault_of_a_step(run);
        double speakers = text.empty() ? 0.0 : 1.0;
        if (!text.empty()) {
            for (const char* part : {"failed at step", "sequence 0", "not finite"})
                EXPECT_NE(text.find(part), std::string::npos) << text;
        }
        grid.control().all_reduce_sum(&speakers, Scalar::float64, 1);
        EXPECT_EQ(speakers, 1.0);
        EXPECT_TRUE(same_bits(run.trainer.network().values.to_host(), before));
    });
}

}  // namespace
}  // namespace spikefloss
