// Which form a pass over time takes, and why: what the passes of the state and of the tangents decide by, and what is
// told of it in logs.
#pragma once

#include "backend/backend.hpp"

#include <string>
#include <string_view>

namespace spikefloss {

enum class PassForm {
    network,     // one operation of the backend takes all steps with inputs and readout
    recurrence,  // one takes all steps; inputs and readout are products of their own
    loop         // an operation for every step
};

struct PassChoice {
    PassForm form = PassForm::loop;
    std::string_view why, limit = {};  // limit: what the backend takes, where that decides

    // "whole network (one rank holds all neurons; taken up to ... neurons)"
    std::string text() const {
        constexpr std::string_view names[] = {"whole network", "whole recurrence", "loop over steps"};
        return std::string(names[static_cast<int>(form)]) + " (" + std::string(why) + std::string(limit) + ")";
    }
};

// A pass in which no whole network can be taken.
inline PassChoice choose_pass(bool allowed, Index shards, const PassRule& rule) {
    if (!allowed) return {PassForm::loop, "whole passes are switched off"};
    if (shards > 1) return {PassForm::loop, "the neurons lie on several ranks"};
    if (!rule.takes) return {PassForm::loop, "whole passes are taken ", rule.what};
    return {PassForm::recurrence, "one rank holds all neurons; taken ", rule.what};
}

}  // namespace spikefloss
