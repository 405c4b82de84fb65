// Forward pass:
//   i[t+1] = alpha i[t] + W_in x[t] + W_rec s[t] + b,   s[t] = H(u[t] - theta)
//   u[t+1] = reset(beta u[t] + (1-beta) i[t+1])
//   y[t]   = kappa y[t-1] + (1-kappa) (W_out z[t+1] + b_out),   z = u or s
#include "network/state_pass.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Steps per product or whole pass. With segments a chunk has at most sqrt(T) steps, so that its arrays stay small too.
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

}  // namespace

StatePass::StatePass(Backend& backend, const ProcessGrid& grid, NetworkShape shape, Index T, Index b, bool keep_current,
                     TapeKind kind)
    : backend_(backend),
      grid_(grid),
      shape_(shape),
      T_(T),
      b_(b),
      n_(grid.neurons_of(shape.neurons).size()),
      keep_current_(keep_current),
      chunk_(chunk_steps(backend, kind, T, b, n_)),
      segment_(segment_length(kind, T, chunk_)),
      segments_(std::max<Index>(1, (T + segment_ - 1) / segment_)),
      recurrence_(backend, grid, shape.neurons, b),
      tape_{Buffer<float>(backend, (std::min(segment_, T) + 1) * b * n_),
            Buffer<float>(backend, (keep_current ? std::min(segment_, T) + 1 : 1) * b * n_),
            SpikeTape(backend, grid, shape.neurons, T, b), Buffer<float>(backend, T * b * shape.outputs)},
      starts_(backend, segments_ > 1 ? segments_ * 2 * b * n_ : 0),
      end_(backend, segments_ > 1 ? b * n_ : 0),
      input_(backend, chunk_ * b * n_),
      step_(backend, b * n_),
      readout_sums_(backend, T * b * shape.outputs),
      dz_(backend, T * b * shape.outputs),
      di_(backend, b * n_),
      du_(backend, b * n_),
      adjoint_(backend, chunk_ * b * n_),
      limit_(backend, 1),
      squares_(backend, (T + 1) * b),
      sum_(backend, 1) {}

std::size_t StatePass::bytes() const {
    return tape_.membrane.bytes() + tape_.current.bytes() + tape_.spikes.bytes() + tape_.readout.bytes() +
           starts_.bytes() + end_.bytes() +
           static_cast<std::size_t>(readout_sums_.size()) * size_of(readout_sums_.type()) + dz_.bytes() +
           squares_.bytes();
}

// ---- segments -------------------------------------------------------------------------------------------------------

// Saves the state before the first step of segment k from the tape: the last step of the segment held before it.
void StatePass::save_start(Index k) {
    const Index size = b_ * n_;
    const auto bytes = static_cast<std::size_t>(size) * sizeof(float);
    backend_.copy(starts_.data() + 2 * k * size, current_at(first_of(k)), bytes);
    backend_.copy(starts_.data() + (2 * k + 1) * size, membrane_at(first_of(k)), bytes);
}

// Copies this state to the tape, which holds segment k from then on.
void StatePass::load_start(Index k) {
    const Index size = b_ * n_;
    const auto bytes = static_cast<std::size_t>(size) * sizeof(float);
    held_ = k;
    backend_.copy(current_at(first_of(k)), starts_.data() + 2 * k * size, bytes);
    backend_.copy(membrane_at(first_of(k)), starts_.data() + (2 * k + 1) * size, bytes);
}

// Runs segment k again unless its states are in the tape. No data is sent between ranks.
void StatePass::hold(const Network& network, const float* x, Index k) {
    if (held_ == k) return;
    load_start(k);
    forward_segment(network, x, Run::again);
}

// A membrane that is not finite stays so: every step multiplies it, and even 0 times infinity is NaN.
bool StatePass::finite() const {
    const float* last = segments_ > 1 ? end_.data() : membrane(T_);
    return std::isfinite(squares_of(backend_, last, b_ * n_, sum_));
}

// ---- forwards -------------------------------------------------------------------------------------------------------

void StatePass::forward(const Network& network, const float* x) {
    held_ = 0;
    start(network);
    for (Index k = 0; k < segments_; ++k) {
        if (segments_ > 1) save_start(k);
        if (k > 0) load_start(k);
        forward_segment(network, x, Run::first);
    }
    if (segments_ > 1) backend_.copy(end_.data(), membrane_at(T_), end_.bytes());
    finish_readout(network);
}

// i[0] and u[0], the same for every sequence.
void StatePass::start(const Network& network) {
    backend_.repeat_row(b_, n_, network[Parameter::initial_current], current_at(0));
    backend_.repeat_row(b_, n_, network[Parameter::initial_membrane], membrane_at(0));
    tape_.spikes.write(network.model.neuron, 0, membrane(0));
}

PassChoice StatePass::forward_choice() const {
    const PassChoice choice = choose_pass(whole_passes_, recurrence_.shards(), backend_.takes_steps(n_));
    const PassRule network = backend_.takes_network(n_, shape_.inputs, shape_.outputs);
    const bool alone = whole_passes_ && recurrence_.shards() == 1;
    if (alone && network.takes) return {PassForm::network, "one rank holds all neurons; taken ", network.what};
    if (choice.form == PassForm::recurrence)
        return {PassForm::recurrence, "one rank holds all neurons; whole networks are taken ", network.what};
    return choice;
}

// Runs the held segment. Its first state is already in the tape.
void StatePass::forward_segment(const Network& network, const float* x, Run run) {
    const Index M = shape_.inputs;
    const PassForm form = forward_choice().form;
    for (Index t = first_of(held_); t < end_of(held_); t += chunk_) {
        const Index steps = std::min(chunk_, end_of(held_) - t);
        if (form == PassForm::network) {
            network_forward(network, x, t, steps, run);
            continue;
        }
        // W_in x of the whole chunk at once
        backend_.project({n_, M, network[Parameter::w_in], M}, {.values = x + t * b_ * M, .stride = M, .sparse = true},
                         Matrix<float>(input_.data(), steps * b_, n_), false);
        if (form == PassForm::recurrence)
            whole_forward(network, t, steps);
        else
            record(run == Run::first ? 'f' : 'a', t, {network.values.data()},
                   [&] { loop_forward(network, t, steps, run); });
        if (run == Run::first) sum_readout(network, t, steps);
    }
}

// Runs `loop`, thousands of small operations, as a recording if neurons are sharded and a recording is possible. Calls
// with the same kind, first step and arrays of the caller must make the same operations and collectives. Sums in double
// are not recorded, because they need memory of their own.
void StatePass::record(int kind, Index first, std::array<const void*, 3> arrays, const std::function<void()>& loop) {
    if (recurrence_.shards() == 1 || !grid_.neurons().recorded() || backend_.sums() != Sums::float32) return loop();
    std::unique_ptr<Recording>& recording = recordings_[{kind, first, arrays}];
    if (!recording) recording = backend_.recording();
    recording->run(loop);
}

// The readable form, for any grid: steps first + 1 .. first + steps, with their inputs in input_.
void StatePass::loop_forward(const Network& network, Index first, Index steps, Run run) {
    const NeuronModel& model = network.model.neuron;
    for (Index t = first; t < first + steps; ++t) {
        recurrence_.apply(network[Parameter::w_rec], b_, tape_.spikes.at(t), step_.data());
        backend_.neuron_step(model, network.neurons(), b_, n_, input_.data() + (t - first) * b_ * n_, step_.data(),
                             current_at(t), membrane_at(t), current_at(t + 1), membrane_at(t + 1));
        if (run == Run::first) tape_.spikes.write(model, t + 1, membrane(t + 1));
    }
}

// The same as one operation of the backend, if this rank holds all neurons and the backend takes the shape.
void StatePass::whole_forward(const Network& network, Index first, Index steps) {
    const bool done = backend_.forward_steps(network.model.neuron, network.neurons(), steps, b_, n_,
                                             network[Parameter::w_rec], input_.data(), current_at(first),
                                             keep_current_ ? b_ * n_ : 0, membrane_at(first), tape_.spikes.bits(first));
    require(done, Exit::internal, "the backend did not take a pass that its limits allow");
}

// The same with input and readout, if the backend takes the whole network.
void StatePass::network_forward(const Network& network, const float* x, Index first, Index steps, Run run) {
    const Index M = shape_.inputs, O = shape_.outputs, at = first * b_ * O;
    const NetworkForward pass{
        .steps = steps,
        .M = M,
        .O = O,
        .x = x + first * b_ * M,
        .w_in = network[Parameter::w_in],
        .i = current_at(first),
        .i_stride = keep_current_ ? b_ * n_ : 0,
        .u = membrane_at(first),
        .bits = tape_.spikes.bits(first),
        .readout = network.model.readout,
        .w_out = network[Parameter::w_out],
        .y = run == Run::first ? static_cast<float*>(readout_sums_.matrix(steps * b_, O, at).data) : nullptr};
    require(backend_.forward_network(network.model.neuron, network.neurons(), b_, n_, network[Parameter::w_rec], pass),
            Exit::internal, "the backend did not take a network that its limits allow");
}

// z of the steps from first + 1 on, [steps, b, n].
Activity StatePass::readout_input(const Network& network, Index first) const {
    if (network.model.readout == Readout::spikes) return tape_.spikes.mine(first + 1);
    return {.values = membrane(first + 1), .stride = n_};
}

// W_out z of this rank's neurons in these steps.
void StatePass::sum_readout(const Network& network, Index first, Index steps) {
    const Index O = shape_.outputs, rows = steps * b_;
    backend_.project({O, n_, network[Parameter::w_out], n_}, readout_input(network, first),
                     readout_sums_.matrix(rows, O, first * b_ * O), false);
}

void StatePass::finish_readout(const Network& network) {
    const Index O = shape_.outputs;
    grid_.neurons().all_reduce_sum(readout_sums_.data(), readout_sums_.type(), T_ * b_ * O);
    backend_.round_sums(readout_sums_.data(), tape_.readout.data(), T_ * b_ * O);
    backend_.readout_filter(T_, b_, O, network[Parameter::kappa], network[Parameter::bias_out], tape_.readout.data(),
                            tape_.readout.data());
}

}  // namespace spikefloss
