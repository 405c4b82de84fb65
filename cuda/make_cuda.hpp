// The functions for the CUDA backend that the factory calls. No CUDA header is included.
#pragma once

#include "backend/factory.hpp"

#include <memory>
#include <string>
#include <vector>

namespace spikefloss {

// The CUDA backend on the GPU of local rank choice.local_rank. Throws Error(Exit::usage) if that GPU does not exist.
std::unique_ptr<Backend> make_cuda_backend(const BackendChoice& choice);
// Why no CUDA device can be used; empty when one can.
std::string cuda_fault();
// One line for each device, or one with the reason why there is none.
std::vector<std::string> cuda_device_texts();

}  // namespace spikefloss
