// The steps after which bases are factorised: fixed intervals, and intervals chosen from the strain.
#include "lyapunov/qr_schedule.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

namespace spikefloss {
namespace {

// Runs a schedule; the strain of a segment comes from `strain`. Checks that every step is taken once, and returns the
// segments that were accepted.
std::vector<QrSegment> run(QrSchedule schedule, const std::function<double(const QrSegment&)>& strain) {
    std::vector<QrSegment> accepted;
    Index next = 0;
    for (int calls = 0; !schedule.done(); ++calls) {
        const QrSegment segment = schedule.next();
        EXPECT_EQ(segment.first, next);
        EXPECT_GT(segment.steps, 0);
        EXPECT_EQ(segment.steps % segment.interval, 0);
        const double s = strain(segment);
        if (schedule.accept(s, std::isnan(s))) {
            accepted.push_back(segment);
            next += segment.steps;
        }
        if (calls > 10000 || testing::Test::HasFailure()) return {};
    }
    EXPECT_EQ(next, schedule.last());
    return accepted;
}

TEST(QrSchedule, FixedIntervals) {
    const struct {
        Index T, interval, last;
    } cases[] = {{10, 1, 10}, {10, 3, 9}, {10, 10, 10}, {10, 11, 0}};
    for (const auto& c : cases) {
        const QrSchedule schedule(c.T, 4, c.interval);
        EXPECT_EQ(schedule.last(), c.last);
        const auto segments = run(schedule, [](const QrSegment&) { return 1e9; });  // strain has no effect
        ASSERT_EQ(segments.size(), c.last > 0 ? 1u : 0u);
        if (c.last > 0) {
            EXPECT_EQ(segments[0].interval, c.interval);
        }
    }
}

// Vectors that separate at a constant rate: the interval reaches the largest whose strain is at most ln 32.
TEST(QrSchedule, ApproachesTheLongestIntervalOfAConstantRate) {
    for (double rate : {0.01, 0.1, 0.3, 1.0, 2.0, 4.0, 100.0})
        for (Index T : {1, 7, 100, 3000}) {
            const auto segments =
                run(QrSchedule(T, 0, 0), [&](const QrSegment& s) { return rate * double(s.interval); });
            const auto longest = std::max<Index>(1, static_cast<Index>(std::log(32.0) / rate + 1e-9));
            for (const QrSegment& s : segments) EXPECT_LE(s.interval, longest) << "rate " << rate;
            if (T < 3000) continue;
            Index reached = 0;
            for (const QrSegment& s : segments) reached = std::max(reached, s.interval);
            EXPECT_EQ(reached, std::min<Index>(longest, reached)) << "rate " << rate;
            EXPECT_GE(reached, std::min<Index>(longest, 400)) << "rate " << rate;
        }
}

TEST(QrSchedule, AQrEndsTheWarmup) {
    for (Index warmup : {0, 1, 13, 50}) {
        const auto segments = run(QrSchedule(50, warmup, 0), [](const QrSegment&) { return 0.0; });
        bool ends = warmup == 0;
        for (const QrSegment& s : segments) ends = ends || s.first + s.steps == warmup;
        EXPECT_TRUE(ends) << "warm-up " << warmup;
    }
}

// Vectors that separate ten times as fast from step 100 on: the steps taken at too long intervals are taken again.
TEST(QrSchedule, StrainCancelsSteps) {
    int cancelled = 0;
    const auto segments = run(QrSchedule(300, 0, 0), [&](const QrSegment& s) {
        const double strain = (s.first + s.steps > 100 ? 1.0 : 0.1) * double(s.interval);
        cancelled += s.interval > 1 && strain > std::log(128.0);
        return strain;
    });
    EXPECT_GT(cancelled, 0);
    for (const QrSegment& s : segments) {
        EXPECT_LE((s.first + s.steps > 100 ? 1.0 : 0.1) * double(s.interval), std::log(128.0));
    }
}

// A failure, here of every interval above 3, has no strain: the interval is halved, and never longer afterwards.
TEST(QrSchedule, FailuresShortenTheIntervalForGood) {
    const auto segments =
        run(QrSchedule(200, 0, 0), [](const QrSegment& s) { return s.interval > 3 ? std::nan("") : 0.0; });
    Index before = 1;
    for (const QrSegment& s : segments) {
        EXPECT_LE(s.interval, 3);
        before = std::max(before, s.interval);
    }
    EXPECT_GE(before, 2);
    EXPECT_EQ(segments.back().interval > 1, true);
    // A failure at interval 1 is the caller's; the schedule goes on at intervals of 1.
    for (const QrSegment& s : run(QrSchedule(40, 0, 0), [](const QrSegment&) { return std::nan(""); }))
        EXPECT_EQ(s.interval, 1);
    QrSchedule lost(40, 0, 0);
    lost.stay_at_one();
    for (const QrSegment& s : run(lost, [](const QrSegment&) { return 0.0; })) EXPECT_EQ(s.interval, 1);
}

}  // namespace
}  // namespace spikefloss
