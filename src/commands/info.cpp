// `info`: prints the version, the build, the libraries, the devices and the grid.
#include "commands/memory_need.hpp"
#include "commands/options.hpp"
#include "commands/time_need.hpp"
#include "io/build_text.hpp"
#include "io/file_probe.hpp"
#include "io/nir_network.hpp"
#include "sequences/open_task.hpp"

#include <cblas.h>
#include <hdf5.h>

#include <cstdio>
#include <string>
#include <thread>

namespace spikefloss {
namespace {

// The time of the last rank of the grid, whose network has its values if they are those of a file.
std::string time_of(const Session& session, const Config& config, GridShape grid, Workload workload) {
    constexpr double budget = 1.0;  // seconds for each kind of step
    const int rank = grid.neuron_shards * grid.batch_shards - 1, shard = grid.neuron_shards - 1;
    const MemoryNeed need = memory_need(*session.backend, grid, rank, {config, workload.task, blank(workload.network)},
                                        session.memory_share());
    if (!need.fits()) return "  time: not measured, the rank does not fit into the memory that is free here\n";
    if (config.network.file.empty())
        workload.network =
            to_train(config, initial_network(initial_settings(config, workload.task), grid.neuron_shards, shard),
                     grid.neuron_shards, shard);
    return time_text(time_need(*session.backend, grid, rank, workload, budget), session.device());
}

// The memory and traffic of training the config on one rank of the grid; also its time if that is asked for. Pass free
// = 0 if the grid does not exist.
std::string plan_of(const Session& session, const Config& config, GridShape grid, std::size_t free, bool time) {
    check_grid(config, grid.neuron_shards, grid.batch_shards);
    const std::unique_ptr<Task> task = open_task(task_settings(config));
    const int last = grid.neuron_shards - 1;
    HostNetwork network;
    if (config.network.file.empty())
        network = planned_network(initial_settings(config, *task), grid.neuron_shards, last);
    else
        network =
            load_network(config.network.file, nir_rules(config), grid.neuron_shards, last, config.network.transposed);
    network = to_train(config, std::move(network), grid.neuron_shards, last);
    check_network(config, *task, network);
    std::string times;
    if (time) times = time_of(session, config, grid, {config, *task, network});
    network = blank(network);
    const int ranks = grid.neuron_shards * grid.batch_shards;
    return fmt::format("on a {}x{} grid ({} rank{}), on its last rank, which holds the most:\n{}", grid.neuron_shards,
                       grid.batch_shards, ranks, ranks == 1 ? "" : "s",
                       plan_text(*session.backend, grid, {config, *task, std::move(network)}, free) + times);
}

}  // namespace

int info(const ProcessGrid& everyone, const InfoCommand& command) {
    Config config;
    GridShape grid;
    ParallelChoice choice = command.parallel;
    bool there = true;  // whether the planned grid exists
    everyone.agree([&] {
        require(!command.plan.empty() || command.assignments.empty(), Exit::usage,
                "--set changes a config, but none was named",
                "name a config file: spikefloss info --plan CONFIG --set section.key=value");
        if (command.plan.empty()) return;
        config = config_of(command.plan, command.assignments, command.parallel);
        check_config(config);
        choice = parallel_choice(config);
        if (choice.grid == "auto") choice.grid = "";
        grid = choice.grid.empty() ? GridShape{1, everyone.ranks()} : read_grid(choice.grid);
        there = grid.neuron_shards * grid.batch_shards == everyone.ranks();
        if (!there && everyone.ranks() == 1) choice.grid = "";
    });
    const Session session(everyone, choice, config.run.sums);
    const std::string devices = session.devices_text();
    std::string plan;
    require_readable_networks(config, session.grid);
    for (const std::string& path : hdf5_files(config.task)) require_readable(path, session.grid);
    session.grid.agree([&] {
        if (!command.plan.empty() && everyone.rank() == 0)
            plan = plan_of(session, config, grid, there ? session.memory_share() : 0, command.time);
    });
    if (everyone.rank() != 0) return 0;
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
    fmt::print("ranks        {}\n", everyone.ranks());
    fmt::print("grid         {}x{} (neuron shards x batch shards)\n", session.grid.shape().neuron_shards,
               session.grid.shape().batch_shards);
    fmt::print("threads      {} per rank\n", session.threads);
    if (!plan.empty()) fmt::print("plan of {} {}", command.plan, plan);
    return 0;
}

}  // namespace spikefloss
