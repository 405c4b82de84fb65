// Makes the backend that a run asks for. Implemented in the library spikefloss_factory, which an executable links.
#pragma once

#include "backend/backend.hpp"

#include <memory>
#include <string>
#include <vector>

namespace spikefloss {

struct BackendChoice {
    std::string name = "auto";  // cpu, cuda, or auto: cuda where there is a GPU, else cpu
    int threads = 1;            // of the CPU backend, >= 1
    Sums sums = Sums::float32;
    Precision precision = Precision::fp32;
    // Which of the ranks on this machine this one is; rank r takes GPU r.
    int local_rank = 0, local_ranks = 1;
    bool share_device = false;  // more ranks than GPUs: several take the same one
};

// Throws Error(Exit::usage) for a backend that this build or this machine does not have, and when there are more local
// ranks than GPUs without share_device.
std::unique_ptr<Backend> make_backend(const BackendChoice& choice);
inline std::unique_ptr<Backend> make_backend(const std::string& name, int threads, Sums sums) {
    return make_backend(BackendChoice{.name = name, .threads = threads, .sums = sums});
}

// The backends of this build, for `info`: "cpu" or "cpu, cuda".
std::string backend_names();
// One line for each GPU of this machine (number, name, compute capability, memory), or one that says why there is none.
// Empty when the build has no CUDA backend.
std::vector<std::string> device_texts();
// Why the CUDA backend cannot run here; empty when it can.
std::string why_no_cuda();

}  // namespace spikefloss
