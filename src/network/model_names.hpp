// The names of the choices of a network model in files, configs and messages.
#pragma once

#include "backend/backend.hpp"

#include <string>
#include <string_view>

namespace spikefloss {

std::string to_string(Reset reset);
std::string to_string(Surrogate surrogate);
std::string to_string(Readout readout);
std::string to_string(JacobianReset reset);

// The inverse. An unknown name throws Error(Exit::bad_file) that lists the known ones and begins with `where`
// (for instance "a.h5: attribute reset of /network").
Reset reset_from_name(std::string_view name, const std::string& where);
Surrogate surrogate_from_name(std::string_view name, const std::string& where);
Readout readout_from_name(std::string_view name, const std::string& where);
JacobianReset jacobian_reset_from_name(std::string_view name, const std::string& where);

}  // namespace spikefloss
