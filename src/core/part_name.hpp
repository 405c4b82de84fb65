// Names of populations and projections. They are parts of keys of a config and of paths in files.
#pragma once

#include <algorithm>
#include <string_view>

namespace spikefloss {

// The inputs, as the source of a projection. No population has this name.
inline constexpr const char* input_name = "input";

// What is_part_name takes.
inline constexpr const char* part_name_rule = "use 1 to 64 letters, digits, _ and -";

inline bool is_part_name(std::string_view name) {
    return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
}

}  // namespace spikefloss
