#include "parallel/launch.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>

extern char** environ;

namespace spikefloss {
namespace {

// The number in a variable; 0 if it is not set or has no number.
int number(const Environment& environment, const char* name) {
    const char* text = environment.value(name);
    return text ? std::atoi(text) : 0;
}

}  // namespace

Environment process_environment() {
    return {[](const char* name) -> const char* { return std::getenv(name); },
            [](const char* prefix) {
                for (char** variable = environ; *variable; ++variable)
                    if (std::strncmp(*variable, prefix, std::strlen(prefix)) == 0) return true;
                return false;
            }};
}

bool started_as_rank(const Environment& environment) {
    if (const int ranks = number(environment, "OMPI_COMM_WORLD_SIZE"); ranks > 0) return ranks > 1;
    // A server that runs sets its address. PMIX_RANK and PMIX_NAMESPACE without it are left over from another program.
    const bool has_server = environment.any("PMIX_SERVER_URI") && environment.value("PMIX_RANK");
    return has_server && number(environment, "SLURM_STEP_NUM_TASKS") != 1;
}

bool all_on_one_machine(const Environment& environment) {
    const int ranks = number(environment, "OMPI_COMM_WORLD_SIZE");
    return ranks > 0 && number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE") == ranks;
}

std::string foreign_launch(const Environment& environment) {
    if (started_as_rank(environment) || number(environment, "OMPI_COMM_WORLD_SIZE") > 0) return "";
    for (const char* name : {"PMI_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE"})
        if (const int processes = number(environment, name); processes > 1)
            return fmt::format("{} says {} processes", name, processes);
    return "";
}

}  // namespace spikefloss
