// How a whole pass is distributed over the GPU. The blocks of a team hold W_rec, one slice each in shared memory. A
// team takes a few sequences at a time through all steps. A plan is chosen by its predicted time: the constants are for
// an H100 and are worked out, not measured (docs/performance.md).
#pragma once

#include "device.hpp"

#include "core/view.hpp"

#include <functional>
#include <optional>

namespace spikefloss {

// The blocks of a team: one block, the blocks of a cluster, or co-resident blocks of a cooperative launch, which wait
// through global memory.
enum class TeamKind { block, cluster, grid };

struct TeamPlan {
    TeamKind kind = TeamKind::block;
    int size = 1;       // blocks of a team
    int columns = 32;   // neurons of a block, a multiple of 32
    int sequences = 1;  // S, of a team at a time
    int teams = 1;
    int slices = 1;           // parts of a product's inner length (backwards only)
    int threads = 32;         // of a block
    std::size_t shared = 0;   // bytes of a block
    int rounds = 1;           // groups of S sequences that run one after another
    double microseconds = 0;  // predicted, of one step of all sequences
};

struct TeamNeeds {
    int most_threads;  // of a block
    // Computes slices, threads and shared of a plan from its columns and sequences.
    std::function<void(TeamPlan&)> measure;
    // Teams of this plan that the GPU holds at once. Called only for plans that fit into a block.
    std::function<int(const TeamPlan&)> teams_at_once;
    // Predicted microseconds of one step of one round, without the wait for the other blocks of the team.
    std::function<double(const TeamPlan&)> step;
    // Predicted microseconds of one step of all sequences, with a product and a kernel per step.
    double stepwise;
};

// The plan with the least predicted time; empty if a product and a kernel per step take less, or if W_rec does not fit
// into all multiprocessors together. N neurons, b sequences.
std::optional<TeamPlan> plan_teams(const Device& device, Index N, Index b, const TeamNeeds& needs);

// The predicted microseconds of one step with a product and kernels per step: the launches, and the larger of the time
// to read the weights from memory and the time of the product. Factors are int8 digits (products_forward.cu,
// digits_backward.cu), bfloat16 parts, or floats in the loop over step operations.
double digits_forward_time(Index N, Index b);
double bf16_forward_time(Index N, Index b);
double float_backward_time(Index N, Index b);
double digits_backward_time(Index N, Index b);
// The least of these.
double stepwise_forward_time(Index N, Index b);
double stepwise_backward_time(Index N, Index b);

}  // namespace spikefloss
