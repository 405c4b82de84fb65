// `info`: what this program is, what it was built with, and what it would run on.
#include "commands/session.hpp"

#include <build_info.hpp>
#include "io/build_text.hpp"

#include <cblas.h>
#include <hdf5.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <thread>

namespace spikefloss {
namespace {

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    return "unknown processor";
}

}  // namespace

int info(const InfoCommand& command) {
    const Session session(command.parallel, Sums::float32);
    if (!is_first_rank()) return 0;
    char mpi[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(mpi, &length);
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    const std::string mpi_text(mpi);
    fmt::print("{}\n", build_text());
    fmt::print("MPI          {}\n", mpi_text.substr(0, mpi_text.find(',')));
    fmt::print("BLAS         {}\n", openblas_get_config());
    fmt::print("HDF5         {}.{}.{}\n", major, minor, release);
    fmt::print("backends     {}\n", backend_names());
    fmt::print("devices      cpu: {}, {} cores\n", processor_name(), std::thread::hardware_concurrency());
    fmt::print("ranks        {}\n", world_size());
    fmt::print("grid         {}x{} (neuron shards x batch shards)\n", session.grid.shape().neuron_shards,
               session.grid.shape().batch_shards);
    fmt::print("threads      {} per rank\n", session.threads);
    return 0;
}

}  // namespace spikefloss
