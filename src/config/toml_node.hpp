// Functions that reading a config and reading a sweep share. Includes toml++, which compiles slowly: only toml.cpp and
// sweep.cpp may include this.
#pragma once

#include "config/schema.hpp"

#include <toml++/toml.h>

#include <string>

namespace spikefloss {

// All raise Error(Exit::usage).

// The content of a text file; kind: "config", "sweep".
std::string read_text_file(const std::string& path, const char* kind);
// `origin` replaces the path in messages.
toml::table parse_toml(const std::string& text, const std::string& origin);

// "file:line: ", how a message begins.
inline std::string at_line(const std::string& origin, const toml::source_region& source) {
    return origin + ":" + std::to_string(source.begin.line) + ": ";
}
// "a list", "an integer".
std::string type_name(const toml::node& node);
// Assigns the node's value to the key if it has the key's type and is in its range and among its choices.
// where: "file:line: " or "--set argument: ".
void assign(const Key& key, const toml::node& node, const std::string& where);

}  // namespace spikefloss
