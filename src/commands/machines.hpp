// The machines of a run, as MPI sees them: which ranks share one, and the share of its cores for each.
#pragma once

#include "parallel/process_grid.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spikefloss {

// The number of this rank among those of this machine.
struct Place {
    int local_rank = 0, local_ranks = 1;
};

// Among the ranks on this machine with the same text: the devices that they see, because a launcher may show each rank
// its own. "": among all. Collective.
Place place_among(const ProcessGrid& grid, const std::string& seen);

// The lowest rank on the machine of each rank. Collective.
std::vector<int> machines(const ProcessGrid& grid);

// The contradiction between these machines and the host names of the ranks, in one sentence; "" if they agree.
std::string contradiction_of(const std::vector<std::string>& hosts, const std::vector<int>& machines);

// Threads for each rank of this machine: the requested number, or the cores divided by the ranks on it (fewer if the
// launcher has bound the rank to fewer). Collective.
int threads_per_rank(const ProcessGrid& grid, std::int64_t asked);

}  // namespace spikefloss
