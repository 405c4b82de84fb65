// Whether a launcher started this process as one of several ranks. If not, the program is one process and MPI is never
// initialised: it then needs no daemon, no folder for temporary files and no port. Variables left over in the
// environment then have no effect.
#pragma once

#include <functional>
#include <string>

namespace spikefloss {

// Access to the environment. value: the value of a variable, null if it is not set.
struct Environment {
    std::function<const char*(const char* name)> value;
    std::function<bool(const char* prefix)> any;  // whether a variable with this prefix is set
};
Environment process_environment();

// True for a rank of Open MPI's mpirun, or of another launcher with a PMIx server (srun --mpi=pmix), unless the
// launcher says that it started only one.
bool started_as_rank(const Environment& environment);

// True for a rank of mpirun if all ranks are on this machine.
bool all_on_one_machine(const Environment& environment);

// The number of processes of another launcher, one that Open MPI does not support: "PMI_SIZE says 2 processes". "" if
// started_as_rank, or if this process was started alone.
std::string foreign_launch(const Environment& environment);

}  // namespace spikefloss
