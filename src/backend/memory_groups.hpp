// The memory that control groups (cgroups) leave to this process: limits of a Slurm job, a container or a service.
#pragma once

#include <cstddef>
#include <string>

namespace spikefloss {

// The least memory that the process's own group and those above it leave, of version 1 or 2. Pages of files that the
// kernel can drop count as free. Without a limit: the largest size_t. root: of the file system, for tests.
std::size_t left_by_memory_groups(const std::string& root = "");

}  // namespace spikefloss
