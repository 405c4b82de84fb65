#include "lyapunov/flossing_pass.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// d of all exponents, 0 for those that are skipped. origin: what targets are counted from.
std::vector<double> distances(const Penalty& penalty, const std::vector<double>& exponents, double origin) {
    std::vector<double> d(exponents.size(), 0.0);
    const auto skipped = static_cast<std::size_t>(penalty.skipped);
    for (std::size_t j = skipped; j < d.size(); ++j) {
        const double above = exponents[j] - origin - penalty.target[penalty.target.size() == 1 ? 0 : j - skipped];
        d[j] = above > 0.0 ? above : std::min(0.0, above + penalty.slack);
    }
    return d;
}

}  // namespace

FlossingPass::FlossingPass(Backend& backend, const ProcessGrid& grid, const Network& network, FlossingOptions options,
                           Index T, Index batch, std::vector<float> q0)
    : backend_(backend),
      grid_(grid),
      options_(options),
      batch_(batch),
      mine_(grid.sequences_of(batch)),
      q0_(std::move(q0)),
      state_(
          backend, grid, network, T, mine_.size(),
          {.time_constants = options_.time_constants, .whole_passes = options_.tangent.whole_passes, .readout = false}),
      tangents_(backend, grid, network, options_.tangent, T, mine_.size(), true),
      extra_(backend, (T + 1) * mine_.size() * network.n()),
      unused_(backend, !options_.through_state && options_.time_constants && network.layout.has(Parameter::threshold)
                           ? extra_.size()
                           : 0) {}

void FlossingPass::check(const Penalty& penalty, Index exponents) {
    const auto targets = static_cast<Index>(penalty.target.size());
    require(targets == 1 || targets == exponents, Exit::usage,
            fmt::format("{} targets were given for {} exponents", targets, exponents),
            "give one target for all exponents, or one for each");
}

double FlossingPass::log_decay(const Network& network) const {
    const auto [offset, count] = network.layout.extent(Parameter::rho);
    std::vector<float> rho(static_cast<std::size_t>(count));
    if (count) backend_.copy_out(rho.data(), network.values.data() + offset, rho.size() * sizeof(float));
    double sums[2] = {0.0, static_cast<double>(count)};
    for (const float r : rho) sums[0] += std::log(std::max(static_cast<double>(r), 1e-38));
    grid_.control().all_reduce_sum(sums, Scalar::float64, 2);
    return sums[1] > 0.0 ? sums[0] / sums[1] : 0.0;
}

PenaltyValue FlossingPass::run(const Network& network, InputView x, const Penalty& penalty, SumBuffer& gradient,
                               BackwardOptions through) {
    check(penalty, options_.tangent.exponents - penalty.skipped);
    state_.forward(network, x);
    tangents_.forward(network, state_, q0_, mine_.begin);
    PenaltyValue value;
    value.spectrum = mean_spectrum(grid_, tangents_, batch_, network.state_size());
    const std::vector<double> d =
        distances(penalty, value.spectrum.exponents, penalty.from == TargetFrom::zero ? 0.0 : log_decay(network));
    const std::size_t k = d.size();
    const auto flossed = static_cast<double>(options_.tangent.exponents - penalty.skipped);
    for (const double d_j : d) value.loss += d_j * d_j / flossed;

    std::vector<double> d_exponents(static_cast<std::size_t>(mine_.size()) * k);  // dL/dlambda [b, k]
    for (std::size_t i = 0; i < d_exponents.size(); ++i)
        d_exponents[i] = penalty.weight * 2.0 * d[i % k] / flossed / static_cast<double>(batch_);
    extra_.zero();
    tangents_.backward(network, state_, d_exponents, options_.time_constants, gradient, extra_.data());
    through.extra = extra_.data();
    if (options_.through_state) state_.backward(network, x, through, gradient);
    if (unused_.size() == 0) return value;
    // The direct gradient of theta, which is in u - A beside the state: minus the sum of e.
    backend_.add_adjoints(network.model.neuron, network.neurons(), network.model.readout, unused_.size() / network.n(),
                          network.n(), {nullptr, unused_.data(), unused_.data()}, nullptr, nullptr, nullptr,
                          extra_.data(), {nullptr, unused_.data()}, network.constant_sums(gradient).threshold);
    return value;
}

}  // namespace spikefloss
