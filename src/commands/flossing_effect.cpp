#include "commands/flossing_effect.hpp"

#include <fmt/format.h>

#include <cmath>

namespace spikefloss {
namespace {

constexpr std::int64_t window = 10;  // steps at either end
constexpr double near = 0.02;        // a distance that is small enough, per step
constexpr double hardly = 0.8;       // of the first distance

}  // namespace

std::string FlossingEffect::after(std::int64_t step, double penalty) {
    ++seen_;
    if (step <= window) first_ += penalty;
    if (step > steps_ - window) last_ += penalty;
    if (step != steps_ || seen_ != steps_ || steps_ < 2 * window) return "";
    const double before = std::sqrt(first_ / window), now = std::sqrt(last_ / window);
    if (now <= near || now <= hardly * before) return "";
    return fmt::format(
        "note: {} flossing steps before training hardly moved the exponents. The root of their mean square distance "
        "from the target was {:.3f} per step in the first {} steps and {:.3f} in the last {}. A broader surrogate (a "
        "smaller network.sharpness), flossing.through_state = false, fewer exponents or more steps can help "
        "(docs/flossing.md)",
        steps_, before, window, now, window);
}

}  // namespace spikefloss
