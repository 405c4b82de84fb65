// Quartiles and exact intervals against values of numpy.quantile and scipy.stats.beta.ppf.
#include "commands/statistics.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace spikefloss {
namespace {

TEST(Statistics, QuartilesAreNumpys) {
    const struct {
        std::vector<double> values;
        std::array<double, 3> expected;
    } cases[] = {
        {{3}, {3, 3, 3}},
        {{1, 2}, {1.25, 1.5, 1.75}},
        {{4, 1, 3, 2}, {1.75, 2.5, 3.25}},
        {{5, 1, 4, 2, 3}, {2, 3, 4}},
        {{0.5, 0.25, 8, 1, 2, 64}, {0.625, 1.5, 6.5}},
        {{7, 7, 7, 7}, {7, 7, 7}},
    };
    for (const auto& c : cases) EXPECT_EQ(quartiles(c.values), c.expected);
    for (double none : quartiles({})) EXPECT_TRUE(std::isnan(none));
}

TEST(Statistics, InfiniteValuesAreBeyondAllOthers) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    using Three = std::array<double, 3>;
    EXPECT_EQ(quartiles({inf, 2, 1}), (Three{1.5, 2, inf}));
    EXPECT_EQ(quartiles({1, inf, inf, inf, inf}), (Three{inf, inf, inf}));
    EXPECT_EQ(quartiles({1, 2, 3, 4, inf}), (Three{2, 3, 4}));
    EXPECT_EQ(quartiles({-inf, 1, 2}), (Three{-inf, 1, 1.5}));
    EXPECT_EQ(quartiles({inf, inf}), (Three{inf, inf, inf}));
    EXPECT_EQ(quartiles({-inf}), (Three{-inf, -inf, -inf}));
}

TEST(Statistics, IntervalsAreClopperAndPearsons) {
    const struct {
        int successes, trials;
        double low, high;
    } cases[] = {
        {0, 10, 0.000000000000, 0.308497107819},   {10, 10, 0.691502892181, 1.000000000000},
        {8, 10, 0.443904537692, 0.974789273673},   {5, 20, 0.086571469101, 0.491045871708},
        {1, 1, 0.025000000000, 1.000000000000},    {0, 1, 0.000000000000, 0.975000000000},
        {19, 20, 0.751267237228, 0.998734910502},  {500, 1000, 0.468549172972, 0.531450827028},
        {3, 5000, 0.000123751520, 0.001752443603},
    };
    for (const auto& c : cases) {
        const Interval interval = exact_interval(c.successes, c.trials);
        EXPECT_NEAR(interval.low, c.low, 1e-10) << c.successes << " of " << c.trials;
        EXPECT_NEAR(interval.high, c.high, 1e-10) << c.successes << " of " << c.trials;
    }
    const Interval nothing = exact_interval(0, 0);
    EXPECT_EQ(nothing.low, 0.0);
    EXPECT_EQ(nothing.high, 1.0);
}

}  // namespace
}  // namespace spikefloss
