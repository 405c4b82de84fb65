#include "lyapunov/flossing_pass.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {

FlossingPass::FlossingPass(Backend& backend, const ProcessGrid& grid, const Network& network, PenaltyOptions options,
                           Index T, Index batch, std::vector<float> q0)
    : grid_(grid),
      options_(checked(std::move(options))),
      batch_(batch),
      mine_(grid.sequences_of(batch)),
      q0_(std::move(q0)),
      state_(backend, grid, network.layout.shape(), T, mine_.size(), options_.time_constants),
      tangents_(backend, grid, network, options_.tangent, T, mine_.size(), true),
      extra_(backend, (T + 1) * mine_.size() * network.n()) {}

PenaltyOptions FlossingPass::checked(PenaltyOptions options) {
    const auto targets = options.target.size();
    require(targets == 1 || targets == static_cast<std::size_t>(options.tangent.exponents), Exit::usage,
            fmt::format("{} targets were given for {} exponents", targets, options.tangent.exponents),
            "give one target for all exponents, or one for each");
    return options;
}

std::vector<double> FlossingPass::distances(const std::vector<double>& exponents, double slack) const {
    std::vector<double> d(exponents.size());
    for (std::size_t j = 0; j < d.size(); ++j) {
        const double above = exponents[j] - options_.target[options_.target.size() == 1 ? 0 : j];
        d[j] = above > 0.0 ? above : std::min(0.0, above + slack);
    }
    return d;
}

Penalty FlossingPass::run(const Network& network, const float* x, double weight, SumBuffer& gradient,
                          BackwardOptions through, double slack) {
    state_.forward(network, x);
    tangents_.forward(network, state_, q0_, mine_.begin);
    Penalty penalty;
    penalty.spectrum = mean_spectrum(grid_, tangents_, batch_, network.state_size());
    const std::vector<double> d = distances(penalty.spectrum.exponents, slack);
    const std::size_t k = d.size();
    for (const double d_j : d) penalty.loss += d_j * d_j / static_cast<double>(k);

    std::vector<double> d_exponents(static_cast<std::size_t>(mine_.size()) * k);  // dL/dlambda [b, k]
    for (std::size_t i = 0; i < d_exponents.size(); ++i)
        d_exponents[i] = weight * 2.0 * d[i % k] / static_cast<double>(k) / static_cast<double>(batch_);
    extra_.zero();
    tangents_.backward(network, state_, d_exponents, options_.time_constants, gradient, extra_.data());
    through.extra = extra_.data();
    through.time_constants = options_.time_constants;
    if (options_.through_state) state_.backward(network, x, through, gradient);
    return penalty;
}

}  // namespace spikefloss
