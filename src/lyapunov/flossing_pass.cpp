#include "lyapunov/flossing_pass.hpp"

#include "core/error.hpp"

namespace spikefloss {

FlossingPass::FlossingPass(Backend& backend, const ProcessGrid& grid, const Network& network, PenaltyOptions options,
                           Index T, Index batch, std::vector<float> q0)
    : grid_(grid),
      options_(std::move(options)),
      batch_(batch),
      mine_(grid.sequences_of(batch)),
      q0_(std::move(q0)),
      state_(backend, grid, network.layout.shape(), T, mine_.size(), options_.time_constants),
      tangents_(backend, grid, network, options_.tangent, T, mine_.size(), true),
      extra_(backend, (T + 1) * mine_.size() * network.n()) {
    const auto targets = options_.target.size();
    require(targets == 1 || targets == static_cast<std::size_t>(options_.tangent.exponents), Exit::usage,
            fmt::format("{} targets were given for {} exponents", targets, options_.tangent.exponents),
            "give one target for all exponents, or one for each");
}

double FlossingPass::penalty_of(const std::vector<double>& exponents) const {
    double sum = 0.0;
    for (std::size_t j = 0; j < exponents.size(); ++j) {
        const double distance = exponents[j] - target(static_cast<Index>(j));
        sum += distance * distance;
    }
    return sum / static_cast<double>(exponents.size());
}

Penalty FlossingPass::run(const Network& network, const float* x, double weight, SumBuffer& gradient,
                          BackwardOptions through) {
    state_.forward(network, x);
    tangents_.forward(network, state_, q0_, mine_.begin);
    Penalty penalty;
    penalty.spectrum = mean_spectrum(grid_, tangents_, batch_, network.state_size());
    const std::vector<double>& lambda = penalty.spectrum.exponents;
    penalty.loss = penalty_of(lambda);

    const Index k = options_.tangent.exponents;
    std::vector<double> d_exponents(static_cast<std::size_t>(mine_.size() * k));  // dL/dlambda [b, k]
    for (Index i = 0; i < mine_.size() * k; ++i) {
        const Index j = i % k;
        d_exponents[static_cast<std::size_t>(i)] = weight * 2.0 * (lambda[static_cast<std::size_t>(j)] - target(j)) /
                                                   static_cast<double>(k) / static_cast<double>(batch_);
    }
    extra_.zero();
    tangents_.backward(network, state_, d_exponents, options_.time_constants, gradient, extra_.data());
    through.extra = extra_.data();
    through.time_constants = options_.time_constants;
    if (options_.through_state) state_.backward(network, x, through, gradient);
    return penalty;
}

}  // namespace spikefloss
