// True gradients by finite differences, for the network whose step H is replaced by the surrogate's primitive, and the
// choice of examples where they are smooth.
#pragma once

#include "reference/reference.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace spikefloss::reference {

// The step of the differences; their error is of order step^4 and rounding / step.
inline constexpr double difference_step = 1e-4;

// d objective() / d values[j] for every j, fourth order. The values are restored.
template <class Objective>
std::vector<double> finite_differences(std::vector<double>& values, Objective&& objective) {
    std::vector<double> gradient;
    const double h = difference_step;
    for (double& value : values) {
        const double base = value;
        const auto at = [&](double shift) {
            value = base + shift;
            return objective();
        };
        gradient.push_back((8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h));
        value = base;
    }
    return gradient;
}

// True if no v is near a kink of psi. Differences would give no derivative there.
inline bool away_from_kinks(const Network& net, const Trajectory& tr) {
    return std::all_of(tr.v.begin(), tr.v.end(), [&](double v) {
        return distance_to_kink(net.surrogate, v, net.sharpness) > 30.0 * difference_step;
    });
}

// A network, its inputs and its smooth trajectory, with the resets frozen.
struct SmoothCase {
    Network net;
    Sequences seq;
    Trajectory trajectory;

    Trajectory run(const Network& perturbed) const {
        return forward(perturbed, seq, {.smooth = true, .reset_spikes = &trajectory.reset_spikes});
    }
};

// The example with the first seed for which the trajectory is away from kinks and accept(case) is true.
template <class Accept>
SmoothCase find_smooth_case(Example example, Accept&& accept) {
    for (example.seed = 1; example.seed < 1000; ++example.seed) {
        SmoothCase found{random_network(example), random_sequences(example), {}};
        found.trajectory = forward(found.net, found.seq, {.smooth = true});
        if (away_from_kinks(found.net, found.trajectory) && accept(found)) return found;
    }
    throw std::runtime_error("no seed gives a smooth example");
}

}  // namespace spikefloss::reference
