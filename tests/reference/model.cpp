// Names, shape checks and arithmetic of the plain structs in model.hpp.
#include "reference/model.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace spikefloss::reference {

const char* name_of(Reset reset) {
    switch (reset) {
        case Reset::zero: return "zero";
        case Reset::subtract: return "subtract";
        case Reset::none: return "none";
    }
    throw std::invalid_argument("no such reset");
}

const char* name_of(Surrogate surrogate) {
    switch (surrogate) {
        case Surrogate::fast_sigmoid: return "fast_sigmoid";
        case Surrogate::arctan: return "arctan";
        case Surrogate::sigmoid: return "sigmoid";
        case Surrogate::gaussian: return "gaussian";
        case Surrogate::triangle: return "triangle";
        case Surrogate::exponential: return "exponential";
    }
    throw std::invalid_argument("no such surrogate");
}

const char* name_of(Adaptation adaptation) {
    switch (adaptation) {
        case Adaptation::none: return "none";
        case Adaptation::threshold: return "threshold";
        case Adaptation::current: return "current";
    }
    throw std::invalid_argument("no such adaptation");
}

const char* name_of(Readout readout) {
    switch (readout) {
        case Readout::membrane: return "membrane";
        case Readout::spikes: return "spikes";
    }
    throw std::invalid_argument("no such readout");
}

const char* name_of(LossKind loss) {
    switch (loss) {
        case LossKind::binary_cross_entropy: return "binary_cross_entropy";
        case LossKind::mean_squared_error: return "mean_squared_error";
        case LossKind::cross_entropy_mean: return "cross_entropy_mean";
        case LossKind::cross_entropy_max: return "cross_entropy_max";
        case LossKind::cross_entropy_sum: return "cross_entropy_sum";
        case LossKind::cross_entropy_last: return "cross_entropy_last";
    }
    throw std::invalid_argument("no such loss");
}

bool Network::has_current() const {
    return std::any_of(alpha.begin(), alpha.end(), [](double a) { return a != 0.0; });
}

Parameters zero_gradient(const Network& net) {
    const auto n = static_cast<std::size_t>(net.neurons), m = static_cast<std::size_t>(net.inputs),
               o = static_cast<std::size_t>(net.outputs);
    Parameters zero;
    zero.w_in.assign(n * m, 0.0);
    zero.w_rec.assign(n * n, 0.0);
    zero.w_out.assign(o * n, 0.0);
    for (auto* values :
         {&zero.bias, &zero.alpha, &zero.beta, &zero.initial_current, &zero.initial_membrane, &zero.thresholds})
        values->assign(n, 0.0);
    if (net.adapts())
        for (auto* values : {&zero.rho, &zero.adapt_membrane, &zero.adapt_spike, &zero.initial_adaptation})
            values->assign(n, 0.0);
    for (auto* values : {&zero.bias_out, &zero.kappa}) values->assign(o, 0.0);
    return zero;
}

void check_shapes(const Network& net) {
    const Parameters expected = zero_gradient(net);
    const auto check = [&](const auto& parameters) {
        for (const auto& [name, values] : parameters) {
            const bool may_be_empty = values == &Parameters::initial_current ||
                                      values == &Parameters::initial_membrane || values == &Parameters::thresholds ||
                                      values == &Parameters::initial_adaptation;
            const std::size_t size = (net.*values).size();
            if (size != (expected.*values).size() && !(may_be_empty && size == 0))
                throw std::invalid_argument(std::string("reference network: wrong size of ") + name);
        }
    };
    check(all_parameters);
    check(adaptation_parameters);
}

Parameters sum(const Parameters& a, const Parameters& b, double factor) {
    Parameters result = a;
    const auto add = [&](const auto& parameters) {
        for (const auto& [name, values] : parameters) {
            if ((a.*values).size() != (b.*values).size())
                throw std::invalid_argument(std::string("reference sum: different sizes of ") + name);
            for (std::size_t j = 0; j < (b.*values).size(); ++j) (result.*values)[j] += factor * (b.*values)[j];
        }
    };
    add(all_parameters);
    add(adaptation_parameters);
    return result;
}

}  // namespace spikefloss::reference
