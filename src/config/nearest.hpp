// Looks names up in the schema. An unknown name is an error that suggests the nearest known name.
#pragma once

#include "config/schema.hpp"
#include "core/error.hpp"

namespace spikefloss {

// The one of `names` (at least one) that was probably meant.
std::string nearest_name(const std::string& unknown, const std::vector<std::string>& names);

// The others take `where`, the beginning of the message ("file:line: "), and raise Error(Exit::usage).

// Throws unless the schema has the section.
void check_section(const std::vector<Key>& keys, const std::string& section, const std::string& where);
// The key section.name of the schema; throws for an unknown one.
const Key& find_key(const std::vector<Key>& keys, const std::string& section, const std::string& name,
                    const std::string& where);
// The error for a value outside of every section.
Error not_in_section(const std::vector<Key>& keys, const std::string& name, const std::string& where);

}  // namespace spikefloss
