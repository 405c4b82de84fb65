// Forward pass:
//   i[t+1] = alpha i[t] + W_in x[t] + W_rec s[t] + b,  u[t+1] = reset(beta u[t] + (1-beta) i[t+1]),  s[t] = H(u[t] - theta)
//   y[t]   = kappa y[t-1] + (1-kappa) (W_out z[t+1] + b_out),  z = u or s
#include "network/state_pass.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Steps per product or whole pass.
Index chunk_steps(const Backend& backend, Index T, Index b, Index n) {
    return std::clamp<Index>(backend.chunk_elements() / std::max<Index>(1, b * n), 1, std::max<Index>(1, T));
}

Index largest_block(const Recurrence& recurrence) {
    Index largest = 0;
    for (Index p = 0; p < recurrence.shards(); ++p) largest = std::max(largest, recurrence.block(p).size());
    return largest;
}

}  // namespace

StatePass::StatePass(Backend& backend, const ProcessGrid& grid, NetworkShape shape, Index T, Index b, bool keep_current)
    : backend_(backend),
      grid_(grid),
      shape_(shape),
      T_(T),
      b_(b),
      n_(grid.neurons_of(shape.neurons).size()),
      keep_current_(keep_current),
      chunk_(chunk_steps(backend, T, b, n_)),
      recurrence_(backend, grid, shape.neurons, b),
      words_(recurrence_.gathered_words(b)),
      tape_{Buffer<float>(backend, (T + 1) * b * n_), Buffer<float>(backend, (keep_current ? T + 1 : 1) * b * n_),
            Buffer<std::uint32_t>(backend, (T + 1) * words_), Buffer<float>(backend, T * b * shape.outputs)},
      input_(backend, chunk_ * b * n_),
      step_(backend, b * n_),
      bits_(backend, b * spike_words(n_)),
      chunk_spikes_(backend, chunk_ * b * largest_block(recurrence_)),
      readout_sums_(backend, T * b * shape.outputs),
      dz_(backend, T * b * shape.outputs),
      di_(backend, b * n_),
      du_(backend, b * n_),
      adjoint_(backend, chunk_ * b * n_),
      squares_(backend, (T + 1) * b),
      count_(backend, 1) {}

// i[0] and u[0], the same for every sequence.
void StatePass::start(const Network& network) {
    backend_.repeat_row(b_, n_, network[Parameter::initial_current], current_(0));
    backend_.repeat_row(b_, n_, network[Parameter::initial_membrane], membrane_(0));
}

void StatePass::forward(const Network& network, const float* x) {
    const Index M = shape_.inputs;
    const Matrix<const float> w_in(network[Parameter::w_in], n_, M);
    const NeuronModel& model = network.model.neuron;
    start(network);
    for (Index t = 0; t < T_; t += chunk_) {
        const Index steps = std::min(chunk_, T_ - t);
        // W_in x of the whole chunk at once
        backend_.gemm(Transpose::no, Transpose::yes, {x + t * b_ * M, steps * b_, M}, w_in,
                      Matrix<float>(input_.data(), steps * b_, n_), false);
        if (!whole_forward(network, t, steps)) loop_forward(network, t, steps);
    }
    pack(model, T_);
    read_out(network);
}

// s[t] of all neurons, as bits.
void StatePass::pack(const NeuronModel& model, Index t) {
    backend_.pack_spikes(model, b_, n_, membrane_(t), bits_.data());
    recurrence_.gather_spikes(b_, bits_.data(), spikes_(t));
}

// Steps first + 1 .. first + steps, their inputs waiting in input_: the readable form, for any grid.
void StatePass::loop_forward(const Network& network, Index first, Index steps) {
    const NeuronModel& model = network.model.neuron;
    for (Index t = first; t < first + steps; ++t) {
        pack(model, t);
        recurrence_.apply(network[Parameter::w_rec], b_, recurrence_.unpack(b_, spikes_(t)), step_.data());
        backend_.neuron_step(model, network.neurons(), b_, n_, input_.data() + (t - first) * b_ * n_, step_.data(),
                             current_(t), membrane_(t), current_(t + 1), membrane_(t + 1));
    }
}

// The same as one operation of the backend, where this rank holds all neurons and the backend takes the shape.
bool StatePass::whole_forward(const Network& network, Index first, Index steps) {
    if (!whole_passes_ || recurrence_.shards() > 1) return false;
    return backend_.forward_steps(network.model.neuron, network.neurons(), steps, b_, n_, network[Parameter::w_rec],
                                  input_.data(), current_(first), keep_current_ ? b_ * n_ : 0, membrane_(first),
                                  spikes_(first));
}

// The spikes of shard p in `steps` steps from `first` on, as floats [steps, b, n_p] in chunk_spikes_.
void StatePass::unpack_chunk(Index first, Index steps, Index p) {
    const Index n_p = recurrence_.block(p).size(), words = recurrence_.word_offset(b_, p);
    if (recurrence_.shards() == 1)
        backend_.unpack_spikes(steps * b_, n_p, spikes(first), chunk_spikes_.data(), n_p);
    else
        for (Index t = 0; t < steps; ++t)
            backend_.unpack_spikes(b_, n_p, spikes(first + t) + words, chunk_spikes_.data() + t * b_ * n_p, n_p);
}

// This rank's spikes of `steps` steps from `first` on, as floats [steps, b, n].
const float* StatePass::local_spikes(Index first, Index steps) {
    unpack_chunk(first, steps, grid_.neuron_shard());
    return chunk_spikes_.data();
}

void StatePass::read_out(const Network& network) {
    const Index O = shape_.outputs;
    const Matrix<const float> w_out(network[Parameter::w_out], O, n_);
    for (Index t = 0; t < T_; t += chunk_) {
        const Index steps = std::min(chunk_, T_ - t), rows = steps * b_;
        const float* z = network.model.readout == Readout::membrane ? membrane(t + 1) : local_spikes(t + 1, steps);
        backend_.gemm(Transpose::no, Transpose::yes, {z, rows, n_}, w_out, readout_sums_.matrix(rows, O, t * b_ * O),
                      false);
    }
    grid_.neurons().all_reduce_sum(readout_sums_.data(), readout_sums_.type(), T_ * b_ * O);
    backend_.round_sums(readout_sums_.data(), tape_.readout.data(), T_ * b_ * O);
    backend_.readout_filter(T_, b_, O, network[Parameter::kappa], network[Parameter::bias_out], tape_.readout.data(),
                            tape_.readout.data());
}

double StatePass::firing_rate() const {
    const Index mine = recurrence_.word_offset(b_, grid_.neuron_shard());
    count_.zero();
    backend_.count_spikes(T_, b_ * spike_words(n_), spikes(1) + mine, words_, count_.data());
    double counts[2] = {count_.to_host()[0], static_cast<double>(T_ * b_ * n_)};
    grid_.control().all_reduce_sum(counts, Scalar::float64, 2);
    return counts[1] > 0.0 ? counts[0] / counts[1] : 0.0;
}

}  // namespace spikefloss
