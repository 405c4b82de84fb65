// The CPU backend is compiled once for each instruction set of SPIKEFLOSS_ARCH (CMakeLists.txt). A process takes the
// newest that its processor has.
#pragma once

#include "backend/backend.hpp"

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace spikefloss {

struct InstructionSet {
    std::string_view name;  // a -march= of the compiler: "x86-64-v3"
    bool (*runs_here)();
    Backend* (*make)(int threads, Sums sums);  // the caller owns the result
};

// Those of this build, the newest last.
std::span<const InstructionSet> instruction_sets();
// "x86-64, x86-64-v3"
std::string instruction_set_names();

// The one with this name; with an empty name the one that the environment variable SPIKEFLOSS_CPU names, or the newest
// that the processor has. Throws Error(Exit::usage) if the build or the processor does not have it.
const InstructionSet& instruction_set(std::string_view name = "");

// threads: OpenMP threads of this process, >= 1. name: as for instruction_set.
std::unique_ptr<Backend> make_cpu_backend(int threads, Sums sums, std::string_view name = "");

}  // namespace spikefloss
