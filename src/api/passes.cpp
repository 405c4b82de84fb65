// The network in time: one forward pass, and backward passes from a loss or from adjoints of the caller.
#include "api/held.hpp"
#include "core/flush_denormals.hpp"
#include "network/state_pass.hpp"
#include "train/finite.hpp"
#include "train/loss.hpp"

#include <algorithm>
#include <cstring>
#include <limits>

namespace spikefloss::api {
namespace {

constexpr double none = std::numeric_limits<double>::quiet_NaN();

StateOptions state_options(const PassOptions& options) {
    return {.keep_current = options.currents,
            .time_constants = options.constants,
            .input_adjoint = options.input_gradient,
            .readout = options.readout};
}

// Byte k is bit k, 0 or 1.
std::uint64_t bytes_of(std::uint64_t bits) {
    const std::uint64_t apart = (bits * 0x0101010101010101ull) & 0x8040201008040201ull;
    return ((apart + 0x7f7f7f7f7f7f7f7full) >> 7) & 0x0101010101010101ull;
}

// The mask [T] of all sequences, or [T, B].
std::vector<float> mask_of(const View& mask, Index T, Index B) {
    std::vector<float> all(static_cast<std::size_t>(T * B), 1.0f);
    if (!mask.values) return all;
    const bool own = mask.shape == Shape{T, B};
    if (!own) require_shape("mask", mask, {T}, "[T] (or [T, B])");
    for (Index i = 0; i < T * B; ++i) {
        const float m = mask.values[own ? i : i / B];
        require(m == 0.0f || m == 1.0f, Exit::usage, fmt::format("an element of mask is {} but must be 0 or 1", m),
                "1 marks the steps that count for the loss");
        all[static_cast<std::size_t>(i)] = m;
    }
    return all;
}

Batch batch_of(const Targets& targets, const NetworkShape& shape, Index T, Index B) {
    Batch batch;
    batch.steps = T, batch.sequences = B, batch.outputs = shape.outputs;
    batch.mask = mask_of(targets.mask, T, B);
    require(targets.label.empty() != (targets.target.values == nullptr), Exit::usage,
            targets.label.empty() ? "neither label nor target was given" : "both label and target were given",
            "give label [B] for classes, or target [T, B, O]");
    const auto wanted = choice_from<LossKind>(targets.loss, "loss");
    if (targets.label.empty()) {
        batch.loss = chosen_loss(wanted, LossKind::binary_cross_entropy, "loss");
        require_shape("target", targets.target, {T, B, shape.outputs}, "[T, B, O]");
        require_finite("target", targets.target);
        batch.target.assign(targets.target.values, targets.target.values + T * B * shape.outputs);
        return batch;
    }
    batch.loss = chosen_loss(wanted, LossKind::cross_entropy_mean, "loss");
    require(static_cast<Index>(targets.label.size()) == B, Exit::usage,
            fmt::format("label has {} numbers but x has {} sequences", targets.label.size(), B),
            "give one label for each sequence");
    for (const Index label : targets.label) {
        require(label >= 0 && label < shape.outputs, Exit::usage,
                fmt::format("a label is {} but must be 0 to {}", label, shape.outputs - 1),
                "the network has one output per class, numbered from 0");
        batch.label.push_back(static_cast<std::int32_t>(label));
    }
    return batch;
}

}  // namespace

struct Pass::Parts {
    std::shared_ptr<const Held> held;
    PassOptions options;
    Machine machine;
    StatePass state;
    Gradient gradient;
    View x;

    Parts(std::shared_ptr<const Held> network, Index T, Index B, const PassOptions& chosen, const Settings& settings)
        : held(std::move(network)),
          options(chosen),
          machine(*held, settings),
          state(*machine.backend, machine.grid, machine.network, T, B, state_options(chosen)),
          gradient(*machine.backend, machine.grid, machine.network.layout) {}

    Index T() const { return state.steps(); }
    Index B() const { return state.sequences(); }
    Index N() const { return machine.network.n(); }
    const NetworkShape& shape() const { return machine.network.layout.shape(); }
    void require_readout() const {
        require(options.readout, Exit::usage, "the pass has no readout", "set PassOptions::readout");
    }
    // dL/dy [T, B, O] and e [T+1, B, N] may be null.
    Gradients backward(double loss, const float* dy, const float* extra);
    Buffer<float> extra_of(const Adjoint& adjoint);
};

Pass::Pass(const Network& network, Index T, Index B, const PassOptions& options, const Settings& settings) {
    const FlushDenormals flush;
    const Topology& topology = network.held().host.layout.topology();
    require(T >= 1 && B >= 1, Exit::usage, fmt::format("{} steps of {} sequences were asked for", T, B),
            "use at least 1 of each");
    require(!options.input_gradient || topology.plain(), Exit::usage,
            "the gradient of x is not available for a network of populations", "leave input_gradient out");
    parts_ = std::make_unique<Parts>(network.shared(), T, B, options, settings);
}
Pass::~Pass() = default;

void Pass::forward(const View& x) {
    const FlushDenormals flush;
    Parts& p = *parts_;
    require_input(x, p.shape().inputs);
    require_shape("x", x, {p.T(), p.B(), p.shape().inputs}, "[T, B, M]");
    p.x = {};
    p.state.forward(p.machine.network, x.values);
    require_finite_states(*p.machine.backend, p.machine.grid, p.state, {0, p.B()}, {0, p.N()});
    p.x = x;
}

std::vector<std::uint8_t> Pass::spikes() const {
    // One process holds all neurons, in host memory.
    const SpikeTape& tape = parts_->state.tape().spikes;
    const Index T = parts_->T(), B = parts_->B(), N = parts_->N(), words = spike_words(N);
    std::vector<std::uint8_t> spikes(static_cast<std::size_t>((T + 1) * B * N));
    std::uint8_t* to = spikes.data();
    for (Index t = 0; t <= T; ++t)
        for (Index s = 0; s < B; ++s, to += N) {
            const std::uint32_t* const row = tape.bits(t) + s * words;
            for (Index j = 0; j < N; j += 8) {
                const std::uint64_t eight = bytes_of(row[j / 32] >> (j % 32) & 0xffu);
                std::memcpy(to + j, &eight, static_cast<std::size_t>(std::min<Index>(8, N - j)));
            }
        }
    return spikes;
}
Array Pass::membrane() const {
    return {parts_->state.tape().membrane.to_host(), {parts_->T() + 1, parts_->B(), parts_->N()}};
}
Array Pass::current() const {
    return {parts_->state.tape().current.to_host(), {parts_->T() + 1, parts_->B(), parts_->N()}};
}
Array Pass::readout() const {
    parts_->require_readout();
    return {parts_->state.tape().readout.to_host(), {parts_->T(), parts_->B(), parts_->shape().outputs}};
}
double Pass::rate() const { return parts_->state.tape().spikes.rate(); }

Gradients Pass::Parts::backward(double loss, const float* dy, const float* extra) {
    const FlushDenormals flush;
    require(x.values != nullptr, Exit::usage, "there was no forward pass", "call forward(x) first");
    const auto rows = T() * B();
    Buffer<float> g(*machine.backend, options.input_gradient ? rows * N() : 0);
    state.backward(machine.network, x.values,
                   {.dy = dy,
                    .extra = extra,
                    .state_norms = options.constants,
                    .input_adjoint = options.input_gradient ? g.data() : nullptr},
                   gradient.start());
    Gradients result;
    result.loss = loss;
    // Without a loss only the gradients are checked.
    result.parameters = finished(machine, gradient, std::isnan(loss) ? 0.0 : loss);
    if (options.constants) result.state_gradient_norm = state.state_gradient_norm();
    if (options.input_gradient) {  // dL/dx = g W_in
        Buffer<float> dx(*machine.backend, rows * shape().inputs);
        machine.backend->project_transposed({N(), shape().inputs, machine.network[Parameter::w_in], shape().inputs},
                                            {g.data(), rows, N()}, Matrix<float>(dx.data(), rows, shape().inputs),
                                            false);
        result.input = {dx.to_host(), {T(), B(), shape().inputs}};
    }
    return result;
}

// As StatePass::add_extra, of all steps.
Buffer<float> Pass::Parts::extra_of(const Adjoint& adjoint) {
    const spikefloss::Network& network = machine.network;
    if (adjoint.membrane.values) {
        require_shape("the gradient of the membranes", adjoint.membrane, {T(), B(), N()}, "[T, B, N]");
        require(!network.has_adaptation() && !network.layout.has(Parameter::threshold), Exit::usage,
                "a gradient of membranes is not available where neurons adapt or have thresholds of their own",
                "let the loss depend on spikes or on the readout");
    }
    if (adjoint.spikes.values)
        require_shape("the gradient of the spikes", adjoint.spikes, {T(), B(), N()}, "[T, B, N]");
    Buffer<float> extra(*machine.backend, (T() + 1) * B() * N());
    state.add_extra(network, 0, T(), adjoint.spikes.values, adjoint.membrane.values, extra.data());
    return extra;
}

Gradients Pass::backward(const Adjoint& adjoint) {
    const FlushDenormals flush;
    if (adjoint.readout.values) {
        parts_->require_readout();
        require_shape("dL/dy", adjoint.readout, {parts_->T(), parts_->B(), parts_->shape().outputs}, "[T, B, O]");
    }
    Buffer<float> extra;
    if (adjoint.spikes.values || adjoint.membrane.values) extra = parts_->extra_of(adjoint);
    return parts_->backward(none, adjoint.readout.values, extra ? extra.data() : nullptr);
}

Gradients gradients(const Network& network, const View& x, const Targets& targets, const PassOptions& options,
                    const Settings& settings) {
    require_input(x, network.inputs());
    const Index T = x.shape[0], B = x.shape[1];
    const Batch batch = batch_of(targets, network.held().host.layout.shape(), T, B);
    Pass pass(network, T, B, options, settings);
    Pass::Parts& parts = *pass.parts_;
    parts.require_readout();
    // The pass has x, so the loss needs none.
    LossPass loss(*parts.machine.backend, parts.machine.grid, T, B, 0, batch.outputs, batch.loss);
    loss.load(batch);
    pass.forward(x);
    const Outcome outcome = loss.evaluate(parts.state.tape().readout.data());
    Gradients result = parts.backward(outcome.loss, loss.dy(), nullptr);
    result.accuracy = outcome.accuracy;
    return result;
}

}  // namespace spikefloss::api
