// The state of the network through time: forwards (forward.cpp) and its adjoint backwards (backward.cpp), as loops over
// time of the backend's step operations. This is the readable reference, and the only path for sharded neurons.
//
// Shapes: T steps, b sequences and n neurons of this rank, N neurons in all, M inputs, O readouts.
#pragma once

#include "network/parameters.hpp"
#include "network/recurrence.hpp"

namespace spikefloss {

// What a forward pass leaves for the backward pass and for whoever looks at the network.
struct Tape {
    Buffer<float> membrane;        // u [T+1, b, n]
    Buffer<float> current;         // i [T+1, b, n] if kept, else the present one [b, n]
    Buffer<std::uint32_t> spikes;  // s [T+1][P blocks [b, words]], gathered over the neuron shards
    Buffer<float> readout;         // y [T, b, O]
};

struct BackwardOptions {
    const float* dy = nullptr;     // dL/dy [T, b, O]; null: no task loss
    const float* extra = nullptr;  // e [T+1, b, n], added to dL/du[t]; null: none
    float adjoint_limit = 0.0f;    // a sequence's adjoint (di, du) is scaled down to this norm; 0: off
    bool time_constants = false;   // also alpha and beta; the forward pass must have kept the currents
    bool state_norms = false;      // record state_gradient_norm
};

class StatePass {
public:
    // keep_current: hold the currents of all steps in the tape.
    StatePass(Backend& backend, const ProcessGrid& grid, NetworkShape shape, Index T, Index b, bool keep_current);

    // Runs the network on x [T, b, M] from its initial state; fills the tape.
    void forward(const Network& network, const float* x);
    // Adds the gradients of this rank's sequences to `gradient` (laid out as the parameters; bias_out and kappa whole on
    // every neuron shard). Still to be summed over `batch` by the caller.
    void backward(const Network& network, const float* x, const BackwardOptions& options, SumBuffer& gradient);

    // Frobenius norm of dL/d(i[t], u[t]) over all sequences of all ranks, [T+1], after a backward pass that recorded it.
    // Collective.
    std::vector<double> state_gradient_norm() const;
    // Mean probability of a spike per neuron and step, over t = 1..T and all ranks. Collective.
    double firing_rate() const;

    // Whether the backend may take whole chunks of steps in one operation (it may by default); tests compare both ways.
    void use_whole_passes(bool use) { whole_passes_ = use; }

    const Tape& tape() const { return tape_; }
    const float* membrane(Index t) const { return tape_.membrane.data() + t * b_ * n_; }
    const float* current(Index t) const { return tape_.current.data() + (keep_current_ ? t : 0) * b_ * n_; }
    const std::uint32_t* spikes(Index t) const { return tape_.spikes.data() + t * words_; }
    Recurrence& recurrence() { return recurrence_; }
    Index steps() const { return T_; }
    Index sequences() const { return b_; }

private:
    void start(const Network& network);
    void pack(const NeuronModel& model, Index t);
    void loop_forward(const Network& network, Index first, Index steps);
    bool whole_forward(const Network& network, Index first, Index steps);
    void loop_backward(const Network& network, const BackwardOptions& options, Index first, Index steps, SumBuffer& gradient);
    bool whole_backward(const Network& network, const BackwardOptions& options, Index first, Index steps, SumBuffer& gradient);
    void add_extra(const BackwardOptions& options, Index t);
    void read_out(const Network& network);
    void unpack_chunk(Index first, Index steps, Index p);
    const float* local_spikes(Index first, Index steps);
    void readout_backward(const Network& network, const float* dy, SumBuffer& gradient);
    void inputs_backward(const Network& network, const float* x, Index first, Index steps, SumBuffer& gradient);
    void recurrence_backward(const Network& network, Index first, Index steps, SumBuffer& gradient);
    float* membrane_(Index t) { return tape_.membrane.data() + t * b_ * n_; }
    float* current_(Index t) { return tape_.current.data() + (keep_current_ ? t : 0) * b_ * n_; }
    std::uint32_t* spikes_(Index t) { return tape_.spikes.data() + t * words_; }

    Backend& backend_;
    const ProcessGrid& grid_;
    NetworkShape shape_;
    Index T_, b_, n_;
    bool keep_current_;
    bool whole_passes_ = true;
    Index chunk_;                      // steps whose adjoints, inputs and spikes are handled in one product
    Recurrence recurrence_;
    Index words_;                      // words of one step's gathered spikes
    Tape tape_;
    Buffer<float> input_;              // [chunk, b, n] input currents; reused for what the readout sends back
    Buffer<float> step_;               // [b, n] recurrent currents; reused for what the recurrence sends back
    Buffer<std::uint32_t> bits_;       // [b, words of n]
    Buffer<float> chunk_spikes_;       // [chunk, b, largest n_p]
    SumBuffer readout_sums_;           // [T, b, O]
    Buffer<float> dz_;                 // [T, b, O]
    Buffer<float> di_, du_;            // [b, n]
    Buffer<float> adjoint_;            // g [chunk, b, n]
    Buffer<double> squares_;           // [T+1, b], over this rank's neurons, or over all after an adjoint cap
    bool squares_complete_ = false;
    mutable Buffer<double> count_;     // [1] of spikes
};

}  // namespace spikefloss
