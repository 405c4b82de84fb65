// Distribution of passes over the GPU: every neuron and sequence has a place, and the plan is the one with the least
// predicted time.
#include "team_plan.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace spikefloss::testing_support {
namespace {

Device device(std::size_t shared, bool clusters = true, int multiprocessors = 132) {
    Device d;
    d.major = clusters ? 9 : 8;
    d.multiprocessors = multiprocessors;
    d.shared_per_block = shared;
    return d;
}

// The devices that exist: their multiprocessors and the shared memory of a block.
const Device devices[] = {device(163 * 1024, false, 108), device(227 * 1024, true, 132), device(227 * 1024, true, 148),
                          device(99 * 1024, true, 170)};

constexpr double never = 1e9;  // a stepwise pass that no plan has to beat

// A block needs memory for its slice of W and a number of bytes per sequence. A step takes a time that grows with the
// neurons and sequences of a block. One block per multiprocessor; clusters lie within groups of 16 multiprocessors.
TeamNeeds needs(const Device& d, Index N, double stepwise = never) {
    return {1024,
            [N](TeamPlan& plan) {
                plan.threads = plan.columns * plan.sequences;
                plan.shared = static_cast<std::size_t>(4 * N * plan.columns + 1000 * plan.sequences);
            },
            [d](const TeamPlan& plan) {
                return plan.kind == TeamKind::cluster ? d.multiprocessors / 16 * (16 / plan.size)
                                                      : d.multiprocessors / plan.size;
            },
            [N](const TeamPlan& plan) {
                return 0.3 + static_cast<double>(N * plan.columns * plan.sequences) / 100e3 +
                       (plan.kind == TeamKind::grid ? 0.5 : 0.0);
            },
            stepwise};
}

std::optional<TeamPlan> plan_for(const Device& d, Index N, Index b, double stepwise = never) {
    return plan_teams(d, N, b, needs(d, N, stepwise));
}

TEST(TeamPlan, EveryNeuronAndSequenceHasAPlace) {
    for (const Device& d : devices)
        for (Index N : {1, 31, 32, 33, 80, 256, 1000, 1024, 1500})
            for (Index b : {1, 5, 64, 1000}) {
                SCOPED_TRACE(testing::Message() << d.multiprocessors << " multiprocessors, N " << N << ", b " << b);
                const auto plan = plan_for(d, N, b);
                if (!plan) {  // W_rec does not fit: not even slices of 32 columns in all blocks
                    EXPECT_GT(4 * N * 32 + 1000, static_cast<Index>(d.shared_per_block));
                    continue;
                }
                EXPECT_EQ(plan->columns % 32, 0);
                EXPECT_GE(plan->columns * plan->size, N);
                EXPECT_LT(plan->columns * (plan->size - 1), N);  // no block without a neuron
                EXPECT_LE(plan->threads, 1024);
                EXPECT_LE(plan->shared, d.shared_per_block);
                if (plan->kind == TeamKind::grid)
                    EXPECT_LE(plan->teams * plan->size, d.multiprocessors);  // all resident; teams take turns
                else
                    EXPECT_GE(Index{plan->teams} * plan->sequences, b);
                const Index at_once = needs(d, N).teams_at_once(*plan);
                EXPECT_GE(Index{plan->rounds} * at_once * plan->sequences, b);
                EXPECT_LT((Index{plan->rounds} - 1) * at_once * plan->sequences, b);
            }
}

TEST(TeamPlan, KindFollowsTheSize) {
    const auto kind = [](const Device& d, Index N) { return plan_for(d, N, 8)->kind; };
    EXPECT_EQ(kind(device(227 * 1024), 32), TeamKind::block);
    EXPECT_EQ(kind(device(227 * 1024), 256), TeamKind::cluster);
    EXPECT_EQ(kind(device(227 * 1024, false), 256), TeamKind::grid);
    EXPECT_EQ(kind(device(227 * 1024), 1024), TeamKind::grid);
}

TEST(TeamPlan, FewSequencesEachSpreadOverAllMultiprocessors) {
    const auto few = plan_for(device(227 * 1024), 64, 16);
    EXPECT_EQ(few->sequences, 1);
    EXPECT_EQ(few->teams, 16);
    EXPECT_EQ(few->rounds, 1);
    // Many sequences: a longer step for several at once, in place of several rounds of short steps.
    const auto many = plan_for(device(227 * 1024), 32, 1320);
    EXPECT_EQ(many->sequences, 10);
    EXPECT_EQ(many->rounds, 1);
}

// A plan never takes longer than a product and a kernel per step, whatever the rounds.
TEST(TeamPlan, ManyRoundsGiveWayToSteps) {
    for (const Device& d : devices)
        for (Index b : {1, 16, 64, 256, 1000})
            for (Index N = 64; N <= 1728; N += 32) {
                const double stepwise = stepwise_backward_time(N, b);
                const auto plan = plan_for(d, N, b, stepwise);
                if (plan) {
                    EXPECT_LT(plan->microseconds, stepwise) << "N " << N << ", b " << b;
                    EXPECT_LT(plan->rounds * 1.3 * (plan->kind == TeamKind::grid), stepwise)
                        << "N " << N << ", b " << b;
                }
            }
    EXPECT_FALSE(plan_for(device(227 * 1024), 1600, 256, stepwise_backward_time(1600, 256)));
    EXPECT_TRUE(plan_for(device(227 * 1024), 1024, 64, stepwise_forward_time(1024, 64)));
}

// 22 clusters of 6 fit into 132 multiprocessors, but only 16 into groups of 16: a plan of 6 takes two waves.
TEST(TeamPlan, ClustersLieInGroupsOfMultiprocessors) {
    const Device d = device(227 * 1024);
    TeamNeeds six = needs(d, 192);
    six.measure = [](TeamPlan& plan) {
        plan.threads = plan.columns * plan.sequences;
        plan.shared = plan.columns == 32 && plan.sequences == 1 ? 1000 : std::size_t{1} << 30;  // only this shape fits
    };
    const auto plan = plan_teams(d, 192, 22, six);
    ASSERT_TRUE(plan);
    EXPECT_EQ(plan->size, 6);
    EXPECT_EQ(plan->rounds, 2);
}

TEST(TeamPlan, NoneWhereNothingFits) {
    const Device d = device(227 * 1024);
    EXPECT_FALSE(plan_for(d, 4096, 8));  // no block can hold 32 columns
    TeamNeeds full = needs(d, 1024);
    full.teams_at_once = [](const TeamPlan&) { return 0; };
    EXPECT_FALSE(plan_teams(d, 1024, 8, full));                    // no space for the blocks of a grid
    EXPECT_FALSE(plan_for(device(227 * 1024, true, 4), 1024, 8));  // a team has more blocks than can be placed
    EXPECT_FALSE(plan_for(device(1024), 0, 8));
    EXPECT_FALSE(plan_for(d, 256, 8, 0.1));  // steps take less
}

}  // namespace
}  // namespace spikefloss::testing_support
