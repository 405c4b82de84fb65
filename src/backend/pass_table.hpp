// The table of a backend's whole passes, and the choice from it. A whole pass is an object that runs many steps in one
// call. If no candidate fits, the loop over step operations runs. It always fits.
#pragma once

#include "backend/memory.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace spikefloss {

template <class Pass>
struct Chosen {
    std::unique_ptr<Pass> pass = nullptr;       // null: the loop
    std::string name = "loop over steps", why;  // why: a reason, for the log
    double microseconds = 0.0;                  // predicted, of one step of all sequences; 0: unknown
    std::string text() const { return name + " (" + why + ")"; }
};

// `Of` is the backend, whose limits, operations and resources a pass uses. Its scratch comes from the Memory, which is
// another one in a memory plan.
template <class Pass, class Plan, class Of>
struct Candidate {
    std::string_view name, limits;  // "whole recurrence", "up to 512 neurons, with float32 sums"
    bool (*fits)(Of&, const Plan&);
    std::unique_ptr<Pass> (*make)(Of&, const Plan&, Memory&);
    double (*step_time)(Of&, const Plan&) = nullptr;  // predicted microseconds of one step of all sequences
};

template <class Pass, class Derived, class Plan, class Of>
std::unique_ptr<Pass> make_pass(Of& backend, const Plan& plan, Memory& memory) {
    return std::make_unique<Derived>(backend, plan, memory);
}

// The first candidate that fits and is not in `without` (tests and benchmarks compare candidates).
template <class Pass, class Plan, class Of, std::size_t count>
Chosen<Pass> choose(const Candidate<Pass, Plan, Of> (&candidates)[count], Of& backend, const Plan& plan, Memory& memory,
                    const std::vector<std::string>& without = {}) {
    std::string limits;  // of the candidates that do not fit
    for (const auto& [name, limit, fits, make, step_time] : candidates) {
        if (std::find(without.begin(), without.end(), name) != without.end()) continue;
        if (fits(backend, plan)) {
            memory.begin_pass();
            return {make(backend, plan, memory), std::string(name),
                    "one rank holds all neurons; " + limits + "taken " + std::string(limit),
                    step_time ? step_time(backend, plan) : 0.0};
        }
        limits += std::string(name) + " is taken " + std::string(limit) + "; ";
    }
    return {.why = limits.empty() ? "every whole pass was left out" : limits.substr(0, limits.size() - 2)};
}

}  // namespace spikefloss
