// What memory a training run takes on this rank, before it starts.
#pragma once

#include "commands/session.hpp"
#include "config/schema.hpp"
#include "network/parameters.hpp"
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
    std::size_t arrays = 0;   // what the run allocates at its start
    std::size_t scratch = 0;  // an estimate of what operations need besides
    std::size_t free = 0;     // this rank's share of what is free
    std::size_t total() const { return arrays + scratch; }
    bool fits() const { return total() <= free; }
};

// Counted by making the objects of the run without their memory. has_current: whether any alpha is not 0. Collective.
MemoryNeed memory_need(const Session& session, const Config& config, const Task& task, const NetworkShape& shape,
                       bool has_current);

// "1.2 GiB of 70.1 GiB free (weights and optimisers 0.3, ...)"
std::string memory_line(const MemoryNeed& need);
// One line for each part.
std::string memory_table(const MemoryNeed& need);
// Throws Error(Exit::usage) with the numbers and what to shrink on all ranks when it does not fit on one. Collective.
void require_memory(const Session& session, const MemoryNeed& need);

}  // namespace spikefloss
