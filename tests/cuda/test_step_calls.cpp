// How many calls of the device a training or flossing step makes, and how often the device has no work left while the
// host waits. Each costs microseconds, and a step of a small network takes some hundred.
#include "backend/factory.hpp"
#include "emulation.hpp"
#include "support/small_training.hpp"

#include <gtest/gtest.h>

namespace spikefloss::testing_support {
namespace {

// Of one step, after two that allocate and record.
emulation::Counts calls_of_a_step(Flossing flossing) {
    const std::unique_ptr<Backend> backend = make_backend({.kind = BackendKind::cuda});
    const std::unique_ptr<Task> task = small_task();
    const ProcessGrid& grid = alone();
    Trainer trainer(*backend, grid, *task, small_options(flossing), TrainingState{small_network(grid), {}, {}, {}});
    for (int i = 0; i < 2; ++i) trainer.advance();
    const emulation::Counts before = emulation::counts();
    const StepReport report = trainer.advance();
    EXPECT_EQ(report.flossing, flossing == Flossing::before);
    const emulation::Counts after = emulation::counts();
    return {after.queued - before.queued, after.idle - before.idle};
}

TEST(StepCalls, TrainingLeavesTheDeviceIdleOnce) {
    const emulation::Counts calls = calls_of_a_step(Flossing::none);
    EXPECT_EQ(calls.idle, 1);
    EXPECT_LE(calls.queued, 44);
}

// The penalty is computed on the host, so the device waits between the exponents and their gradient.
TEST(StepCalls, FlossingLeavesTheDeviceIdleTwice) {
    const emulation::Counts calls = calls_of_a_step(Flossing::before);
    EXPECT_EQ(calls.idle, 2);
    EXPECT_LE(calls.queued, 37);
}

}  // namespace
}  // namespace spikefloss::testing_support
