// The secret that visitors of a run must show: its source, and a warning about the source.
#pragma once

#include "config/config.hpp"

#include <string>
#include <vector>

namespace spikefloss {

struct ServeToken {
    std::string token;    // empty: no token
    std::string warning;  // about other users who can read it; empty: there are none
};

// serve.token, else the first line of serve.token_file, else the environment variable SPIKEFLOSS_TOKEN. assignments:
// those of --set. Throws Error(Exit::usage) for a file that cannot be read and for a token that is easy to guess.
ServeToken token_of(const ServeConfig& config, const std::vector<std::string>& assignments);

}  // namespace spikefloss
