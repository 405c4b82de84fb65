// Makes the backend of a run. The library spikefloss_factory implements these functions; an executable links it.
#pragma once

#include "backend/backend.hpp"

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace spikefloss {

class ProcessGrid;

struct BackendChoice {
    BackendKind kind = BackendKind::automatic;
    int threads = 1;                   // of the CPU backend, >= 1
    std::string instruction_set = "";  // of the CPU backend (instruction_sets.hpp); empty: the newest
    Sums sums = Sums::float32;
    Precision precision = Precision::fp32;
    // This rank's number among the ranks on this machine, and how many there are; rank r takes GPU r.
    int local_rank = 0, local_ranks = 1;
    bool share_device = false;  // more ranks than GPUs: several take the same one
    // Treat the GPU as a smaller one, so that tests reach every way of distributing a pass over it.
    struct DeviceLimits {
        std::size_t shared_per_block = 0;  // bytes; 0: no limit
        bool clusters = true;
        int multiprocessors = 0;  // 0: no limit
    } limits = {};
    // What the CUDA backend leaves out, to compare it with what it replaced (cuda/cuda_backend.hpp).
    std::vector<std::string> without_passes = {};
};

// Throws Error(Exit::usage) for a backend that this build or this machine does not have, and when there are more local
// ranks than GPUs without share_device.
std::unique_ptr<Backend> make_backend(const BackendChoice& choice);
inline std::unique_ptr<Backend> make_backend(BackendKind kind, int threads, Sums sums) {
    return make_backend(BackendChoice{.kind = kind, .threads = threads, .sums = sums});
}

// Gives the grid communicators for the backend's memory, unless the backend uses host memory, for which the grid
// already has MPI. Collective. Call grid.connect({}) before the backend is destroyed.
// Throws Error(Exit::usage) when comm and backend do not fit.
void connect(CommKind comm, Backend& backend, ProcessGrid& grid);

// The backends of this build, for `info`: "cpu" or "cpu, cuda".
std::string backend_names();
// One line for each GPU of this machine (number, name, compute capability, memory), or one that says why there is none.
// Empty when the build has no CUDA backend.
std::vector<std::string> device_texts();
// The versions of CUDA, its driver and NCCL; empty when the build has no CUDA backend.
std::string cuda_versions();
// Why the CUDA backend cannot run here; empty when it can.
std::string why_no_cuda();

}  // namespace spikefloss
