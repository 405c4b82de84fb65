// Checkpoints: <folder>/checkpoint_<step, 9 digits>.h5, written by any grid and read by any other (docs/files.md).
#pragma once

#include "parallel/process_grid.hpp"
#include "train/training_state.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spikefloss {

// All functions are collective but read_checkpoint_origin.

// The run that a checkpoint belongs to, and what that run had written by then.
struct CheckpointOrigin {
    std::string config = {}, build = {};  // TOML; the build
    std::string run = {};                 // random, the same in all checkpoints of a run; "" in older ones
    std::string data = {};     // digest of the data that were read; "" for generated tasks, and in older ones
    std::string network = {};  // digest of network.file; "" where the run began without one, and in older ones
    std::optional<std::int64_t> metrics = {},
                                diagnostics = {};  // records on the disk; none where they were not counted
};

// Writes the checkpoint of progress.step and, once it is safe on disk, removes all but the `keep` newest of those up to
// this step. The folder is made when missing. On failure Error(Exit::storage); older checkpoints are as they were.
void write_checkpoint(const ProcessGrid& grid, const std::string& folder, const TrainingState& state,
                      const CheckpointOrigin& origin, int keep);

struct CheckpointInfo {
    std::string path;
    std::int64_t step = 0;
};

// The newest whole checkpoint of a folder, the same on every rank; none when there is none. Each one tried is read
// completely and compared with its checksums; the damaged ones go to `rejected` as one text each, with the reason.
std::optional<CheckpointInfo> newest_checkpoint(const ProcessGrid& grid, const std::string& folder,
                                                std::vector<std::string>& rejected);

// Error(Exit::bad_file) on every rank when the file is not, byte for byte, what was written. For a file that a user
// names; newest_checkpoint has looked already.
void require_whole_checkpoint(const std::string& path, const ProcessGrid& grid);

// Error(Exit::bad_file) when the file is no checkpoint, or of another version.
TrainingState read_checkpoint(const std::string& path, const ProcessGrid& grid);

CheckpointOrigin read_checkpoint_origin(const std::string& path);
// Whether a folder has files with names of checkpoints.
bool holds_checkpoints(const std::string& folder);

}  // namespace spikefloss
