// Training with every flossing schedule: the same on all grids, continued bit for bit from its state, not changed by
// measurements; and one step against the reference.
#include "support/near.hpp"
#include "support/small_training.hpp"

#include <cmath>

namespace spikefloss {
namespace {

using namespace testing_support;

// Kinds of steps in order: f a flossing step, t a training step, j a training step with the penalty.
std::string kinds(const std::vector<StepReport>& reports) {
    std::string text;
    for (const StepReport& r : reports) text += r.flossing ? 'f' : (r.penalty ? 'j' : 't');
    return text;
}

void expect_near(const std::vector<StepReport>& reports, const std::vector<StepReport>& expected, double tolerance) {
    ASSERT_EQ(kinds(reports), kinds(expected));
    for (std::size_t i = 0; i < reports.size(); ++i) {
        SCOPED_TRACE(testing::Message() << "report " << i);
        EXPECT_EQ(reports[i].step, expected[i].step);
        EXPECT_NEAR(reports[i].outcome.loss, expected[i].outcome.loss, tolerance);
        EXPECT_NEAR(reports[i].outcome.accuracy, expected[i].outcome.accuracy, 1e-12);
        EXPECT_NEAR(reports[i].rate, expected[i].rate, 1e-12);
        EXPECT_NEAR(reports[i].norms.global, expected[i].norms.global, 10.0 * tolerance * expected[i].norms.global);
        if (reports[i].penalty) {
            EXPECT_NEAR(reports[i].penalty->loss, expected[i].penalty->loss, tolerance);
        }
    }
}

void expect_equal(const TrainingState& a, const TrainingState& b) {
    EXPECT_TRUE(all_equal(a.network.values, b.network.values));
    EXPECT_TRUE(all_equal(a.task.first, b.task.first));
    EXPECT_TRUE(all_equal(a.task.second, b.task.second));
    EXPECT_TRUE(all_equal(a.floss.first, b.floss.first));
    EXPECT_TRUE(all_equal(a.floss.second, b.floss.second));
    EXPECT_EQ(a.task.updates, b.task.updates);
    EXPECT_EQ(a.floss.updates, b.floss.updates);
    EXPECT_EQ(a.progress.step, b.progress.step);
    EXPECT_EQ(a.progress.floss_steps, b.progress.floss_steps);
    EXPECT_EQ(a.progress.running_loss, b.progress.running_loss);
    EXPECT_EQ(a.progress.running_accuracy, b.progress.running_accuracy);
}

TEST(Trainer, SchedulesGiveTheirSequencesOfSteps) {
    const auto run = [](Flossing flossing) {
        return kinds(SmallTraining(alone(), Sums::float32, small_options(flossing)).advance_to(5));
    };
    EXPECT_EQ(run(Flossing::none), "ttttt");
    EXPECT_EQ(run(Flossing::before), "fffttttt");
    EXPECT_EQ(run(Flossing::at), "tffttfftt");
    EXPECT_EQ(run(Flossing::every), "fttfttft");
    EXPECT_EQ(run(Flossing::joint), "jjjjj");
    EXPECT_EQ(run(Flossing::adaptive_exponent), "ffttffttfft");
    EXPECT_EQ(run(Flossing::adaptive_gradient), "ffttffttfft");
}

// When the quantity enters the band, the rest of the bout is left out. There is no flossing while it is inside.
TEST(Trainer, AnAdaptiveBoutEndsInItsBand) {
    TrainerOptions options = small_options(Flossing::adaptive_exponent);
    options.floss_schedule.adaptive_band = {-100.0, 100.0};
    EXPECT_EQ(kinds(SmallTraining(alone(), Sums::float32, options).advance_to(4)), "tttt");
    // A run that never enters its band shows the quantity after the first flossing step.
    options.floss_schedule.adaptive_band = {100.0, 101.0};
    SmallTraining probe(alone(), Sums::float32, options);
    const double measured = probe.trainer.diagnose().spectrum.exponents[0];
    const double flossed = probe.trainer.advance().penalty->spectrum.exponents[0];
    ASSERT_GT(std::fabs(measured - flossed), 1e-6);
    options.floss_schedule.adaptive_band = {flossed - 1e-7, flossed + 1e-7};
    options.floss_schedule.adaptive_steps = 50;
    options.floss_schedule.adaptive_every = 100;
    EXPECT_EQ(kinds(SmallTraining(alone(), Sums::float32, options).advance_to(2)), "ftt");
}

// All exponents are below the target. Within the slack they are not penalised, but only in adaptive bouts.
TEST(Trainer, OnlyAdaptiveBoutsHaveSlack) {
    for (const Flossing flossing : {Flossing::adaptive_exponent, Flossing::before, Flossing::every}) {
        TrainerOptions options = small_options(flossing);
        options.penalty.target = {2.0};
        options.adaptive_penalty = {{2.0}, 100.0};
        SmallTraining training(alone(), Sums::float32, options);
        const StepReport report = training.trainer.advance();
        ASSERT_TRUE(report.flossing);
        ASSERT_LT(report.penalty->spectrum.exponents[0], 2.0);
        if (flossing == Flossing::adaptive_exponent)
            EXPECT_EQ(report.penalty->loss, 0.0);
        else
            EXPECT_GT(report.penalty->loss, 0.1);
    }
}

TEST(Trainer, StopRulesEndFlossing) {
    TrainerOptions options = small_options(Flossing::every);
    options.floss_schedule.every = 1;
    options.floss_schedule.stop_step = 2;
    EXPECT_EQ(kinds(SmallTraining(alone(), Sums::float32, options).advance_to(4)), "ftfttt");
    options = small_options(Flossing::before);
    options.floss_schedule.has_stop_band = true;
    options.floss_schedule.stop_band = {-100.0, 100.0};
    EXPECT_EQ(kinds(SmallTraining(alone(), Sums::float32, options).advance_to(2)), "ftt");
    options = small_options(Flossing::every);
    options.floss_schedule.every = 1;
    options.floss_schedule.stop_accuracy = 1e-9;  // exceeded from the first training step on
    EXPECT_EQ(kinds(SmallTraining(alone(), Sums::float32, options).advance_to(3)), "fttt");
}

TEST(Trainer, IsTheSameOnEveryGrid) {
    for (const Flossing flossing : all_flossing)
        for (const Sums sums : {Sums::float32, Sums::float64}) {
            SCOPED_TRACE(testing::Message() << name_of(flossing) << (sums == Sums::float32 ? " float32" : " float64"));
            SmallTraining one(alone(), sums, small_options(flossing));
            const auto expected = one.advance_to(5);
            const Outcome outcome = one.trainer.evaluate();
            const Diagnosis diagnosis = one.trainer.diagnose();
            const HostNetwork last = one.trainer.network().to_host();
            const auto values = gathered_parameters(alone(), last.layout, last.values);
            on_every_grid([&](const ProcessGrid& grid) {
                SmallTraining many(grid, sums, small_options(flossing));
                expect_near(many.advance_to(5), expected, 1e-5);
                const HostNetwork mine = many.trainer.network().to_host();
                expect_gradients_near(gathered_parameters(grid, mine.layout, mine.values), values, 1e-4);
                const Outcome other = many.trainer.evaluate();
                EXPECT_NEAR(other.loss, outcome.loss, 1e-5);
                EXPECT_NEAR(other.accuracy, outcome.accuracy, 1e-12);
                const Diagnosis measured = many.trainer.diagnose();
                EXPECT_TRUE(all_near(measured.spectrum.exponents, diagnosis.spectrum.exponents, 1e-4));
                EXPECT_TRUE(near_in_norm(measured.state_gradient_norm, diagnosis.state_gradient_norm, 1e-4));
                EXPECT_NEAR(measured.rate, diagnosis.rate, 1e-12);
            });
        }
}

// A new trainer continues from state(). After 2 units the schedules `before` and `at` are within a bout, after 5 the
// adaptive ones.
TEST(Trainer, GoesOnFromItsStateBitForBit) {
    on_every_grid([](const ProcessGrid& grid) {
        for (const Flossing flossing : all_flossing)
            for (const int units : {2, 5}) {
                SCOPED_TRACE(testing::Message() << name_of(flossing) << " after " << units);
                const TrainerOptions options = small_options(flossing);
                SmallTraining run(grid, Sums::float32, options);
                for (int i = 0; i < units; ++i) run.trainer.advance();
                SmallTraining continued(grid, Sums::float32, options, run.trainer.state());
                expect_equal(continued.trainer.state(), run.trainer.state());
                EXPECT_EQ(kinds(continued.advance_to(6)), kinds(run.advance_to(6)));
                expect_equal(continued.trainer.state(), run.trainer.state());
            }
    });
}

// The tape of the task's pass in segments of 5 steps: the same run within rounding, also if it is only evaluated.
TEST(Trainer, LearnsTheSameFromSegments) {
    on_every_grid([](const ProcessGrid& grid) {
        for (const Flossing flossing : {Flossing::none, Flossing::joint, Flossing::adaptive_gradient}) {
            SCOPED_TRACE(name_of(flossing));
            TrainerOptions options = small_options(flossing);
            SmallTraining full(grid, Sums::float32, options);
            options.tape = TapeKind::segments;
            SmallTraining segments(grid, Sums::float32, options);
            expect_near(segments.advance_to(8), full.advance_to(8), 1e-5);
            EXPECT_TRUE(
                near_in_norm(segments.trainer.state().network.values, full.trainer.state().network.values, 1e-4));
            EXPECT_NEAR(segments.trainer.evaluate().loss, full.trainer.evaluate().loss, 1e-5);
            EXPECT_NEAR(segments.trainer.diagnose().spectrum.exponents[0],
                        full.trainer.diagnose().spectrum.exponents[0], 1e-4);
        }
    });
}

TEST(Trainer, MeasurementsChangeNothing) {
    on_every_grid([](const ProcessGrid& grid) {
        for (const Flossing flossing : {Flossing::every, Flossing::joint}) {
            SmallTraining measured(grid, Sums::float32, small_options(flossing));
            SmallTraining plain(grid, Sums::float32, small_options(flossing));
            const Outcome first = measured.trainer.evaluate();
            for (std::int64_t step = 1; step <= 4; ++step) {
                measured.trainer.diagnose();
                measured.advance_to(step);
                measured.trainer.evaluate();
                const TrainingState state = measured.trainer.state();
                EXPECT_EQ(state.progress.step, step);
            }
            plain.advance_to(4);
            expect_equal(measured.trainer.state(), plain.trainer.state());
            // The same test data at every call, but with a changed network.
            const Outcome again = measured.trainer.evaluate();
            EXPECT_EQ(again.loss, measured.trainer.evaluate().loss);
            EXPECT_NE(again.loss, first.loss);
        }
    });
}

// Neurons and steps of every spike that the rate counts, on any ranks.
TEST(Trainer, TheRasterIsTheSpikesOfTheFirstSequence) {
    TrainerOptions options = small_options(Flossing::none);
    options.diagnostics.batch = 1;
    SmallTraining single(alone(), Sums::float64, options);
    const double rate = single.trainer.diagnose().rate;
    const Raster expected = single.trainer.raster(100);
    ASSERT_EQ(expected.spikes.size(), 13u);
    std::size_t spikes = 0;
    for (const auto& steps : expected.spikes) spikes += steps.size();
    EXPECT_GT(spikes, 0u);
    EXPECT_DOUBLE_EQ(static_cast<double>(spikes), rate * 13 * 24);
    // If there are few sequences, only the last ranks have some. More sequences do not change the first ones.
    for (const Index batch : {1, 2})
        on_every_grid([&](const ProcessGrid& grid) {
            options.diagnostics.batch = batch;
            SmallTraining run(grid, Sums::float64, options);
            run.trainer.diagnose();
            const Raster raster = run.trainer.raster(100), some = run.trainer.raster(5);
            EXPECT_EQ(raster.steps, 24);
            EXPECT_EQ(raster.neurons, 13);
            if (grid.rank() != 0) return;
            EXPECT_EQ(raster.spikes, expected.spikes);
            EXPECT_EQ(some.shown, (std::vector<Index>{0, 2, 5, 7, 10}));
            for (std::size_t i = 0; i < some.shown.size(); ++i)
                EXPECT_EQ(some.spikes[i], raster.spikes[static_cast<std::size_t>(some.shown[i])]);
        });
}

// SGD at rate 1 without a cap: the change of the parameters is minus the gradient of the reference. With a joint
// penalty, weight times the gradient of the penalty is added.
TEST(Trainer, OneStepIsTheGradientOfTheReference) {
    for (const bool joint : {false, true}) {
        SCOPED_TRACE(joint ? "joint" : "task alone");
        TrainerOptions options = small_options(joint ? Flossing::joint : Flossing::none);
        options.adjoint_cap = 0.0;
        options.optimiser = {.kind = OptimiserKind::sgd,
                             .learning_rate = 1.0,
                             .parameters = {Parameter::w_rec, Parameter::w_in, Parameter::bias, Parameter::w_out,
                                            Parameter::bias_out, Parameter::initial_membrane}};
        SmallTraining run(alone(), Sums::float64, options);
        const HostNetwork start = run.trainer.network().to_host();
        reference::Network net;
        static_cast<reference::Parameters&>(net) = gathered_parameters(alone(), start.layout, start.values);
        net.neurons = 13, net.inputs = 1, net.outputs = 1;
        net.sharpness = 2.0;
        const auto sequences = [&](Purpose purpose, Index count, Index steps) {
            const Batch batch = run.task->sample(purpose, 0, count, {0, count});
            reference::Sequences seq;
            seq.steps = steps;
            seq.batch = count;
            seq.x.assign(batch.x.begin(), batch.x.begin() + steps * count);
            seq.mask.assign(batch.mask.begin(), batch.mask.begin() + steps * count);
            seq.target.assign(batch.target.begin(), batch.target.begin() + steps * count);
            return seq;
        };
        const reference::Sequences seq = sequences(Purpose::train, 7, 24);
        const auto trajectory = reference::forward(net, seq);
        const auto loss = reference::task_loss(seq, trajectory.readout);
        reference::Parameters gradient = reference::backward(net, seq, trajectory, loss.gradient);
        const StepReport report = run.trainer.advance();
        EXPECT_NEAR(report.outcome.loss, loss.value, 1e-6);
        if (joint) {
            reference::Sequences flossed = sequences(Purpose::floss, 3, 20);
            flossed.exponents = 4;
            const std::vector<float> bases = random_bases(3, 4, 13, 2, {0, 13}, {0, 3});
            flossed.q0.resize(bases.size());  // [B, k, D] -> [B, D, k]
            for (std::size_t s = 0; s < 3; ++s)
                for (std::size_t j = 0; j < 4; ++j)
                    for (std::size_t d = 0; d < 26; ++d) flossed.q0[(s * 26 + d) * 4 + j] = bases[(s * 4 + j) * 26 + d];
            const auto floss = reference::floss(net, flossed, reference::forward(net, flossed),
                                                {.warmup = 2, .jacobian_reset = reference::JacobianReset::ignored});
            EXPECT_NEAR(report.penalty->loss, floss.value, 1e-5);
            gradient = reference::sum(gradient, floss.through_state, 0.3);
        }
        const std::vector<float> after = run.trainer.network().values.to_host();
        const auto end = gathered_parameters(alone(), start.layout, after);
        for (const Parameter p : options.optimiser.parameters)
            for (const auto& [name, member] : reference::all_parameters) {
                if (name != name_of(p)) continue;
                std::vector<double> change;
                for (std::size_t j = 0; j < (end.*member).size(); ++j)
                    change.push_back((net.*member)[j] - (end.*member)[j]);
                EXPECT_TRUE(near_in_norm(change, gradient.*member, 1e-3)) << name;
            }
    }
}

}  // namespace
}  // namespace spikefloss
