// What every command starts from: the process grid and a backend with its share of the machine's cores.
#pragma once

#include "backend/factory.hpp"
#include "commands/commands.hpp"
#include "parallel/process_grid.hpp"

#include <functional>

namespace spikefloss {

// Number of ranks in MPI_COMM_WORLD, and whether this one speaks for all.
int world_size();
bool is_first_rank();

// Threads for each rank of this machine: what was asked for, or its cores shared among the ranks on it (fewer when the
// launcher has bound the rank to fewer).
int threads_per_rank(std::int64_t asked);

// Runs work that all ranks do alike and that makes no collective call (parsing, reading a config): if it throws anywhere,
// one rank tells and all leave in order.
void alike(const std::function<void()>& work);

struct Session {
    ProcessGrid grid;
    int threads;
    std::unique_ptr<Backend> backend;
    Session(const ParallelChoice& choice, Sums sums);
};

Sums sums_from_name(const std::string& name);

}  // namespace spikefloss
