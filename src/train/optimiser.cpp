#include "train/optimiser.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

Constraint constraint_of(Parameter p) {
    const bool decay_factor =
        p == Parameter::alpha || p == Parameter::beta || p == Parameter::kappa || p == Parameter::rho;
    return decay_factor ? Constraint::fraction : Constraint::none;
}

Constraint constraint_of(Sign sign) {
    return sign == Sign::excitatory   ? Constraint::non_negative
           : sign == Sign::inhibitory ? Constraint::non_positive
                                      : Constraint::none;
}

// All of a parameter, or the rows of its projections; `names`: only those, null: all.
std::vector<Optimiser::Part> parts_of(const ParameterLayout& layout, Parameter p,
                                      const std::vector<std::string>* names = nullptr) {
    const auto& projections = layout.topology().projections;
    const auto [offset, count] = layout.extent(p);
    const bool weights = p == Parameter::w_in || p == Parameter::w_rec;
    if (names && projections.empty()) return {};
    if (!names && (!weights || std::all_of(projections.begin(), projections.end(),
                                           [](const Projection& x) { return x.sign == Sign::any; })))
        return {{{offset, 1, count, count}, constraint_of(p)}};
    std::vector<Optimiser::Part> parts;
    for (const Segment& segment : layout.segments()) {
        if (segment.parameter != p) continue;
        const Projection& projection = projections[static_cast<std::size_t>(segment.projection)];
        if (names && std::find(names->begin(), names->end(), projection.name) == names->end()) continue;
        const Constraint constraint = constraint_of(projection.sign);
        parts.push_back({{segment.offset, segment.rows, segment.cols, segment.stride}, constraint});
    }
    return parts;
}

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

Optimiser::Optimiser(Backend& backend, const ParameterLayout& layout, OptimiserOptions options)
    : backend_(backend), layout_(layout), options_(std::move(options)) {
    const bool adam = options_.kind != OptimiserKind::sgd, first = adam || options_.momentum > 0.0;
    const auto add = [&](Index offset, Index count, const std::vector<Part>& parts) {
        const auto moment = [&](bool kept) { return kept ? Buffer<float>(backend, count) : Buffer<float>(); };
        trained_.push_back({offset, moment(first), moment(adam), {}});
        for (const Part& part : parts)
            if (part.at.rows * part.at.cols > 0) trained_.back().parts.push_back(part);
    };
    for (Parameter p : options_.parameters) add(layout_.extent(p).offset, layout_.extent(p).count, parts_of(layout, p));
    for (const Parameter p : {Parameter::w_in, Parameter::w_rec}) {
        if (trains(p) || options_.projections.empty()) continue;
        Index begin = layout_.size(), end = 0;
        std::vector<Part> parts = parts_of(layout, p, &options_.projections);
        for (const auto& [at, constraint] : parts) {
            if (at.rows * at.cols == 0) continue;
            begin = std::min(begin, at.offset), end = std::max(end, at.offset + (at.rows - 1) * at.stride + at.cols);
            trained_parts_.push_back(at);
        }
        if (end > begin) add(begin, end - begin, parts);
    }
}

bool Optimiser::trains(Parameter parameter) const {
    return std::find(options_.parameters.begin(), options_.parameters.end(), parameter) != options_.parameters.end();
}

void Optimiser::update(Network& network, const Gradient& gradient, const GradientNorms& norms) {
    const auto rate = static_cast<float>(learning_rate_at(options_, updates_));
    const bool clipping = options_.clip > 0.0 && norms.global > options_.clip,
               sgd = options_.kind == OptimiserKind::sgd;
    const double unit = sgd ? 1.0 : adam_unit(options_);
    const double scale = (clipping ? options_.clip / norms.global : 1.0) / unit;
    const double decay = options_.kind == OptimiserKind::adamw ? options_.weight_decay : 0.0;
    ++updates_;
    const UpdateRule rule = sgd ? UpdateRule(Sgd{rate, static_cast<float>(options_.momentum)})
                                : Adam{rate,
                                       static_cast<float>(options_.beta1),
                                       static_cast<float>(options_.beta2),
                                       static_cast<float>(options_.eps / unit),
                                       static_cast<float>(decay),
                                       updates_};
    std::vector<UpdateView> views;
    for (Trained& trained : trained_) {
        const auto moment = [](Buffer<float>& all, Index at) { return all.size() ? all.data() + at : all.data(); };
        for (const auto& [at, constraint] : trained.parts)
            views.push_back({at.rows, at.cols, at.stride, gradient.data() + at.offset,
                             moment(trained.first, at.offset - trained.offset),
                             moment(trained.second, at.offset - trained.offset), network.values.data() + at.offset,
                             constraint});
    }
    backend_.update(rule, static_cast<float>(scale), views);
}

OptimiserState Optimiser::state() const {
    const auto size = static_cast<std::size_t>(layout_.size());
    OptimiserState state{std::vector<float>(size, 0.0f), std::vector<float>(size, 0.0f), updates_};
    for (const Trained& trained : trained_) {
        trained.first.copy_out(state.first.data() + trained.offset);
        trained.second.copy_out(state.second.data() + trained.offset);
    }
    return state;
}

void Optimiser::restore(const OptimiserState& state) {
    const auto size = static_cast<std::size_t>(layout_.size());
    require(state.first.size() == size && state.second.size() == size, Exit::internal,
            "the optimiser state of a checkpoint does not fit the network");
    for (Trained& trained : trained_) {
        trained.first.copy_in(state.first.data() + trained.offset);
        trained.second.copy_in(state.second.data() + trained.offset);
    }
    updates_ = state.updates;
}

}  // namespace spikefloss
