// Surrogate Lyapunov exponents and the flossing penalty of a network on sequences of the caller.
#include "api/held.hpp"
#include "lyapunov/flossing_pass.hpp"
#include "train/finite.hpp"

#include <algorithm>

namespace spikefloss::api {
namespace {

TangentOptions tangent_options(const SpectrumOptions& options, Index D, Index T) {
    TangentOptions tangent{
        .exponents = options.exponents, .warmup = options.warmup, .qr_interval = options.qr_interval};
    tangent.reset = choice_from<JacobianReset>(options.jacobian_reset, "jacobian_reset");
    require(options.warmup >= 0, Exit::usage, fmt::format("the warm-up is {} steps", options.warmup),
            "use 0 or more steps");
    return TangentPass::checked(tangent, D, T);
}

// q0 [B, D, k] -> [B, k, D], or random bases.
std::vector<float> starting_bases(const SpectrumOptions& options, const Machine& machine, Index B, Index D) {
    const Index k = options.exponents, N = machine.network.n();
    if (!options.q0.values) return random_bases(options.seed, k, N, machine.network.state_parts(), {0, N}, {0, B});
    require_shape("q0", options.q0, {B, D, k}, "[B, D, k]");
    require_finite("q0", options.q0);
    std::vector<float> bases(static_cast<std::size_t>(B * k * D));
    for (Index s = 0; s < B; ++s)
        for (Index i = 0; i < D; ++i)
            for (Index j = 0; j < k; ++j)
                bases[static_cast<std::size_t>((s * k + j) * D + i)] = options.q0.values[(s * D + i) * k + j];
    return bases;
}

}  // namespace

Spectrum spectrum(const Network& network, const View& x, const SpectrumOptions& options, const Settings& settings) {
    require_input(x, network.inputs());
    const Index T = x.shape[0], B = x.shape[1], D = network.state_size();
    const TangentOptions tangent = tangent_options(options, D, T);
    Machine machine(network.held(), settings);
    const std::vector<float> q0 = starting_bases(options, machine, B, D);
    StatePass state(*machine.backend, machine.grid, machine.network, T, B);
    TangentPass tangents(*machine.backend, machine.grid, machine.network, tangent, T, B, false);
    state.forward(machine.network, x.values);
    require_finite_states(*machine.backend, machine.grid, state, {0, B}, {0, machine.network.n()});
    tangents.forward(machine.network, state, q0, 0);
    const spikefloss::Spectrum measured = mean_spectrum(machine.grid, tangents, B, D);
    const KaplanYorke dimension = kaplan_yorke(measured);
    Spectrum result;
    result.exponents = measured.exponents;
    result.per_sequence = measured.per_sequence;
    result.log_r = tangents.log_r();
    result.qr_step = tangents.counted_steps();
    result.kaplan_yorke = dimension.dimension;
    result.kaplan_yorke_is_lower_bound = dimension.is_bound;
    result.entropy_rate = entropy_rate(measured);
    result.log10_condition_number = log10_condition_number(measured, T);
    result.rate = state.tape().spikes.rate();
    return result;
}

Flossing floss(const Network& network, const View& x, const FlossOptions& options, const Settings& settings) {
    require_input(x, network.inputs());
    const Index T = x.shape[0], B = x.shape[1], D = network.state_size();
    FlossingOptions flossing;
    flossing.tangent = tangent_options(options.spectrum, D, T);
    flossing.through_state = !options.direct;
    flossing.time_constants = options.constants;
    require(options.slack >= 0.0, Exit::usage, fmt::format("the slack is {}", options.slack), "use 0 or more per step");
    require(options.skipped >= 0 && options.skipped < flossing.tangent.exponents, Exit::usage,
            fmt::format("{} of {} exponents are skipped", options.skipped, flossing.tangent.exponents),
            "leave at least one exponent for the penalty");
    const Penalty penalty{.target = options.target, .slack = options.slack, .skipped = options.skipped};
    FlossingPass::check(penalty, flossing.tangent.exponents - options.skipped);
    Machine machine(network.held(), settings);
    FlossingPass pass(*machine.backend, machine.grid, machine.network, flossing, T, B,
                      starting_bases(options.spectrum, machine, B, D));
    Gradient gradient(*machine.backend, machine.grid, machine.network.layout);
    const PenaltyValue value =
        pass.run(machine.network, x.values, penalty, gradient.start(), {.state_norms = !options.direct});
    Flossing result;
    result.gradients.loss = value.loss;
    result.gradients.parameters = finished(machine, gradient, value.loss);
    if (!options.direct) result.gradients.state_gradient_norm = pass.state().state_gradient_norm();
    result.exponents = value.spectrum.exponents;
    result.per_sequence = value.spectrum.per_sequence;
    return result;
}

}  // namespace spikefloss::api
