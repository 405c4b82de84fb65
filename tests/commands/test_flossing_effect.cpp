// The note about flossing steps that do not move the exponents.
#include "commands/flossing_effect.hpp"

#include <gtest/gtest.h>

#include <functional>

namespace spikefloss {
namespace {

// What is said after each of the steps from `begin` on, where distance(step) is that of the exponents from their
// target.
std::string said(std::int64_t steps, const std::function<double(std::int64_t)>& distance, std::int64_t begin = 1) {
    FlossingEffect effect(steps);
    std::string all;
    for (std::int64_t step = begin; step <= steps; ++step) {
        const double d = distance(step);
        const std::string note = effect.after(step, d * d);
        EXPECT_TRUE(note.empty() || step == steps);
        all += note;
    }
    return all;
}

TEST(FlossingEffect, ExponentsThatStayAreTold) {
    const std::string note = said(100, [](std::int64_t step) { return step <= 50 ? 0.087 : 0.104; });
    EXPECT_NE(note.find("100 flossing steps before training hardly moved the exponents"), std::string::npos) << note;
    EXPECT_NE(note.find("was 0.087 per step in the first 10 steps and 0.104 in the last 10"), std::string::npos)
        << note;
    EXPECT_NE(said(20, [](std::int64_t) { return 0.5; }), "");
}

TEST(FlossingEffect, ExponentsThatMoveAreNot) {
    EXPECT_EQ(said(100, [](std::int64_t step) { return step <= 10 ? 0.6 : 0.4; }), "");  // moved, but not near
    EXPECT_EQ(said(100, [](std::int64_t) { return 0.019; }), "");                        // near from the start
    EXPECT_NE(said(100, [](std::int64_t step) { return step <= 10 ? 0.6 : 0.5; }), "");
}

TEST(FlossingEffect, TooFewStepsOrAPartOfThemAreNotJudged) {
    EXPECT_EQ(said(19, [](std::int64_t) { return 0.5; }), "");
    EXPECT_EQ(said(
                  100, [](std::int64_t) { return 0.5; }, 31),
              "");  // the session begins with step 31
    EXPECT_EQ(said(0, [](std::int64_t) { return 0.5; }), "");
}

}  // namespace
}  // namespace spikefloss
