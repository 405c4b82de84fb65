// The form of a pass over time, and the reason for it. The passes of the state and of the tangents use it, and logs
// report it.
#pragma once

#include "backend/backend.hpp"

#include <string>
#include <string_view>

namespace spikefloss {

enum class PassForm {
    network,     // one operation of the backend takes all steps with inputs and readout
    recurrence,  // one operation takes all steps; inputs and readout are separate products
    loop         // several operations per step
};

struct PassChoice {
    PassForm form = PassForm::loop;
    std::string_view why, limit = {};  // limit: what the backend takes, if that decides

    // "whole network (one rank holds all neurons; taken up to ... neurons)"
    std::string text() const {
        constexpr std::string_view names[] = {"whole network", "whole recurrence", "loop over steps"};
        return std::string(names[static_cast<int>(form)]) + " (" + std::string(why) + std::string(limit) + ")";
    }
};

// The choice for a pass that has no whole network form.
inline PassChoice choose_pass(bool allowed, Index shards, const PassRule& rule) {
    if (!allowed) return {PassForm::loop, "whole passes are switched off"};
    if (shards > 1) return {PassForm::loop, "several ranks hold the neurons"};
    if (!rule.takes) return {PassForm::loop, "whole passes are taken ", rule.what};
    return {PassForm::recurrence, "one rank holds all neurons; taken ", rule.what};
}

}  // namespace spikefloss
