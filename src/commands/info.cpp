// `info`: what this program is, what it was built with, and what it would run on.
#include "commands/memory_need.hpp"
#include "commands/setup.hpp"
#include "io/build_text.hpp"
#include "io/network_file.hpp"

#include <cblas.h>
#include <hdf5.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <optional>
#include <string>
#include <thread>

namespace spikefloss {
namespace {

// What memory the training of a config takes on this rank. Collective.
MemoryNeed need_of(const Session& session, const Config& config) {
    const ProcessGrid& grid = session.grid;
    std::unique_ptr<Task> task;
    NetworkShape shape;
    bool has_current = false;
    grid.agree([&] {
        check_grid(config, grid.shape().neuron_shards, grid.shape().batch_shards);
        task = make_task(task_settings(config));
        shape = {config.network.neurons, task->inputs(), task->outputs()};
        has_current = std::exp(-config.network.dt / config.network.tau_syn) > 0.0;
        if (config.network.file.empty()) return;
        const HostNetwork network = read_network(config.network.file, 1, 0);
        shape = network.layout.shape();
        const auto [offset, count] = network.layout.extent(Parameter::alpha);
        const auto first = network.values.begin() + offset;
        has_current = std::any_of(first, first + count, [](float alpha) { return alpha != 0.0f; });
        check_network(config, *task, shape, shape.neurons * (has_current ? 2 : 1));
    });
    return memory_need(session, config, *task, shape, has_current);
}

}  // namespace

int info(const InfoCommand& command) {
    Config config;
    alike([&] {
        require(!command.config.empty() || command.assignments.empty(), Exit::usage,
                "--set changes a config, but none was named",
                "name a config file: spikefloss info CONFIG --set section.key=value");
        if (command.config.empty()) return;
        config = config_of(command.config, command.assignments, command.parallel);
        check_config(config);
    });
    const bool with_config = !command.config.empty();
    const Session session(with_config ? parallel_choice(config) : command.parallel, sums_from_name(config.run.sums));
    const std::string devices = session.devices_text();
    std::optional<MemoryNeed> need;
    if (with_config) need = need_of(session, config);
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
    if (!cuda_versions().empty()) fmt::print("CUDA         {}\n", cuda_versions());
    fmt::print("devices      {} cores\n", std::thread::hardware_concurrency());
    for (const std::string& device : device_texts()) fmt::print("             {}\n", device);
    fmt::print("in use       {}\n", devices);
    fmt::print("ranks        {}\n", world_size());
    fmt::print("grid         {}x{} (neuron shards x batch shards)\n", session.grid.shape().neuron_shards,
               session.grid.shape().batch_shards);
    fmt::print("threads      {} per rank\n", session.threads);
    if (need) fmt::print("memory that training {} takes on rank 0:\n{}", command.config, memory_table(*need));
    return 0;
}

}  // namespace spikefloss
