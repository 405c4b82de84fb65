// The flossing steps before a training step, for every schedule and stop rule, as a table.
#include "train/flossing_schedule.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

struct Row {
    const char* what;
    FlossingScheduleOptions options;
    Progress progress;
    double measured;  // result of measure()
    std::int64_t pending, adaptive;
    int measurements;  // number of calls of measure()
};

Progress at_step(std::int64_t step, std::int64_t floss_steps = 0, double accuracy = 0.0, bool over = false) {
    Progress progress;
    progress.step = step;
    progress.floss_steps = floss_steps;
    progress.running_accuracy = accuracy;
    progress.flossing_over = over;
    return progress;
}

FlossingScheduleOptions with(void (*change)(FlossingScheduleOptions&)) {
    FlossingScheduleOptions options;
    change(options);
    return options;
}

FlossingScheduleOptions before_3() {
    return with([](auto& o) { o.before = 3; });
}
FlossingScheduleOptions at_4_and_8() {
    return with([](auto& o) { o.at = {4, 8}, o.at_steps = 5; });
}
FlossingScheduleOptions every_3() {
    return with([](auto& o) { o.every = 3; });
}
FlossingScheduleOptions joint_every_3() {
    return with([](auto& o) { o.every = 3, o.joint_weight = 0.5; });
}
FlossingScheduleOptions adaptive_every_2() {
    return with([](auto& o) { o.adaptive_every = 2, o.adaptive_steps = 7, o.adaptive_band = {-0.1, 0.1}; });
}
FlossingScheduleOptions unless_learning() {
    FlossingScheduleOptions options = adaptive_every_2();
    options.adaptive_progress = 0.02;
    return options;
}
Progress losing(std::int64_t step, double loss_then, double loss_now) {
    Progress progress = at_step(step);
    progress.adaptive_loss = loss_then;
    progress.running_loss = loss_now;
    return progress;
}
FlossingScheduleOptions all_at_once() {
    return with([](auto& o) {
        o.before = 3, o.at = {0, 4}, o.at_steps = 5, o.every = 2;
        o.adaptive_every = 4, o.adaptive_steps = 7, o.adaptive_band = {-0.1, 0.1};
    });
}
FlossingScheduleOptions every_step(std::int64_t stop_step, double stop_accuracy) {
    FlossingScheduleOptions options;
    options.every = 1;
    options.adaptive_every = 1, options.adaptive_steps = 2, options.adaptive_band = {-0.1, 0.1};
    options.stop_step = stop_step;
    options.stop_accuracy = stop_accuracy;
    return options;
}

TEST(FlossingSchedule, Decides) {
    const Row rows[] = {
        {"none", {}, at_step(0), 1.0, 0, 0, 0},
        {"before, at the start", before_3(), at_step(0), 1.0, 3, 0, 0},
        {"before, one already done", before_3(), at_step(0, 1), 1.0, 2, 0, 0},
        {"before, all done", before_3(), at_step(0, 3), 1.0, 0, 0, 0},
        {"before, training has begun", before_3(), at_step(1, 1), 1.0, 0, 0, 0},
        {"at, a step before", at_4_and_8(), at_step(3), 1.0, 0, 0, 0},
        {"at, the first time", at_4_and_8(), at_step(4), 1.0, 5, 0, 0},
        {"at, a step after", at_4_and_8(), at_step(5), 1.0, 0, 0, 0},
        {"at, the second time", at_4_and_8(), at_step(8, 5), 1.0, 5, 0, 0},
        {"every, at the start", every_3(), at_step(0), 1.0, 1, 0, 0},
        {"every, between", every_3(), at_step(4), 1.0, 0, 0, 0},
        {"every, due", every_3(), at_step(6), 1.0, 1, 0, 0},
        {"joint: no step of its own", joint_every_3(), at_step(6), 1.0, 0, 0, 0},
        {"adaptive, above the band", adaptive_every_2(), at_step(2), 0.2, 0, 7, 1},
        {"adaptive, below the band", adaptive_every_2(), at_step(2), -0.2, 0, 7, 1},
        {"adaptive, inside", adaptive_every_2(), at_step(2), 0.05, 0, 0, 1},
        {"adaptive, on the edge", adaptive_every_2(), at_step(2), 0.1, 0, 0, 1},
        {"adaptive, not due", adaptive_every_2(), at_step(3), 0.2, 0, 0, 0},
        {"adaptive, not a number", adaptive_every_2(), at_step(2), std::numeric_limits<double>::quiet_NaN(), 0, 7, 1},
        {"adaptive, learning", unless_learning(), losing(4, 0.70, 0.68), 0.2, 0, 0, 0},
        {"adaptive, hardly learning", unless_learning(), losing(4, 0.70, 0.69), 0.2, 0, 7, 1},
        {"adaptive, getting worse", unless_learning(), losing(4, 0.70, 0.80), 0.2, 0, 7, 1},
        {"adaptive, at the start", unless_learning(), losing(0, 0.0, 0.0), 0.2, 0, 7, 1},
        {"adaptive, learning but no such rule", adaptive_every_2(), losing(4, 0.70, 0.10), 0.2, 0, 7, 1},
        {"all at the start", all_at_once(), at_step(0), 0.2, 3 + 5 + 1, 7, 1},
        {"all at step 4", all_at_once(), at_step(4, 9), 0.2, 5 + 1, 7, 1},
        {"all at step 2", all_at_once(), at_step(2, 9), 0.2, 1, 0, 0},
        {"over", all_at_once(), at_step(4, 9, 0.0, true), 0.2, 0, 0, 0},
        {"before the stop step", every_step(5, 0.0), at_step(4), 0.2, 1, 2, 1},
        {"at the stop step", every_step(5, 0.0), at_step(5), 0.2, 0, 0, 0},
        {"after the stop step", every_step(5, 0.0), at_step(6), 0.2, 0, 0, 0},
        {"accuracy not yet above", every_step(0, 0.9), at_step(6, 0, 0.9), 0.2, 1, 2, 1},
        {"accuracy above", every_step(0, 0.9), at_step(6, 0, 0.91), 0.2, 0, 0, 0},
        {"accuracy above, no rule", every_step(0, 0.0), at_step(6, 0, 0.91), 0.2, 1, 2, 1},
    };
    for (const Row& row : rows) {
        SCOPED_TRACE(row.what);
        Progress progress = row.progress;
        int measurements = 0;
        FlossingSchedule(row.options).decide(progress, [&] {
            ++measurements;
            return row.measured;
        });
        EXPECT_EQ(progress.floss_pending, row.pending);
        EXPECT_EQ(progress.adaptive_pending, row.adaptive);
        EXPECT_EQ(measurements, row.measurements);
        EXPECT_EQ(progress.step, row.progress.step);
        EXPECT_EQ(progress.floss_steps, row.progress.floss_steps);
    }
}

TEST(FlossingSchedule, ComparesTheLossWithThatAtTheLastAdaptiveDecision) {
    Progress progress = losing(4, 0.70, 0.60);  // learning
    FlossingSchedule(unless_learning()).decide(progress, [] { return 0.2; });
    EXPECT_EQ(progress.adaptive_loss, 0.60);
    progress.step = 5, progress.running_loss = 0.50;  // not due
    FlossingSchedule(unless_learning()).decide(progress, [] { return 0.2; });
    EXPECT_EQ(progress.adaptive_loss, 0.60);
    progress.step = 6, progress.running_loss = 0.65;
    FlossingSchedule(unless_learning()).decide(progress, [] { return 0.2; });
    EXPECT_EQ(progress.adaptive_loss, 0.65);
    EXPECT_EQ(progress.adaptive_pending, 7);
}

TEST(FlossingSchedule, IsEnabledByAnySchedule) {
    EXPECT_FALSE(FlossingSchedule({}).enabled());
    for (const auto& options : {before_3(), at_4_and_8(), every_3(), joint_every_3(), adaptive_every_2()})
        EXPECT_TRUE(FlossingSchedule(options).enabled());
}

TEST(FlossingSchedule, JointStepsObeyTheStopRules) {
    FlossingScheduleOptions options = joint_every_3();
    EXPECT_TRUE(FlossingSchedule(options).joint(at_step(0)));
    EXPECT_FALSE(FlossingSchedule(options).joint(at_step(1)));
    EXPECT_TRUE(FlossingSchedule(options).joint(at_step(6)));
    EXPECT_FALSE(FlossingSchedule(options).joint(at_step(6, 0, 0.0, true)));
    EXPECT_FALSE(FlossingSchedule(every_3()).joint(at_step(6)));
    options.stop_step = 6;
    EXPECT_TRUE(FlossingSchedule(options).joint(at_step(3)));
    EXPECT_FALSE(FlossingSchedule(options).joint(at_step(6)));
    options.stop_step = 0;
    options.stop_accuracy = 0.8;
    EXPECT_FALSE(FlossingSchedule(options).joint(at_step(6, 0, 0.9)));
}

TEST(FlossingSchedule, EndsForGoodInsideTheStopBand) {
    FlossingScheduleOptions options = every_3();
    EXPECT_FALSE(FlossingSchedule(options).over(0.0));  // without a band flossing never ends
    options.has_stop_band = true;
    options.stop_band = {-0.05, 0.02};
    EXPECT_TRUE(FlossingSchedule(options).over(0.0));
    EXPECT_TRUE(FlossingSchedule(options).over(-0.05));
    EXPECT_FALSE(FlossingSchedule(options).over(0.03));
    EXPECT_FALSE(FlossingSchedule(options).over(-0.06));
    EXPECT_FALSE(FlossingSchedule(options).over(std::numeric_limits<double>::quiet_NaN()));
}

}  // namespace
}  // namespace spikefloss
