// The time of a run on a rank, predicted from a few units of its work that are taken here.
#pragma once

#include "commands/memory_need.hpp"

namespace spikefloss {

struct TimeNeed {
    std::string name;        // "training steps"
    double seconds;          // of one of them, without communication
    Index steps;             // in time, of a sequence
    Index taken;             // that many of them were taken; fewer than `steps`: the rest follows from two lengths
    std::int64_t count = 0;  // of the run, as far as its config says
};

// Takes the work of rank `rank` of a grid that need not exist, on `backend`. The other ranks of its neuron shards have
// the spikes of this one. workload.network has its values. Each kind of work takes about `budget` seconds, or three
// units if they take longer, with the first steps of long sequences. Uses the memory of memory_need.
std::vector<TimeNeed> time_need(Backend& backend, GridShape grid, int rank, const Workload& workload, double budget);

// One line for each, and one for the whole run. device: what took them.
std::string time_text(const std::vector<TimeNeed>& needs, const std::string& device);

}  // namespace spikefloss
