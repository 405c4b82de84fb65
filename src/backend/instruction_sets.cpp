#include "backend/instruction_sets.hpp"

#include "core/error.hpp"

#include <cstdlib>

// cmake/CpuKernels.cmake writes one line for each: the number of its function, and its name.
#define SPIKEFLOSS_INSTRUCTION_SET(number, name) \
    extern "C" spikefloss::Backend* spikefloss_cpu_backend_##number(int threads, spikefloss::Sums sums);
#include <instruction_sets.inc>
#undef SPIKEFLOSS_INSTRUCTION_SET

namespace spikefloss {
namespace {

// A set that is not listed here (native, znver4, one for Arm) was the choice of the person who built the program.
bool processor_has([[maybe_unused]] std::string_view name) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt");
    const bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    if (name == "x86-64-v2") return v2;
    if (name == "x86-64-v3") return v3;
    if (name == "x86-64-v4")
        return v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl");
#endif
    return true;
}

constexpr InstructionSet sets[] = {
#define SPIKEFLOSS_INSTRUCTION_SET(number, name) \
    {name, [] { return processor_has(name); }, spikefloss_cpu_backend_##number},
#include <instruction_sets.inc>
#undef SPIKEFLOSS_INSTRUCTION_SET
};

}  // namespace

std::span<const InstructionSet> instruction_sets() { return sets; }

std::string instruction_set_names() {
    std::string names;
    for (const InstructionSet& set : sets) names += (names.empty() ? "" : ", ") + std::string(set.name);
    return names;
}

const InstructionSet& instruction_set(std::string_view name) {
    constexpr const char* variable = "SPIKEFLOSS_CPU";
    const char* asked = name.empty() ? std::getenv(variable) : nullptr;
    if (asked) name = asked;
    const InstructionSet* newest = nullptr;
    for (const InstructionSet& set : sets) {
        if (!name.empty() && set.name == name) {
            require(set.runs_here(), Exit::usage,
                    fmt::format("this machine's processor does not have all instructions of {}{}", name,
                                asked ? fmt::format(", which {} names", variable) : ""),
                    fmt::format("leave it out to use the newest that the processor has; this build has {}",
                                instruction_set_names()));
            return set;
        }
        if (set.runs_here()) newest = &set;
    }
    require(name.empty(), Exit::usage,
            fmt::format("this build has no CPU kernels for '{}'{}", name,
                        asked ? fmt::format(", which {} names", variable) : ""),
            fmt::format("choose one of {}", instruction_set_names()));
    require(newest, Exit::usage,
            fmt::format("this machine's processor does not have the instructions that this build needs ({})",
                        instruction_set_names()),
            "configure without -DSPIKEFLOSS_ARCH, for kernels that fit every processor, and build again");
    return *newest;
}

std::unique_ptr<Backend> make_cpu_backend(int threads, Sums sums, std::string_view name) {
    return std::unique_ptr<Backend>(instruction_set(name).make(threads, sums));
}

}  // namespace spikefloss
