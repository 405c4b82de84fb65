// How a whole pass is spread over the GPU: blocks that keep a slice of W_rec in shared memory form teams, each taking a
// few sequences at a time through all steps.
#pragma once

#include "device.hpp"

#include "core/view.hpp"

#include <functional>
#include <optional>

namespace spikefloss {

// What the blocks of a team are to each other: one block alone, a cluster, or co-resident blocks of a cooperative
// launch.
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
    // Threads and shared memory of a block for so many columns and sequences; fills slices, threads and shared.
    std::function<void(TeamPlan&)> measure;
    // Blocks of this kind that a multiprocessor holds at once; asked only for teams larger than a cluster.
    std::function<int(const TeamPlan&)> resident;
};

// The smallest teams whose slices fit: none when W_rec does not fit all multiprocessors together. N neurons, b
// sequences.
std::optional<TeamPlan> plan_teams(const Device& device, Index N, Index b, const TeamNeeds& needs);

}  // namespace spikefloss
