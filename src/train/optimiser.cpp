#include "train/optimiser.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Parameters in (0, 1), of which the optimiser changes the logit.
bool is_fraction(Parameter p) { return p == Parameter::alpha || p == Parameter::beta || p == Parameter::kappa; }

// The unit of the gradient for Adam, a power of two. Adam gives the same updates in any unit if eps has this unit too.
// The smallest v = mean g^2 in float32 is 2^-149, so smaller (1-b2) g^2 underflow. In this unit eps is well above such
// a g, so that the underflow does not matter. The unit is 1 if eps is large enough: from 1e-20 on for b2 = 0.999.
double adam_unit(const OptimiserOptions& options) {
    const double least = 8.0 * std::sqrt(0x1p-149 / (1.0 - static_cast<double>(static_cast<float>(options.beta2))));
    return options.eps >= least ? 1.0 : std::exp2(std::floor(std::log2(options.eps / least)));
}

}  // namespace

double learning_rate_at(const OptimiserOptions& options, std::int64_t update) {
    const double done =
        options.schedule_steps > 0 ? static_cast<double>(update) / static_cast<double>(options.schedule_steps) : 0.0;
    switch (options.schedule) {
        case RateSchedule::constant: return options.learning_rate;
        case RateSchedule::step: return options.learning_rate * std::pow(options.schedule_factor, std::floor(done));
        case RateSchedule::cosine: {
            const double wave = 0.5 * (1.0 + std::cos(3.14159265358979323846 * std::min(done, 1.0)));
            return options.learning_rate * (options.schedule_factor + (1.0 - options.schedule_factor) * wave);
        }
    }
    return options.learning_rate;
}

Optimiser::Optimiser(Backend& backend, const ProcessGrid& grid, const ParameterLayout& layout, OptimiserOptions options)
    : backend_(backend),
      grid_(grid),
      layout_(layout),
      options_(std::move(options)),
      sums_(backend, layout.size()),
      reduced_(backend, layout.size()),
      first_(backend, layout.size()),
      second_(backend, layout.size()),
      squares_(backend, parameter_count) {}

bool Optimiser::trains(Parameter parameter) const {
    return std::find(options_.parameters.begin(), options_.parameters.end(), parameter) != options_.parameters.end();
}

void Optimiser::complete(std::initializer_list<Parameter> parameters) {
    if (!grid_.batch().overlaps()) return;
    std::vector<SumRange> ranges;
    for (Parameter p : parameters) {
        const auto [offset, count] = layout_.extent(p);
        ranges.push_back({sums_.data(offset), count});
        begun_[static_cast<std::size_t>(p)] = true;
    }
    grid_.batch().begin_sums(ranges, sums_.type());
}

// Starts the sums over batch shards that have not started, and finishes all of them.
void Optimiser::sum_over_batch() {
    if (std::find(begun_.begin(), begun_.end(), true) == begun_.end())
        return grid_.batch().all_reduce_sum(sums_.data(), sums_.type(), sums_.size());
    std::vector<SumRange> ranges;
    for (Parameter p : all_parameters) {
        const auto [offset, count] = layout_.extent(p);
        if (!begun_[static_cast<std::size_t>(p)]) ranges.push_back({sums_.data(offset), count});
    }
    grid_.batch().begin_sums(ranges, sums_.type());
    grid_.batch().finish_sums();
    begun_.fill(false);
}

GradientNorms Optimiser::reduce() {
    sum_over_batch();
    backend_.round_sums(sums_.data(), reduced_.data(), reduced_.size());
    sums_.zero();
    // Every batch shard now holds the same value; only the first contributes, and of replicated parameters only the
    // first neuron shard.
    squares_.zero();
    if (grid_.batch_shard() == 0)
        for (const Segment& segment : layout_.segments())
            if (!segment.replicated || grid_.neuron_shard() == 0)
                backend_.sum_squares(reduced_.data() + segment.offset, segment.size(),
                                     squares_.data() + static_cast<Index>(segment.parameter));
    std::vector<double> squares = squares_.to_host();
    grid_.control().all_reduce_sum(squares.data(), Scalar::float64, parameter_count);
    GradientNorms norms;
    for (Parameter p : all_parameters) {
        const auto at = static_cast<std::size_t>(p);
        norms.parameter[at] = std::sqrt(squares[at]);
        if (trains(p)) norms.global += squares[at];
    }
    norms.global = std::sqrt(norms.global);
    return norms;
}

void Optimiser::update(Network& network, const GradientNorms& norms) {
    const double rate = learning_rate_at(options_, updates_);
    const bool clipping = options_.clip > 0.0 && norms.global > options_.clip;
    const double unit = options_.kind == OptimiserKind::sgd ? 1.0 : adam_unit(options_);
    const double factor = (clipping ? options_.clip / norms.global : 1.0) / unit;
    ++updates_;
    for (Parameter p : options_.parameters) {
        const auto [offset, count] = layout_.extent(p);
        float* values = network.values.data() + offset;
        float* gradient = reduced_.data() + offset;
        if (factor != 1.0) backend_.scale(gradient, static_cast<float>(factor), count);
        if (is_fraction(p)) backend_.to_logit(count, values, gradient);
        if (options_.kind == OptimiserKind::sgd) {
            backend_.sgd(count, static_cast<float>(rate), static_cast<float>(options_.momentum), gradient,
                         first_.data() + offset, values);
        } else {
            const double decay = options_.kind == OptimiserKind::adamw ? options_.weight_decay : 0.0;
            const AdamSettings settings{static_cast<float>(rate),           static_cast<float>(options_.beta1),
                                        static_cast<float>(options_.beta2), static_cast<float>(options_.eps / unit),
                                        static_cast<float>(decay),          updates_};
            backend_.adam(count, settings, gradient, first_.data() + offset, second_.data() + offset, values);
        }
        if (is_fraction(p)) backend_.from_logit(count, values);
    }
}

OptimiserState Optimiser::state() const { return {first_.to_host(), second_.to_host(), updates_}; }

void Optimiser::restore(const OptimiserState& state) {
    const auto size = static_cast<std::size_t>(layout_.size());
    require(state.first.size() == size && state.second.size() == size, Exit::internal,
            "the optimiser state of a checkpoint does not fit the network");
    first_.copy_in(state.first.data());
    second_.copy_in(state.second.data());
    updates_ = state.updates;
}

}  // namespace spikefloss
