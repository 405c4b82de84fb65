// Looks names up in the schema. An unknown name is an error that suggests the nearest known name, if it is near.
#pragma once

#include "config/schema.hpp"
#include "core/error.hpp"

namespace spikefloss {

// The nearest of `names`, of which there is at least one.
std::string nearest_name(const std::string& unknown, const std::vector<std::string>& names);

// Whether only one letter, or fewer than half, differ, so that `known` was probably meant.
bool is_near(const std::string& unknown, const std::string& known);

// The others take `where`, the beginning of the message ("file:line: "), and raise Error(Exit::usage).

// Throws unless the schema has the section.
void check_section(const std::vector<Key>& keys, const std::string& section, const std::string& where);
// The key section.name of the schema; throws for an unknown one.
const Key& find_key(const std::vector<Key>& keys, const std::string& section, const std::string& name,
                    const std::string& where);
// The error for a value outside of every section.
Error not_in_section(const std::vector<Key>& keys, const std::string& name, const std::string& where);

}  // namespace spikefloss
