// The bash completion of the command line. CLI11's options and the keys of the config generate it.
#pragma once

#include <CLI/CLI.hpp>

#include <string>

namespace spikefloss {

// A bash script for `complete -F`. After a command it offers the options, after an option its choices, files, or
// (--set) the keys of the config.
std::string bash_completion(const CLI::App& app);

}  // namespace spikefloss
