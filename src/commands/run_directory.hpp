// The run directory: resolved config, build info, log, metrics, checkpoints; and which run it belongs to.
#pragma once

#include "config/schema.hpp"
#include "parallel/process_grid.hpp"

#include <string>

namespace spikefloss {

// Makes the directory, or checks that it belongs to this config when resuming. Throws Error(Exit::usage) when it holds a
// run and resume is false, or a run of another config (naming the keys that differ); Error(Exit::storage) when it cannot
// be written. Collective; rank 0 works.
void prepare_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config, bool resume);

// Keys that may change between the sessions of one run: how long, where and how often, not what is computed.
bool may_change(const std::string& key);

}  // namespace spikefloss
