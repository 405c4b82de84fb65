// The shapes at which operations are tested and timed.
#pragma once

#include "core/view.hpp"
#include "support/shape_choice.hpp"

#include <ostream>
#include <vector>

namespace spikefloss::testing_support {

// b sequences, k tangent vectors per sequence, n neurons.
struct Shape {
    Index b, k, n;
};

inline std::ostream& operator<<(std::ostream& out, const Shape& shape) {
    return out << "b " << shape.b << ", k " << shape.k << ", n " << shape.n;
}

inline Factors factors_of(const Shape& shape) { return {shape.b, shape.k, shape.n}; }

// Sizes around the word of 32 spikes and around the vector registers, empty sizes, and one size large enough to be
// split over threads.
inline std::vector<Shape> all_ragged_shapes() {
    std::vector<Shape> shapes;
    for (Index b : {0, 1, 3, 5})
        for (Index k : {1, 2, 7})
            for (Index n : {0, 1, 31, 32, 33, 67}) shapes.push_back({b, k, n});
    shapes.push_back({5, 7, 7001});
    return shapes;
}
inline std::vector<Shape> ragged_shapes() { return chosen_of(all_ragged_shapes(), factors_of); }

// Sizes of real jobs: the default network, a large one, and the authors' setting (one sequence, many exponents).
inline std::vector<Shape> working_shapes() { return {{32, 8, 128}, {64, 16, 1024}, {1, 50, 64}}; }

}  // namespace spikefloss::testing_support
