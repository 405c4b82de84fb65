// Whether the flossing steps before training move the exponents at all. With a sharp surrogate or many exponents they
// may not, and nothing else in a run would show it.
#pragma once

#include <cstdint>
#include <string>

namespace spikefloss {

class FlossingEffect {
public:
    // steps: flossing steps before training; 0: none.
    explicit FlossingEffect(std::int64_t steps) : steps_(steps) {}

    // After each flossing step before training, with its penalty, the mean square distance of the exponents from their
    // target. After the last step: a note if that distance is hardly smaller than in the first steps, else "". There
    // is no note if a session sees only a part of the steps.
    std::string after(std::int64_t step, double penalty);

private:
    std::int64_t steps_, seen_ = 0;
    double first_ = 0.0, last_ = 0.0;  // sums over the first and the last steps
};

}  // namespace spikefloss
