// The build as one text, for `info`, run directories and checkpoints.
#pragma once

#include <string>

namespace spikefloss {

// "spikefloss 0.1.0 (commit 1a2b3c4)"
std::string version_line();
std::string build_text();

}  // namespace spikefloss
