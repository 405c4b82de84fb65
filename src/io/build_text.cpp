#include "io/build_text.hpp"

#include "backend/instruction_sets.hpp"

#include <build_info.hpp>

#include <fmt/format.h>

namespace spikefloss {

std::string version_text() { return build_info::version; }

std::string version_line() { return fmt::format("spikefloss {} (commit {})", build_info::version, build_info::commit); }

std::string build_text() {
    return fmt::format("spikefloss   {} (commit {})\ncompiler     {}, {}\nCPU kernels  {}", build_info::version,
                       build_info::commit, build_info::compiler, build_info::build_type, instruction_set_names());
}

}  // namespace spikefloss
