// configs/authors_setting.toml has its stated effect: 100 Adam steps lower the mean of lambda^2 at least tenfold, on
// the flossed sequences and on others.
#include "backend/instruction_sets.hpp"
#include "commands/options.hpp"

#include <gtest/gtest.h>

#include <cstdio>

namespace spikefloss {
namespace {

double mean_square(const std::vector<double>& exponents) {
    double sum = 0.0;
    for (double lambda : exponents) sum += lambda * lambda / static_cast<double>(exponents.size());
    return sum;
}

TEST(AuthorsSetting, FlossesTenfold) {
    Config config;
    read_config(SPIKEFLOSS_SOURCE_DIR "/configs/authors_setting.toml", config);
    check_config(config);
    EXPECT_EQ(config.network.neurons, 64);
    EXPECT_EQ(config.task.inputs, 100);
    EXPECT_EQ(config.flossing.exponents, 50);
    EXPECT_EQ(config.network.sharpness, 5.0);
    EXPECT_EQ(config.network.surrogate, Surrogate::fast_sigmoid);
    EXPECT_EQ(config.flossing.jacobian_reset, JacobianReset::ignored);
    EXPECT_EQ(config.flossing.batch, 1);
    EXPECT_EQ(config.flossing.before, 100);
    config.diagnostics.exponents = 50;

    const auto task = make_task(task_settings(config));
    EXPECT_EQ(task->steps(), 500);
    const ProcessGrid grid(MPI_COMM_SELF, {1, 1});
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
    Backend& backend = *made;
    TrainingState start;
    start.network = initial_network(initial_settings(config, *task), 1, 0);
    Trainer trainer(backend, grid, *task, trainer_options(config, *task), std::move(start));

    const double before = mean_square(trainer.diagnose().spectrum.exponents);
    std::vector<double> losses;
    while (trainer.flossing_due()) {
        const StepReport report = trainer.advance();
        ASSERT_TRUE(report.flossing);
        EXPECT_NEAR(report.penalty->loss, mean_square(report.penalty->spectrum.exponents), 1e-12);
        losses.push_back(report.penalty->loss);
    }
    ASSERT_EQ(losses.size(), 100u);
    const double after = mean_square(trainer.diagnose().spectrum.exponents);
    std::printf("mean lambda^2: %.3g -> %.3g on the flossed sequences, %.3g -> %.3g on others\n", losses.front(),
                losses.back(), before, after);
    EXPECT_LT(losses.back(), 0.1 * losses.front());
    EXPECT_LT(after, 0.1 * before);
}

}  // namespace
}  // namespace spikefloss
