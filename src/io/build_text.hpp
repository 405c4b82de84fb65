// The build as one text, for `info`, run directories and checkpoints.
#pragma once

#include <string>

namespace spikefloss {

std::string build_text();

}  // namespace spikefloss
