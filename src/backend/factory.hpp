// Makes the backend that a run asks for.
#pragma once

#include "backend/backend.hpp"

#include <memory>
#include <string>

namespace spikefloss {

// name: auto or cpu. threads >= 1. Throws Error(Exit::usage) for a backend that this build does not have.
std::unique_ptr<Backend> make_backend(const std::string& name, int threads, Sums sums);

// The backends of this build, for `info`.
std::string backend_names();

}  // namespace spikefloss
