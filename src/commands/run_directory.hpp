// The run directory: resolved config, build info, log, metrics, checkpoints; and which run it belongs to.
#pragma once

#include "commands/directory_lock.hpp"
#include "config/schema.hpp"
#include "io/checkpoint.hpp"
#include "parallel/process_grid.hpp"

#include <string>

namespace spikefloss {

// What check_run_directory has found.
struct RunDirectory {
    DirectoryLock lock;   // on rank 0 of a run that is resumed
    std::string changed;  // a line for each key that differs from the session before, and may
};

// Whether the directory may be used for this config. Throws Error(Exit::usage) when it holds a run, or checkpoints or
// records, and resume is false; when it holds a run of another config (naming the keys that differ); or when it is in
// use by another process. Collective.
RunDirectory check_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config,
                                 bool resume);

// Makes the directory, takes its lock, forgets the outcome of a session before, and writes the config, the build info
// and the record of the session (JSON) into it. Without a lock it looks again, with the lock in hand: another run may
// have used the directory since. Throws Error(Exit::storage) when it cannot write. Collective; rank 0 works, and holds
// the lock.
void start_run_directory(const ProcessGrid& grid, RunDirectory& found, const Config& config,
                         const std::string& session);

// The run that a directory belongs to, and the digests of its data, as its session.json says; "" where it does not.
CheckpointOrigin origin_in(const std::string& directory);
// The digest of the bytes of network.file. Error(Exit::bad_file) when it cannot be read.
std::string network_digest(const std::string& path);

// Why a checkpoint is not one of this run, with the key that differs: "run.seed is 6, but the run has 5". "" when it is
// one. run: "" when that is not known.
std::string foreign_reason(const CheckpointOrigin& checkpoint, const Config& config, const std::string& run);
// Throws Error(Exit::usage) when the checkpoint at `path` is not one of this run.
void require_own_checkpoint(const std::string& path, const CheckpointOrigin& checkpoint, const Config& config,
                            const std::string& run);

// Keys that may change between the sessions of one run: how long, where, how often, and how far a step goes (what a run
// that blew up needs to go on), but not what is learned from what. A place may change when the data are the same.
bool may_change(const std::string& key);

// A line for each key that differs and may not change.
std::string forbidden_changes(const Config& now, const Config& before);

// What makes two runs end with different networks, in one line: keys that may not change, and how far a step goes. ""
// where all of them agree.
std::string result_differences(const Config& now, const Config& before);

}  // namespace spikefloss
