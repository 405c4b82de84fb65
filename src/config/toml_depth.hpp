// The depth to which a TOML text nests, and the limit for the parser.
#pragma once

#include <string_view>

namespace spikefloss {

constexpr int most_toml_levels = 64;  // a sweep file needs 6

// The levels of lists, tables and parts of a key: "a.b = [{c = 1}]" has 3. The dot of a number counts, too.
int toml_depth(std::string_view text);

}  // namespace spikefloss
