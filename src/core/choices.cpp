#include "core/choices.hpp"

#include "core/error.hpp"

#include <fmt/ranges.h>

namespace spikefloss {

void refuse_name(std::string_view name, const std::vector<std::string>& known, const std::string& where) {
    throw Error(Exit::bad_file, fmt::format("{}: '{}' is not known", where, name),
                fmt::format("choose one of {}", fmt::join(known, ", ")));
}

}  // namespace spikefloss
