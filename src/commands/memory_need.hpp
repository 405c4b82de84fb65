// The memory that a training run needs on a rank, and the data that the rank sends, known before the run starts.
#pragma once

#include "commands/session.hpp"
#include "config/schema.hpp"
#include "network/parameters.hpp"
#include "parallel/counting_communicator.hpp"
#include "tasks/task.hpp"

#include <string>
#include <vector>

namespace spikefloss {

struct MemoryNeed {
    struct Part {
        std::string name;
        std::size_t bytes;
        std::string remedy;  // how to make it smaller
    };
    std::vector<Part> parts;
    std::vector<std::pair<std::string, std::string>> passes;  // Trainer::passes of that run
    std::size_t arrays = 0;                                   // what the run allocates at its start
    std::size_t scratch = 0;                                  // the most that an operation needs besides
    std::size_t free = 0;                                     // this rank's share of what is free
    std::size_t total() const { return arrays + scratch; }
    bool fits() const { return total() <= free; }
};

// What the sizes of a rank's run depend on.
struct Workload {
    const Config& config;
    const Task& task;
    HostNetwork network;  // this rank's part; its values are not needed
};
// The network without its values.
HostNetwork blank(const HostNetwork& network);

// Counts by making the objects of a rank's run on `backend` without their memory, and by taking its steps without
// computing. The grid need not exist. free: this rank's share of the free memory, 0 if it is not known. If the arrays
// alone are more, no step is taken and the scratch is 0.
MemoryNeed memory_need(Backend& backend, GridShape grid, int rank, const Workload& workload, std::size_t free);

// The data that a unit of work passes to the collectives among the neuron shards and among the batch shards. A few
// numbers over all ranks (losses, norms) are not included.
struct TrafficNeed {
    std::string name;
    Traffic neurons, batch;
};
// For rank `rank` of a grid that need not exist. Each unit is traced without computing. The first is a training step.
std::vector<TrafficNeed> traffic_need(Backend& backend, GridShape grid, int rank, const Workload& workload);

// "states forwards and backwards: whole network (...); ..."
std::string passes_text(const MemoryNeed& need);
// "1.2 GiB of 70.1 GiB free (weights and optimisers 0.3, ...)"
std::string memory_line(const MemoryNeed& need);
// The memory of a rank of a grid that need not exist, and the data that it sends, one line for each part. free: this
// rank's share of the free memory; 0 if the grid does not exist.
std::string plan_text(Backend& backend, GridShape grid, const Workload& workload, std::size_t free);
// Throws Error(Exit::usage) on all ranks if the memory of one is too small, with numbers and a remedy. Collective.
void require_memory(const Session& session, const MemoryNeed& need);

}  // namespace spikefloss
