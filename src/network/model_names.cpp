// One table of names per choice, read in both directions.
#include "network/model_names.hpp"

#include "core/error.hpp"

#include <span>
#include <utility>

namespace spikefloss {
namespace {

template <class Choice>
using Name = std::pair<Choice, std::string_view>;

constexpr Name<Reset> reset_names[] = {{Reset::zero, "zero"}, {Reset::subtract, "subtract"}, {Reset::none, "none"}};
constexpr Name<Surrogate> surrogate_names[] = {{Surrogate::fast_sigmoid, "fast_sigmoid"},
                                               {Surrogate::arctan, "arctan"},
                                               {Surrogate::sigmoid, "sigmoid"},
                                               {Surrogate::gaussian, "gaussian"},
                                               {Surrogate::triangle, "triangle"}};
constexpr Name<Readout> readout_names[] = {{Readout::membrane, "membrane"}, {Readout::spikes, "spikes"}};
constexpr Name<JacobianReset> jacobian_reset_names[] = {{JacobianReset::detached, "detached"},
                                                        {JacobianReset::ignored, "ignored"}};

template <class Choice>
std::string name_in(std::span<const Name<Choice>> names, Choice choice) {
    for (const auto& [value, name] : names)
        if (value == choice) return std::string(name);
    throw Error(Exit::internal, "a choice of the network model has no name");
}

template <class Choice>
Choice choice_in(std::span<const Name<Choice>> names, std::string_view wanted, const std::string& where) {
    std::string known;
    for (const auto& [value, name] : names) {
        if (name == wanted) return value;
        known += (known.empty() ? "" : ", ") + std::string(name);
    }
    throw Error(Exit::bad_file, fmt::format("{}: '{}' is not known", where, wanted), "choose one of " + known);
}

}  // namespace

std::string to_string(Reset reset) { return name_in<Reset>(reset_names, reset); }
std::string to_string(Surrogate surrogate) { return name_in<Surrogate>(surrogate_names, surrogate); }
std::string to_string(Readout readout) { return name_in<Readout>(readout_names, readout); }
std::string to_string(JacobianReset reset) { return name_in<JacobianReset>(jacobian_reset_names, reset); }

Reset reset_from_name(std::string_view name, const std::string& where) {
    return choice_in<Reset>(reset_names, name, where);
}
Surrogate surrogate_from_name(std::string_view name, const std::string& where) {
    return choice_in<Surrogate>(surrogate_names, name, where);
}
Readout readout_from_name(std::string_view name, const std::string& where) {
    return choice_in<Readout>(readout_names, name, where);
}
JacobianReset jacobian_reset_from_name(std::string_view name, const std::string& where) {
    return choice_in<JacobianReset>(jacobian_reset_names, name, where);
}

}  // namespace spikefloss
