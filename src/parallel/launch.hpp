// Whether a launcher started this process as one of several ranks. If not, the program is one process and MPI is never
// initialised: it then needs no daemon, no folder for temporary files and no port, and no variable left over in the
// environment matters.
#pragma once

#include <functional>
#include <string>

namespace spikefloss {

// The value of an environment variable, null where it is not set; names: those that are set.
struct Environment {
    std::function<const char*(const char* name)> value;
    std::function<bool(const char* prefix)> any;  // whether a variable whose name begins so is set
};
Environment process_environment();

// True for a rank of Open MPI's mpirun, or of another launcher with a PMIx server (srun --mpi=pmix), unless the
// launcher says that it started only one.
bool started_as_rank(const Environment& environment);

// True for a rank of mpirun whose ranks are all on its machine.
bool all_on_one_machine(const Environment& environment);

// What another launcher says of the number of its processes, when this one is started_as_rank by none that Open MPI can
// talk to: "PMI_SIZE says 2 processes". "" where it was started alone.
std::string foreign_launch(const Environment& environment);

}  // namespace spikefloss
