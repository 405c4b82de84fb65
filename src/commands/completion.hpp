// The bash completion of the command line, made from CLI11's own options and the keys of the config: nothing to keep
// up.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace spikefloss {

// A bash script for `complete -F`. After a command it offers the options, after an option its choices, files, or
// (--set) the keys of the config.
std::string bash_completion(const CLI::App& app);

}  // namespace spikefloss
