// Surrogate Lyapunov exponents and the flossing penalty of a network on sequences of the caller.
#include "api/held.hpp"
#include "core/flush_denormals.hpp"
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
    std::vector<float> bases;
    if (!options.q0.values) {
        for (Index s = 0; s < B; ++s) {
            const auto own = random_bases(options.seed, k, N, machine.network.state_parts(), {0, N}, {s, s + 1});
            bases.insert(bases.end(), own.begin(), own.end());
            machine.backend->may_stop();
        }
        return bases;
    }
    require_shape("q0", options.q0, {B, D, k}, "[B, D, k]");
    require_finite("q0", options.q0);
    bases.resize(static_cast<std::size_t>(B * k * D));
    for (Index s = 0; s < B; ++s)
        for (Index i = 0; i < D; ++i)
            for (Index j = 0; j < k; ++j)
                bases[static_cast<std::size_t>((s * k + j) * D + i)] = options.q0.values[(s * D + i) * k + j];
    return bases;
}

}  // namespace

Spectrum spectrum(Backend& backend, const ProcessGrid& grid, const spikefloss::Network& network,
                  const Sequences& sequences, const TangentOptions& options, const std::vector<float>& q0) {
    const Index T = sequences.steps, b = sequences.mine.size();
    StatePass state(backend, grid, network, T, b, {.readout = false});
    std::unique_ptr<TangentPass> tangents;
    grid.agree([&] { tangents = std::make_unique<TangentPass>(backend, grid, network, options, T, b, false); });
    state.forward(network, sequences.x);
    require_finite_states(backend, grid, state, sequences.mine, network.layout.neurons());
    tangents->forward(network, state, q0, sequences.mine.begin);
    const spikefloss::Spectrum measured = mean_spectrum(grid, *tangents, sequences.total, network.state_size());
    const KaplanYorke dimension = kaplan_yorke(measured);
    return {.exponents = measured.exponents,
            .per_sequence = measured.per_sequence,
            .log_r = tangents->log_r(),
            .qr_step = tangents->counted_steps(),
            .kaplan_yorke = dimension.dimension,
            .entropy_rate = entropy_rate(measured),
            .log10_condition_number = log10_condition_number(measured, T),
            .kaplan_yorke_is_lower_bound = dimension.is_bound,
            .rate = state.tape().spikes.rate()};
}

Spectrum spectrum(const Network& network, const View& x, const SpectrumOptions& options, const Settings& settings) {
    const FlushDenormals flush;
    require_input(x, network.inputs());
    const Index T = x.shape[0], B = x.shape[1], D = network.state_size();
    const TangentOptions tangent = tangent_options(options, D, T);
    Machine machine(network.held(), settings);
    return spectrum(*machine.backend, machine.grid, machine.network, {x.values, T, {0, B}, B}, tangent,
                    starting_bases(options, machine, B, D));
}

Flossing floss(const Network& network, const View& x, const FlossOptions& options, const Settings& settings) {
    const FlushDenormals flush;
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
