// The table of a backend's whole passes, and the choice from it. A whole pass is an object that runs many steps in one
// call. If no candidate fits, the loop over step operations runs. It always fits.
#pragma once

#include "backend/memory.hpp"

#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace spikefloss {

template <class Pass>
struct Chosen {
    std::unique_ptr<Pass> pass = nullptr;       // null: the loop
    std::string name = "loop over steps", why;  // why: a reason, for the log
    std::string text() const { return name + " (" + why + ")"; }
};

// `Of` is the backend, whose limits and resources a pass uses. Its scratch comes from the Memory, which is another one
// in a memory plan.
template <class Pass, class Plan, class Of>
struct Candidate {
    std::string_view name, limits;  // "whole recurrence", "up to 512 neurons, with float32 sums"
    bool (*fits)(Of&, const Plan&);
    std::unique_ptr<Pass> (*make)(Of&, const Plan&, Memory&);
};

template <class Pass, class Derived, class Plan, class Of>
std::unique_ptr<Pass> make_pass(Of& backend, const Plan& plan, Memory& memory) {
    return std::make_unique<Derived>(backend, plan, memory);
}

// The first candidate that fits.
template <class Pass, class Plan, class Of>
Chosen<Pass> choose(std::span<const Candidate<Pass, Plan, Of>> candidates, Of& backend, const Plan& plan,
                    Memory& memory) {
    std::string limits;
    for (const auto& candidate : candidates) {
        if (candidate.fits(backend, plan))
            return {candidate.make(backend, plan, memory), std::string(candidate.name),
                    "one rank holds all neurons; taken " + std::string(candidate.limits)};
        limits += (limits.empty() ? "" : ", or ") + std::string(candidate.limits);
    }
    return {.why = "whole passes are taken " + (limits.empty() ? "by other backends" : limits)};
}

}  // namespace spikefloss
