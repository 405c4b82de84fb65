// From a gradient to updated parameters: clipping, and Adam, AdamW or SGD on this rank's own rows.
#pragma once

#include "train/gradient.hpp"
#include "train/training_state.hpp"

#include <string>
#include <vector>

namespace spikefloss {

struct OptimiserOptions {
    OptimiserKind kind = OptimiserKind::adam;
    double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0, momentum = 0.0;
    double clip = 0.0;  // of the global gradient norm; 0: off
    RateSchedule schedule = RateSchedule::constant;
    std::int64_t schedule_steps = 0;    // cosine: length; step: updates between reductions
    double schedule_factor = 1.0;       // cosine: final fraction; step: factor of each reduction
    std::vector<Parameter> parameters;  // the trained ones
    // Projections that are trained although w_in or w_rec, to which they belong, is not.
    std::vector<std::string> projections = {};
};

// The learning rate of update number `update` (0 at the first).
double learning_rate_at(const OptimiserOptions& options, std::int64_t update);

class Optimiser {
public:
    Optimiser(Backend& backend, const ParameterLayout& layout, OptimiserOptions options);

    // Clips and updates the trained parameters. `norms` is what gradient.reduce(trained(), trained_parts()) returned,
    // all finite.
    void update(Network& network, const Gradient& gradient, const GradientNorms& norms);

    const std::vector<Parameter>& trained() const { return options_.parameters; }
    bool trains(Parameter parameter) const;
    // This rank's weights of the projections that are trained although their parameter is not.
    const std::vector<Rectangle>& trained_parts() const { return trained_parts_; }
    // The state has the moments of all parameters; those that this rule does not keep are 0.
    OptimiserState state() const;
    void restore(const OptimiserState& state);

    // A part of a parameter that has one constraint.
    struct Part {
        Rectangle at;
        Constraint constraint;
    };

private:
    // Moments as in UpdateView, of the range of the layout that the parts lie in.
    struct Trained {
        Index offset;
        Buffer<float> first, second;
        std::vector<Part> parts;
    };

    Backend& backend_;
    ParameterLayout layout_;
    OptimiserOptions options_;
    std::vector<Trained> trained_;
    std::vector<Rectangle> trained_parts_;
    std::int64_t updates_ = 0;
};

}  // namespace spikefloss
