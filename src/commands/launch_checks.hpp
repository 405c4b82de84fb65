// Contradictory launches: a launcher has started n runs of one rank each, which would all write to the same files.
#pragma once

#include "parallel/process_grid.hpp"

namespace spikefloss {

// Both throw Error(Exit::usage). The first finds launchers of other MPIs, the second finds srun without a PMI that Open
// MPI can use. Under mpirun the number of ranks is explicit, so fewer ranks than Slurm tasks is intended.
void check_launcher();
void check_slurm_tasks(const ProcessGrid& everyone);

}  // namespace spikefloss
