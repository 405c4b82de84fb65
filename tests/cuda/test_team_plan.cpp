// Distribution of passes over the GPU: every neuron and sequence has a place, and the team is the smallest that fits.
#include "team_plan.hpp"

#include <gtest/gtest.h>

namespace spikefloss::testing_support {
namespace {

Device device(std::size_t shared, bool clusters = true, int multiprocessors = 132) {
    Device d;
    d.major = clusters ? 9 : 8;
    d.multiprocessors = multiprocessors;
    d.shared_per_block = shared;
    return d;
}

// A block needs space for its slice of W and a number of bytes per sequence.
TeamNeeds needs(Index N, int resident = 1) {
    return {1024,
            [N](TeamPlan& plan) {
                plan.threads = plan.columns * plan.sequences;
                plan.shared = static_cast<std::size_t>(4 * N * plan.columns + 1000 * plan.sequences);
            },
            [resident](const TeamPlan&) { return resident; }};
}

TEST(TeamPlan, EveryNeuronAndSequenceHasAPlace) {
    for (bool clusters : {true, false})
        for (Index N : {1, 31, 32, 33, 80, 256, 1000, 1024, 1500})
            for (Index b : {1, 5, 64, 1000}) {
                SCOPED_TRACE(testing::Message() << "N " << N << ", b " << b << ", clusters " << clusters);
                const Device d = device(227 * 1024, clusters);
                const auto plan = plan_teams(d, N, b, needs(N));
                ASSERT_TRUE(plan);
                EXPECT_EQ(plan->columns % 32, 0);
                EXPECT_GE(plan->columns * plan->size, N);
                EXPECT_LT(plan->columns * (plan->size - 1), N);  // no block without a neuron
                EXPECT_LE(plan->threads, 1024);
                EXPECT_LE(plan->shared, d.shared_per_block);
                if (plan->kind == TeamKind::grid)
                    EXPECT_LE(plan->teams * plan->size, d.multiprocessors);  // all resident; teams take turns
                else
                    EXPECT_GE(Index{plan->teams} * plan->sequences, b);
            }
}

TEST(TeamPlan, KindFollowsTheSize) {
    const auto kind = [](const Device& d, Index N) { return plan_teams(d, N, 8, needs(N))->kind; };
    EXPECT_EQ(kind(device(227 * 1024), 200), TeamKind::block);
    EXPECT_EQ(kind(device(227 * 1024), 256), TeamKind::cluster);
    EXPECT_EQ(kind(device(227 * 1024, false), 256), TeamKind::grid);
    EXPECT_EQ(kind(device(227 * 1024), 1024), TeamKind::grid);
}

TEST(TeamPlan, FewSequencesEachSpreadOverAllMultiprocessors) {
    const auto plan = plan_teams(device(227 * 1024), 80, 16, needs(80));
    EXPECT_EQ(plan->sequences, 1);
    EXPECT_EQ(plan->teams, 16);
    EXPECT_EQ(plan_teams(device(227 * 1024), 80, 1320, needs(80))->sequences, 10);
}

TEST(TeamPlan, NoneWhereNothingFits) {
    EXPECT_FALSE(plan_teams(device(227 * 1024), 4096, 8, needs(4096)));     // no block can hold 32 columns
    EXPECT_FALSE(plan_teams(device(227 * 1024), 1024, 8, needs(1024, 0)));  // no space for the blocks of a grid
    EXPECT_FALSE(
        plan_teams(device(227 * 1024, true, 4), 1024, 8, needs(1024)));  // a team has more blocks than can be placed
    EXPECT_FALSE(plan_teams(device(1024), 0, 8, needs(0)));
}

}  // namespace
}  // namespace spikefloss::testing_support
