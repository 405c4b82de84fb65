// The run directory: resolved config, build info, log, metrics, checkpoints; and which run it belongs to.
#pragma once

#include "commands/directory_lock.hpp"
#include "config/schema.hpp"
#include "io/checkpoint.hpp"
#include "parallel/process_grid.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

// The result of check_run_directory.
struct RunDirectory {
    DirectoryLock lock;   // on rank 0 of a run that is resumed
    std::string changed;  // a line for each key that changed, as it may, since the last session
};

// Checks that the directory may be used for this config. Throws Error(Exit::usage) if it holds a run, checkpoints or
// records and resume is false, if it holds a run of another config (the error names the keys that differ), or if it is
// in use by another process. Collective.
RunDirectory check_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config,
                                 bool resume);

// Makes the directory, takes its lock, removes the outcome of an earlier session, and writes the config, the build info
// and the record of the session (JSON) into it. If `found` has no lock, it takes the lock and checks again, because
// another run may have used the directory meanwhile. Throws Error(Exit::storage) if it cannot write. Collective; rank 0
// does the work and holds the lock.
void start_run_directory(const ProcessGrid& grid, RunDirectory& found, const Config& config,
                         const std::string& session);

// The run of a directory, and the digests of its data, from its session.json; "" if missing there.
CheckpointOrigin origin_in(const std::string& directory);
// The keys of a config that name files with weights, and their values that are not "".
std::vector<std::pair<std::string, std::string>> weight_files(const Config& config);
// The digest of the bytes of such a file. Error(Exit::bad_file) if it cannot be read.
std::string weights_digest(const std::string& path);
// The digests of several files are one text.
inline constexpr std::size_t digest_length = 16;
inline std::string digest_of_file(const std::string& digests, std::size_t at) {
    return digests.substr(std::min(digests.size(), at * digest_length), digest_length);
}

// Why a checkpoint does not belong to this run: "run.seed is 6, but the run has 5". "" if it does. run: "" if unknown.
std::string foreign_reason(const CheckpointOrigin& checkpoint, const Config& config, const std::string& run);
// Throws Error(Exit::usage) when the checkpoint at `path` is not one of this run.
void require_own_checkpoint(const std::string& path, const CheckpointOrigin& checkpoint, const Config& config,
                            const std::string& run);

// Keys that may change between the sessions of one run: length, places, intervals, and the size of updates (which a run
// that blew up may need). Keys of the network and the task may not. A place may change if the data are the same.
bool may_change(const std::string& key);

// A line for each key that differs and may not change.
std::string forbidden_changes(const Config& now, const Config& before);

// The differences that make two runs end with different networks, in one line: keys that may not change, and the size
// of updates. "" if all of them agree.
std::string result_differences(const Config& now, const Config& before);

}  // namespace spikefloss
