// The gradient of a step: from the parts of all ranks to the sum over the batch shards, rounded, and its norms.
#pragma once

#include "network/parameters.hpp"

#include <array>
#include <initializer_list>
#include <span>
#include <vector>

namespace spikefloss {

struct GradientNorms {
    double global = 0.0;                              // over the trained parameters, before clipping
    std::array<double, parameter_count> parameter{};  // of each parameter, trained or not
    std::vector<Parameter> present;                   // those that the network has
};

// With float32 sums the rounded gradient is the memory of the sums.
class Gradient {
public:
    Gradient(Backend& backend, const ProcessGrid& grid, const ParameterLayout& layout);

    // Starts a gradient at 0. The passes of the step add this rank's part to the result.
    SumBuffer& start();
    // Called when this rank's contribution to the gradients of these parameters is complete. Their sum over the batch
    // shards then starts, if the communicator overlaps. Until reduce() no rank makes another collective call on the
    // grid.
    void complete(std::initializer_list<Parameter> parameters);
    // Sums over the batch shards and rounds; returns the norms. Collective; the same on all ranks. parts: of this
    // rank's numbers those that are trained besides the trained parameters. begin_reduce() queues it, end_reduce()
    // waits for the norms.
    GradientNorms reduce(std::span<const Parameter> trained, std::span<const Rectangle> parts = {}) {
        begin_reduce(parts);
        return end_reduce(trained);
    }
    void begin_reduce(std::span<const Rectangle> parts = {});
    GradientNorms end_reduce(std::span<const Parameter> trained);

    // After begin_reduce(), [layout.size()].
    const float* data() const { return reduced_; }
    std::vector<float> to_host() const;

private:
    void sum_over_batch();

    Backend& backend_;
    const ProcessGrid& grid_;
    ParameterLayout layout_;
    SumBuffer sums_;
    Buffer<float> rounded_;                      // of float64 sums
    float* reduced_;                             // rounded_ or sums_
    std::array<bool, parameter_count> begun_{};  // parameters whose sum has started
    Buffer<double> squares_;                     // [parameter_count + 1]: of each parameter, and of the parts
    Readback<double> read_squares_;
};

}  // namespace spikefloss
