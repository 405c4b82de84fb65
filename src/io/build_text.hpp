// The version (project(VERSION) in CMakeLists.txt), for every file that the program writes; the build as one text, for
// `info`, run directories and checkpoints.
#pragma once

#include <string>

namespace spikefloss {

std::string version_text();
// "spikefloss 0.1.0 (commit 1a2b3c4)"
std::string version_line();
std::string build_text();

}  // namespace spikefloss
