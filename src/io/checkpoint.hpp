// Checkpoints: <folder>/checkpoint_<step, 9 digits>.h5, written by any grid and read by any other (docs/files.md). The
// network that was best on validation data has a checkpoint of its own, <folder>/best_<step, 9 digits>.h5.
#pragma once

#include "parallel/process_grid.hpp"
#include "train/training_state.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace spikefloss {

// All functions are collective except read_checkpoint_origin and read_progress.

// The run of a checkpoint, and the number of records that the run had written before it.
struct CheckpointOrigin {
    std::string config = {}, build = {};  // TOML; the build
    std::string run = {};                 // random, the same in all checkpoints of a run; "" in older ones
    std::string data = {};     // digest of the data that were read; "" for generated tasks, and in older ones
    std::string network = {};  // digest of network.file; "" if the run began without one, and in older ones
    std::optional<std::int64_t> metrics = {}, diagnostics = {};  // records on the disk; none if they were not counted
};

// Writes the checkpoint of progress.step. Once it is safe on disk, removes all but the `keep` newest of those up to
// this step, and all best checkpoints but that of progress.best_step. Makes the folder if it is missing. On failure
// Error(Exit::storage); older checkpoints are unchanged.
void write_checkpoint(const ProcessGrid& grid, const std::string& folder, const TrainingState& state,
                      const CheckpointOrigin& origin, int keep);

// Writes the best checkpoint of progress.step. Once it is safe on disk, removes all others but that of step `before`:
// the newest checkpoint names it, so a run that continues from there needs it.
void write_best_checkpoint(const ProcessGrid& grid, const std::string& folder, const TrainingState& state,
                           const CheckpointOrigin& origin, std::int64_t before);
std::string best_checkpoint(const std::string& folder, std::int64_t step);

struct CheckpointInfo {
    std::string path;
    std::int64_t step = 0;
};

// The newest whole checkpoint of a folder, the same on every rank; none if there is none. It reads each candidate
// completely and compares it with its checksums. `rejected` gets one text for each damaged one, with the reason.
std::optional<CheckpointInfo> newest_checkpoint(const ProcessGrid& grid, const std::string& folder,
                                                std::vector<std::string>& rejected);

// The reason why a file is no whole checkpoint, the same on every rank; "" if it is one. It reads the file completely.
std::string checkpoint_fault(const std::string& path, const ProcessGrid& grid);

// Error(Exit::bad_file) on every rank if a byte of the file differs from what was written. For a file that a user
// names; newest_checkpoint has checked its result already.
void require_whole_checkpoint(const std::string& path, const ProcessGrid& grid);

// Error(Exit::bad_file) if the file is no checkpoint, or of another version.
TrainingState read_checkpoint(const std::string& path, const ProcessGrid& grid);

CheckpointOrigin read_checkpoint_origin(const std::string& path);
Progress read_progress(const std::string& path);
// Whether a folder has files with names of checkpoints.
bool holds_checkpoints(const std::string& folder);

}  // namespace spikefloss
