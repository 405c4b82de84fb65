#include "network/state_pass.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Steps of a call. With segments a chunk has at most sqrt(T) steps, so that its arrays stay small too.
Index chunk_steps(const Backend& backend, TapeKind kind, Index T, Index b, Index n) {
    const double root = std::ceil(std::sqrt(static_cast<double>(T)));
    const Index most = std::max<Index>(1, kind == TapeKind::segments ? static_cast<Index>(root) : T);
    return std::clamp<Index>(backend.chunk_rows(std::max<Index>(1, n)) / std::max<Index>(1, b), 1, most);
}

// The smallest multiple of `chunk` that is at least sqrt(T). Chunks, and so sums, are then the same as with the full
// tape, unless the chunks of the full tape are longer.
Index segment_length(TapeKind kind, Index T, Index chunk) {
    Index steps = chunk;
    while (kind == TapeKind::segments && steps * steps < T) steps += chunk;
    return kind == TapeKind::full ? std::max<Index>(1, T) : steps;
}

StatePasses choose_passes(Backend& backend, const ProcessGrid& grid, const Network& network, const StatePlan& plan,
                          const StateOptions& options) {
    const char* const why = !options.whole_passes            ? "whole passes are switched off"
                            : grid.shape().neuron_shards > 1 ? "several ranks hold the neurons"
                                                             : network.only_loops();
    if (why) return {{.why = why}, {.why = why}};
    StatePasses passes = backend.state_passes(plan, backend.pass_memory());
    if (options.input_adjoint) passes.backward = {.why = "the adjoint of the inputs is wanted"};
    return passes;
}

}  // namespace

StatePass::StatePass(Backend& backend, const ProcessGrid& grid, const Network& network, Index T, Index b,
                     StateOptions options)
    : backend_(backend),
      grid_(grid),
      shape_(network.layout.shape()),
      T_(T),
      b_(b),
      n_(network.n()),
      adapts_(network.has_adaptation()),
      adapted_(network.adapted() != nullptr),
      options_(options),
      i_stride_(options.keep_current || options.time_constants ? b * n_ : 0),
      chunk_(chunk_steps(backend, options.tape, T, b, n_)),
      segment_(segment_length(options.tape, T, chunk_)),
      segments_(std::max<Index>(1, (T + segment_ - 1) / segment_)),
      passes_(choose_passes(backend, grid, network, plan(), options)),
      tape_{Buffer<float>(backend, (std::min(segment_, T) + 1) * b * n_, Unset()),
            Buffer<float>(backend, (i_stride_ ? std::min(segment_, T) + 1 : 1) * b * n_),
            Buffer<float>(backend, adapts_ ? (std::min(segment_, T) + 1) * b * n_ : 0),
            SpikeTape(backend, grid, shape_.neurons, T, b, network.model.refractory),
            Buffer<float>(backend, readouts())},
      packed_(static_cast<std::size_t>(one_dense_product(network.terms().input) &&
                                               backend.packs_inputs(chunk_ * b, shape_.inputs, n_)
                                           ? (T + chunk_ - 1) / chunk_
                                           : 0)),
      x_bits_(backend, packed_.empty() ? 0 : T * b * spike_words(shape_.inputs), Unset()),
      starts_(backend, segments_ > 1 ? segments_ * state_arrays() * b * n_ : 0),
      end_(backend, segments_ > 1 ? b * n_ : 0),
      readout_sums_(backend, readouts()),
      dz_(backend, readouts()),
      di_(backend, b * n_),
      du_(backend, b * n_),
      dw_(backend, adapts_ ? b * n_ : 0),
      spread_(backend, options.spike_adjoint ? chunk_ * b * n_ : 0),
      extra_(backend, options.spike_adjoint ? (chunk_ + 1) * b * n_ : 0),
      limit_(backend, 1),
      squares_(backend, (T + 1) * b),
      sum_(backend, 1) {
    if (!passes_.forward.pass || !passes_.backward.pass)
        loop_.emplace(backend, grid, plan(), shape_.neurons, network.terms(), adapts_);
}

std::size_t StatePass::bytes() const {
    return tape_.membrane.bytes() + tape_.current.bytes() + tape_.adaptation.bytes() + tape_.spikes.bytes() +
           tape_.readout.bytes() + x_bits_.bytes() + starts_.bytes() + end_.bytes() +
           static_cast<std::size_t>(readout_sums_.size()) * size_of(readout_sums_.type()) + dz_.bytes() +
           squares_.bytes() + spread_.bytes() + extra_.bytes();
}

// ---- segments -------------------------------------------------------------------------------------------------------

// Saves the state before the first step of segment k from the tape: the last step of the segment held before it.
void StatePass::save_start(Index k) {
    const Index size = b_ * n_;
    const auto bytes = static_cast<std::size_t>(size) * sizeof(float);
    float* const start = starts_.data() + state_arrays() * k * size;
    backend_.copy(start, current_at(first_of(k)), bytes);
    backend_.copy(start + size, membrane_at(first_of(k)), bytes);
    if (adapts_) backend_.copy(start + 2 * size, adaptation_at(first_of(k)), bytes);
}

// Copies this state to the tape, which holds segment k from then on.
void StatePass::load_start(Index k) {
    const Index size = b_ * n_;
    const auto bytes = static_cast<std::size_t>(size) * sizeof(float);
    held_ = k;
    const float* const start = starts_.data() + state_arrays() * k * size;
    backend_.copy(current_at(first_of(k)), start, bytes);
    backend_.copy(membrane_at(first_of(k)), start + size, bytes);
    if (adapts_) backend_.copy(adaptation_at(first_of(k)), start + 2 * size, bytes);
}

// Runs segment k again unless its states are in the tape. No data is sent between ranks.
void StatePass::hold(const Network& network, InputView x, Index k) {
    if (held_ == k) return;
    load_start(k);
    forward_segment(network, x, true);
}

// A membrane that is not finite stays so: every step multiplies it, and even 0 times infinity is NaN.
bool StatePass::finite() const {
    const float* last = segments_ > 1 ? end_.data() : membrane(T_);
    return std::isfinite(squares_of(backend_, last, b_ * n_, sum_));
}

// ---- forwards -------------------------------------------------------------------------------------------------------

void StatePass::forward(const Network& network, InputView x) {
    held_ = 0;
    network.sort_synapses();
    backend_.repeat_row(b_, n_, network[Parameter::initial_current], current_at(0));
    backend_.repeat_row(b_, n_, network[Parameter::initial_membrane], membrane_at(0));
    if (adapts_) backend_.repeat_row(b_, n_, network[Parameter::initial_adaptation], adaptation_at(0));
    tape_.spikes.write(network.model.neuron, network.neurons(), 0, {current_at(0), membrane(0), adaptation(0)});
    for (Index k = 0; k < segments_; ++k) {
        if (segments_ > 1) save_start(k);
        if (k > 0) load_start(k);
        forward_segment(network, x, false);
    }
    if (segments_ > 1) backend_.copy(end_.data(), membrane_at(T_), end_.bytes());
    finish_readout(network);
}

// Runs the held segment. Its first state is already in the tape. again: spikes and readout are known.
void StatePass::forward_segment(const Network& network, InputView x, bool again) {
    for (Index t = first_of(held_); t < end_of(held_); t += chunk_) {
        backend_.may_stop();
        if (!again) pack_inputs(x, t, std::min(chunk_, end_of(held_) - t));
        const StateForwardCall call = forward_call(network, x, t, std::min(chunk_, end_of(held_) - t), again);
        if (passes_.forward.pass)
            passes_.forward.pass->run(call);
        else
            loop_->forward(call, tape_.spikes, t);
    }
}

void StatePass::pack_inputs(InputView x, Index first, Index steps) {
    if (packed_.empty() || x.bits) return;
    const Index M = shape_.inputs;
    const bool packed =
        backend_.pack_inputs(input_values(x, first), steps * b_, M, n_, x_bits_.data() + first * b_ * spike_words(M));
    packed_[static_cast<std::size_t>(first / chunk_)] = static_cast<char>(packed);
}

StateForwardCall StatePass::forward_call(const Network& network, InputView x, Index first, Index steps, bool again) {
    const Index O = shape_.outputs;
    return {.steps = steps,
            .model = network.model.neuron,
            .neurons = network.neurons(),
            .readout = network.model.readout,
            .w_in = network[Parameter::w_in],
            .w_rec = network[Parameter::w_rec],
            .w_out = network[Parameter::w_out],
            .x = input_values(x, first),
            .x_bits = input_bits(x, first),
            .i = current_at(first),
            .i_stride = i_stride_,
            .u = membrane_at(first),
            .w = adaptation_at(first),
            .bits = tape_.spikes.bits(first),
            .y = options_.readout ? readout_sums_.matrix(steps * b_, O, first * b_ * O) : SumMatrix(),
            .again = again};
}

void StatePass::finish_readout(const Network& network) {
    if (!options_.readout) return;
    const Index O = shape_.outputs;
    grid_.neurons().all_reduce_sum(readout_sums_.data(), readout_sums_.type(), T_ * b_ * O);
    backend_.round_sums(readout_sums_.data(), tape_.readout.data(), T_ * b_ * O);
    backend_.readout_filter(T_, b_, O, network[Parameter::kappa], network[Parameter::bias_out], tape_.readout.data(),
                            tape_.readout.data());
}

// ---- backwards ------------------------------------------------------------------------------------------------------

void StatePass::backward(const Network& network, InputView x, const BackwardOptions& options, SumBuffer& gradient) {
    const auto row_sums = [&](Parameter p) { return gradient.matrix(1, n_, network.layout.extent(p).offset); };
    if (options.dy) filter_backward(network, options.dy, gradient);
    squares_complete_ = options.adjoint_limit > 0.0f;  // except at t = 0, which has no readout and no cap
    if (options.adjoint_limit > 0.0f) limit_.copy_in(&options.adjoint_limit);
    SPIKEFLOSS_ASSERT(!options.dy || options_.readout);
    SPIKEFLOSS_ASSERT(!options.input_adjoint || options_.input_adjoint);
    SPIKEFLOSS_ASSERT(!options.spike_adjoint || (options_.spike_adjoint && !options.extra));
    if (options.spike_adjoint) backend_.repeat_row(chunk_ * b_, n_, options.spike_adjoint, spread_.data());
    di_.zero();
    du_.zero();
    if (adapts_) dw_.zero();
    if (loop_) loop_->begin_backward();
    for (Index k = segments_ - 1; k >= 0; --k) {
        hold(network, x, k);
        backward_segment(network, x, options, gradient);
    }
    if (options.extra)
        backend_.add_adjoints(network.model.neuron, network.neurons(), network.model.readout, b_, n_,
                              {nullptr, membrane(0), adaptation(0)}, nullptr, nullptr, nullptr, options.extra,
                              adjoint(), constant_sums(network, gradient).threshold);
    if (options.state_norms) backend_.row_sum_squares(b_, n_, di_.data(), du_.data(), adjoint().dw, squares_.data());
    backend_.add_column_sums({di_.data(), b_, n_}, row_sums(Parameter::initial_current));
    backend_.add_column_sums({du_.data(), b_, n_}, row_sums(Parameter::initial_membrane));
    if (adapts_) backend_.add_column_sums({dw_.data(), b_, n_}, row_sums(Parameter::initial_adaptation));
}

// dz of all steps, and the gradients of b_out and kappa.
void StatePass::filter_backward(const Network& network, const float* dy, SumBuffer& gradient) {
    const Index O = shape_.outputs;
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    backend_.readout_filter_backward(T_, b_, O, network[Parameter::kappa], tape_.readout.data(), dy, dz_.data(),
                                     gradient.matrix(1, O, at(Parameter::kappa)));
    backend_.add_column_sums({dz_.data(), T_ * b_, O}, gradient.matrix(1, O, at(Parameter::bias_out)));
}

// The held segment, chunk by chunk. (di_, du_) go from its last step to the step before its first.
void StatePass::backward_segment(const Network& network, InputView x, const BackwardOptions& options,
                                 SumBuffer& gradient) {
    const Index begin = first_of(held_), end = end_of(held_);
    for (Index first = begin + (end - begin - 1) / chunk_ * chunk_; first >= begin; first -= chunk_) {
        backend_.may_stop();
        const StateBackwardCall call =
            backward_call(network, x, options, first, std::min(chunk_, end - first), gradient);
        std::function<void()> done;
        if (first == 0 && options.complete)
            done = [&] { options.complete({Parameter::w_out, Parameter::bias_out, Parameter::w_rec}); };
        if (passes_.backward.pass)
            passes_.backward.pass->run(call, done);
        else
            loop_->backward(call, tape_.spikes, first, done);
    }
}

void StatePass::add_extra(const Network& network, Index first, Index steps, const float* spikes, const float* membranes,
                          float* extra) const {
    const Index size = b_ * n_;
    // With refractory neurons step by step: which of them are, differs from step to step.
    const Index at_once = network.model.refractory > 0 ? 1 : steps;
    for (Index t = 1; t <= steps; t += at_once)
        backend_.add_adjoints(network.model.neuron, network.neurons(), network.model.readout, at_once * b_, n_,
                              {nullptr, membrane(first + t), adaptation(first + t),
                               at_once == 1 ? tape_.spikes.refractory(first + t) : Refractory()},
                              spikes ? spikes + (t - 1) * size : nullptr, nullptr, nullptr,
                              membranes ? membranes + (t - 1) * size : nullptr, {nullptr, extra + t * size}, {});
}

// e of a chunk.
const float* StatePass::extra_of(const Network& network, const BackwardOptions& options, Index first, Index steps) {
    if (!options.spike_adjoint) return options.extra ? options.extra + first * b_ * n_ : nullptr;
    extra_.zero();
    add_extra(network, first, steps, spread_.data(), nullptr, extra_.data());
    return extra_.data();
}

StateBackwardCall StatePass::backward_call(const Network& network, InputView x, const BackwardOptions& options,
                                           Index first, Index steps, SumBuffer& gradient) {
    const Index M = shape_.inputs, O = shape_.outputs;
    const auto sums = [&](Parameter p, Index rows, Index cols) {
        return gradient.matrix(rows, cols, network.layout.extent(p).offset);
    };
    return {.steps = steps,
            .model = network.model.neuron,
            .neurons = network.neurons(),
            .readout = network.model.readout,
            .w_rec = network[Parameter::w_rec],
            .w_out = network[Parameter::w_out],
            .x = input_values(x, first),
            .u = membrane(first),
            .x_bits = input_bits(x, first),
            .bits = tape_.spikes.bits(first),
            .dz = options.dy ? dz_.data() + first * b_ * O : nullptr,
            .extra = extra_of(network, options, first, steps),
            .squares = options.state_norms ? squares_.data() + first * b_ : nullptr,
            .adjoint_limit = options.adjoint_limit > 0.0f ? limit_.data() : nullptr,
            .di = di_.data(),
            .du = du_.data(),
            .d_w_in = sums(Parameter::w_in, n_, M),
            .d_w_rec = sums(Parameter::w_rec, n_, shape_.neurons),
            .d_w_out = sums(Parameter::w_out, O, n_),
            .d_bias = sums(Parameter::bias, 1, n_),
            .i = options_.time_constants ? current(first) : nullptr,
            .constants = constant_sums(network, gradient),
            .w = adaptation(first),
            .dw = adjoint().dw,
            .g = options.input_adjoint ? options.input_adjoint + first * b_ * n_ : nullptr};
}

// Where the gradients of the constants are summed, if they are wanted.
ConstantSums StatePass::constant_sums(const Network& network, SumBuffer& gradient) const {
    return options_.time_constants ? network.constant_sums(gradient) : ConstantSums();
}

std::vector<double> StatePass::state_gradient_norm() const {
    std::vector<double> squares = squares_.to_host();
    if (squares_complete_ && grid_.neuron_shard() != 0) std::fill(squares.begin() + b_, squares.end(), 0.0);
    std::vector<double> norm(static_cast<std::size_t>(T_ + 1), 0.0);
    for (Index t = 0; t <= T_; ++t)
        for (Index s = 0; s < b_; ++s)
            norm[static_cast<std::size_t>(t)] += squares[static_cast<std::size_t>(t * b_ + s)];
    grid_.control().all_reduce_sum(norm.data(), Scalar::float64, T_ + 1);
    for (double& value : norm) value = std::sqrt(value);
    return norm;
}

}  // namespace spikefloss
