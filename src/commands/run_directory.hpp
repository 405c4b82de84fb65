// The run directory: resolved config, build info, log, metrics, checkpoints; and which run it belongs to.
#pragma once

#include "commands/directory_lock.hpp"
#include "config/schema.hpp"
#include "parallel/process_grid.hpp"

#include <string>

namespace spikefloss {

// Whether the directory may be used for this config. Throws Error(Exit::usage) when it holds a run and resume is false,
// or a run of another config (naming the keys that differ), or is in use by another process. Returns one line for each difference that may be. Collective.
std::string check_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config, bool resume);

// Makes the directory, takes its lock, forgets the outcome of a session before, and writes the config, the build info and
// the record of the session (JSON) into it. Throws Error(Exit::storage) when that fails. Collective; rank 0 works, and
// holds the lock.
[[nodiscard]] DirectoryLock start_run_directory(const ProcessGrid& grid, const std::string& directory,
                                                const Config& config, const std::string& session);

// Keys that may change between the sessions of one run: how long, where, how often, and how far a step goes (what a run
// that blew up needs to go on), but not what is learned from what.
bool may_change(const std::string& key);

// What makes two runs end with different networks, in one line: keys that may not change, and how far a step goes. "" where
// all of them agree.
std::string result_differences(const Config& now, const Config& before);

}  // namespace spikefloss
