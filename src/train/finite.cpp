#include "train/finite.hpp"

#include "core/error.hpp"

#include <cmath>

namespace spikefloss {

void require_finite_states(Backend& backend, const ProcessGrid& grid, const StatePass& state, BlockRange sequences,
                           BlockRange neurons) {
    Buffer<double> squares(backend, state.steps() + 1);
    backend.row_sum_squares(state.steps() + 1, sequences.size() * neurons.size(), state.membrane(0), nullptr, nullptr,
                            squares.data());
    const std::vector<double> of_step = squares.to_host();
    Index first = 0;  // the first step whose membranes are not finite; 0: none
    for (Index t = state.steps(); t > 0; --t)
        if (!std::isfinite(of_step[static_cast<std::size_t>(t)])) first = t;
    grid.agree([&] {
        require(first == 0, Exit::numerics,
                fmt::format("the membranes are not finite from step {} on (sequences {} to {}, neurons {} to {})",
                            first, sequences.begin, sequences.end - 1, neurons.begin, neurons.end - 1),
                "the network blows up: look for very large weights, biases or inputs");
    });
}

void require_finite_gradients(const ProcessGrid& grid, double loss, const GradientNorms& norms) {
    std::string names;
    for (Parameter p : norms.present)
        if (!std::isfinite(norms.parameter[static_cast<std::size_t>(p)]))
            names += fmt::format("{}{}", names.empty() ? "" : ", ", name_of(p));
    grid.agree([&] {
        require(std::isfinite(loss), Exit::numerics, "the loss is not finite",
                "look for very large weights, biases or inputs");
        require(names.empty(), Exit::numerics, fmt::format("the gradient of {} is not finite", names),
                "it exceeds the range of float32 in the backward pass: use shorter sequences, smaller weights, or a "
                "lower sharpness");
    });
}

}  // namespace spikefloss
