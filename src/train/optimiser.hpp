// From a rank's partial gradients to updated parameters: sum over the batch shards, global norm, clipping, and Adam,
// AdamW or SGD on this rank's own rows.
#pragma once

#include "network/parameters.hpp"
#include "train/training_state.hpp"

#include <array>
#include <initializer_list>
#include <string>

namespace spikefloss {

enum class OptimiserKind { adam, adamw, sgd };
enum class RateSchedule { constant, cosine, step };

struct OptimiserOptions {
    OptimiserKind kind = OptimiserKind::adam;
    double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0, momentum = 0.0;
    double clip = 0.0;  // of the global gradient norm; 0: off
    RateSchedule schedule = RateSchedule::constant;
    std::int64_t schedule_steps = 0;    // cosine: length; step: updates between reductions
    double schedule_factor = 1.0;       // cosine: final fraction; step: factor of each reduction
    std::vector<Parameter> parameters;  // the trained ones
};

// The learning rate of update number `update` (0 at the first).
double learning_rate_at(const OptimiserOptions& options, std::int64_t update);

struct GradientNorms {
    double global = 0.0;                              // over the trained parameters, before clipping
    std::array<double, parameter_count> parameter{};  // of each parameter, trained or not
};

class Optimiser {
public:
    Optimiser(Backend& backend, const ProcessGrid& grid, const ParameterLayout& layout, OptimiserOptions options);

    // Passes add this rank's gradients here. reduce() sets it to 0.
    SumBuffer& gradient() { return sums_; }
    // Called when this rank's contribution to the gradients of these parameters is complete. Their sum over the batch
    // shards then starts, if the communicator overlaps. Until reduce() no rank makes another collective call on the
    // grid.
    void complete(std::initializer_list<Parameter> parameters);
    // Sums over the batch shards and rounds; returns the norms. Collective; the same on all ranks.
    GradientNorms reduce();
    // The reduced gradient [layout.size()].
    const Buffer<float>& reduced() const { return reduced_; }
    // Clips and updates the trained parameters. `norms` is what reduce() returned, all finite.
    void update(Network& network, const GradientNorms& norms);

    bool trains(Parameter parameter) const;
    OptimiserState state() const;
    void restore(const OptimiserState& state);

private:
    void sum_over_batch();

    Backend& backend_;
    const ProcessGrid& grid_;
    ParameterLayout layout_;
    OptimiserOptions options_;
    SumBuffer sums_;
    std::array<bool, parameter_count> begun_{};  // parameters whose sum has started
    Buffer<float> reduced_, first_, second_;
    Buffer<double> squares_;  // [parameter_count]
    std::int64_t updates_ = 0;
};

}  // namespace spikefloss
