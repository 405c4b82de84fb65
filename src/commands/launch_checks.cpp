#include "commands/launch_checks.hpp"

#include "core/error.hpp"
#include "parallel/launch.hpp"

#include <cstdlib>

namespace spikefloss {

void check_launcher() {
    const std::string found = foreign_launch(process_environment());
    require(found.empty(), Exit::usage, fmt::format("{}, but this is an MPI world of one rank", found),
            "start it with Open MPI's mpirun or launch/mpirun.sh, or with srun --mpi=pmix; unset that variable if no "
            "launcher is involved");
}

void check_slurm_tasks(const ProcessGrid& everyone) {
    const char* tasks = std::getenv("SLURM_NTASKS");
    if (!tasks || std::atoi(tasks) <= 1 || everyone.ranks() > 1 || std::getenv("OMPI_COMM_WORLD_SIZE")) return;
    throw Error(Exit::usage,
                fmt::format("Slurm gave this job {} tasks, but this process is an MPI world of one rank", tasks),
                "start it with srun --mpi=pmix (srun --mpi=list names what Slurm has; Open MPI needs PMIx), or with "
                "mpirun inside the job; for one rank use --ntasks=1");
}

}  // namespace spikefloss
