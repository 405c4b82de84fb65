// Every command starts with this: the process grid, and a backend with its share of the machine's cores.
#pragma once

#include "backend/factory.hpp"
#include "commands/commands.hpp"
#include "config/config.hpp"
#include "io/checkpoint.hpp"
#include "parallel/process_grid.hpp"

#include <functional>
#include <string>

namespace spikefloss {

// Number of ranks in MPI_COMM_WORLD, and whether this one is rank 0, which prints.
int world_size();
bool is_first_rank();

// Both throw Error(Exit::usage) if a launcher has started n runs of one rank each, which would all write to the same
// files. The first finds launchers of other MPIs, the second finds srun without a PMI that Open MPI can use. Under
// mpirun the number of ranks is explicit, so fewer ranks than Slurm tasks is intended.
void check_launcher();
void check_slurm_tasks();

// Threads for each rank of this machine: the requested number, or the cores divided by the ranks on it (fewer if the
// launcher has bound the rank to fewer).
int threads_per_rank(const ProcessGrid& grid, std::int64_t asked);

// Runs work that is the same on all ranks and makes no collective call (parsing, reading a config). If it throws on any
// rank, one rank prints the error and all leave in order.
void alike(const std::function<void()>& work);

// The number of this rank among those of this machine. Ranks that see different GPUs (a launcher may show each its own)
// are counted apart.
struct Place {
    int local_rank = 0, local_ranks = 1;
};

// The contradiction between MPI's view of the machines and their names, in one sentence; "" if they agree. hosts: host
// name of every rank; machines: the lowest rank on the machine of each, as MPI sees it.
std::string contradiction_of(const std::vector<std::string>& hosts, const std::vector<int>& machines);

class Session {
public:
    ProcessGrid grid;
    int threads;
    std::unique_ptr<Backend> backend;

    Session(const ParallelChoice& choice, Sums sums);
    // The communicators use the backend's queue: they go first.
    ~Session() { grid.connect({}); }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // "cuda, fp32 products, communicator nccl", and the device of every rank, one line for ranks with the same device;
    // and the contradiction about machines, if there is one. Collective.
    std::string devices_text() const;
    // One JSON object with the machines and settings of this session, the run and its data. passes: as Trainer::passes.
    // Collective.
    std::string record(const CheckpointOrigin& origin,
                       const std::vector<std::pair<std::string, std::string>>& passes) const;
    // This rank's share of the free memory of its GPU or machine.
    std::size_t memory_share() const { return backend->free_memory() / static_cast<std::size_t>(sharers_); }

private:
    std::vector<std::string> devices() const;

    CommKind comm_;
    Precision precision_;
    std::string device_, contradiction_;
    int sharers_ = 1;  // ranks that share the memory
};

// The config file, overridden by the assignments and then by the options of the command line.
Config config_of(const std::string& path, const std::vector<std::string>& assignments, const ParallelChoice& choice);
// The settings of a config for ranks, threads and backend.
ParallelChoice parallel_choice(const Config& config);

}  // namespace spikefloss
