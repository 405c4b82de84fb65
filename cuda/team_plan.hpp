// How a whole pass is distributed over the GPU. The blocks of a team hold W_rec, one slice each in shared memory. A
// team takes a few sequences at a time through all steps.
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
    int slices = 1;          // parts of a product's inner length (backwards only)
    int threads = 32;        // of a block
    std::size_t shared = 0;  // bytes of a block
};

struct TeamNeeds {
    int most_threads;  // of a block
    // Computes slices, threads and shared of a plan from its columns and sequences.
    std::function<void(TeamPlan&)> measure;
    // Blocks of this plan that a multiprocessor holds at once. Called only for TeamKind::grid.
    std::function<int(const TeamPlan&)> resident;
};

// The smallest teams whose slices fit into shared memory; empty if W_rec does not fit into all multiprocessors
// together. N neurons, b sequences.
std::optional<TeamPlan> plan_teams(const Device& device, Index N, Index b, const TeamNeeds& needs);

}  // namespace spikefloss
