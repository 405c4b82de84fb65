// The version (project(VERSION) in CMakeLists.txt), for every file that the program writes; the build as one text, for
// `info`, run directories and checkpoints.
#pragma once

#include <string>

namespace spikefloss {

std::string version_text();
std::string build_text();

}  // namespace spikefloss
