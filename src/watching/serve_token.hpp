// The secret that visitors of a run must show: from where it comes, and what is wrong with that place.
#pragma once

#include "config/config.hpp"

#include <string>
#include <vector>

namespace spikefloss {

struct ServeToken {
    std::string token;    // empty: none is wanted
    std::string warning;  // who else can read it; empty: no other user
};

// serve.token, else the first line of serve.token_file, else the environment variable SPIKEFLOSS_TOKEN. assignments:
// those of --set. Throws Error(Exit::usage) for a file that cannot be read and for a token that is easy to guess.
ServeToken token_of(const ServeConfig& config, const std::vector<std::string>& assignments);

}  // namespace spikefloss
