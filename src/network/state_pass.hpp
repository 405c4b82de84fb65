// The state of the network through time: forwards (forward.cpp) and its adjoint backwards (backward.cpp), as loops over
// time of the backend's step operations. This is the readable reference, and the only path for sharded neurons.
//
// Time is divided into segments. The states of one segment are held. Of the others only the first state is kept; from
// it the backward pass runs them again. The full tape is a single segment. The spikes of all steps are always kept:
// they are bits, and with them ranks need not communicate again.
//
// Shapes: T steps, b sequences and n neurons of this rank, N neurons in all, M inputs, O readouts.
#pragma once

#include "core/error.hpp"
#include "network/parameters.hpp"
#include "network/pass_choice.hpp"
#include "network/recurrence.hpp"
#include "network/spike_tape.hpp"

#include <array>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <tuple>

namespace spikefloss {

// The results of a forward pass, for the backward pass and for measurements. S steps are held: T in the full tape,
// those of one segment otherwise.
struct Tape {
    Buffer<float> membrane;  // u [S+1, b, n]
    Buffer<float> current;   // i [S+1, b, n] if kept, else only the latest [b, n]
    SpikeTape spikes;        // s, t = 0..T, of all neurons
    Buffer<float> readout;   // y [T, b, O]
};

struct BackwardOptions {
    const float* dy = nullptr;     // dL/dy [T, b, O]; null: no task loss
    const float* extra = nullptr;  // e [T+1, b, n], added to dL/du[t]; null: none
    float adjoint_limit = 0.0f;    // a sequence's adjoint (di, du) is scaled down to this norm; 0: off
    bool time_constants = false;   // also alpha and beta; the forward pass must have kept the currents
    bool state_norms = false;      // record state_gradient_norm
    // Called, while the pass still runs, as soon as this rank's contribution to the gradients of these parameters is
    // complete. From then until the pass returns no rank makes a collective call on the grid's communicators. Optional.
    std::function<void(std::initializer_list<Parameter>)> complete = nullptr;
};

class StatePass {
public:
    // keep_current: also hold the currents of every step whose membranes are held.
    StatePass(Backend& backend, const ProcessGrid& grid, NetworkShape shape, Index T, Index b, bool keep_current,
              TapeKind kind = TapeKind::full);

    // Runs the network on x [T, b, M] from its initial state; fills the tape.
    void forward(const Network& network, const float* x);
    // Adds the gradients of this rank's sequences to `gradient`, which has the layout of the parameters; bias_out and
    // kappa are whole on every neuron shard. The caller then sums over `batch`. network and x are those of the forward
    // pass before it.
    void backward(const Network& network, const float* x, const BackwardOptions& options, SumBuffer& gradient);

    // Frobenius norm of dL/d(i[t], u[t]) over all sequences of all ranks, [T+1], after a backward pass that recorded
    // it. Collective.
    std::vector<double> state_gradient_norm() const;
    // Whether all membranes of this rank, t = 0..T, are finite.
    bool finite() const;

    // Whether the backend may take whole chunks of steps in one operation (it may by default); tests compare both ways.
    void use_whole_passes(bool use) { whole_passes_ = use; }

    // How the passes are run.
    PassChoice forward_choice() const;
    PassChoice backward_choice(bool time_constants) const;

    const Tape& tape() const { return tape_; }
    // Arrays of the steps held: 0..T in the full tape, else those of the last segment after a forward pass.
    const float* membrane(Index t) const { return tape_.membrane.data() + row(t) * b_ * n_; }
    const float* current(Index t) const { return tape_.current.data() + (keep_current_ ? row(t) : 0) * b_ * n_; }
    Index steps() const { return T_; }
    Index sequences() const { return b_; }
    Index segment_steps() const { return segment_; }
    // Bytes of all arrays that grow with T, except inputs and targets, which the caller holds.
    std::size_t bytes() const;

private:
    enum class Run { first, again };  // again: spikes and readout are known, only states are needed

    Index first_of(Index k) const { return k * segment_; }
    Index end_of(Index k) const { return k + 1 < segments_ ? (k + 1) * segment_ : T_; }
    void save_start(Index k);
    void load_start(Index k);
    void hold(const Network& network, const float* x, Index k);
    void start(const Network& network);
    void forward_segment(const Network& network, const float* x, Run run);
    void loop_forward(const Network& network, Index first, Index steps, Run run);
    void record(int kind, Index first, std::array<const void*, 3> arrays, const std::function<void()>& loop);
    void whole_forward(const Network& network, Index first, Index steps);
    void network_forward(const Network& network, const float* x, Index first, Index steps, Run run);
    void backward_segment(const Network& network, const float* x, const BackwardOptions& options, SumBuffer& gradient);
    void loop_backward(const Network& network, const BackwardOptions& options, Index first, Index steps,
                       SumBuffer& gradient);
    StepsBackward whole_pass(const Network& network, const BackwardOptions& options, Index first, Index steps,
                             SumBuffer& gradient);
    void whole_backward(const Network& network, const BackwardOptions& options, Index first, Index steps,
                        SumBuffer& gradient);
    void network_backward(const Network& network, const float* x, const BackwardOptions& options, Index first,
                          Index steps, SumBuffer& gradient);
    void add_extra(const BackwardOptions& options, Index t);
    void sum_readout(const Network& network, Index first, Index steps);
    void finish_readout(const Network& network);
    Activity readout_input(const Network& network, Index first) const;
    void filter_backward(const Network& network, const float* dy, SumBuffer& gradient);
    void readout_backward(const Network& network, Index first, Index steps, SumBuffer& gradient);
    void inputs_backward(const Network& network, const float* x, Index first, Index steps, SumBuffer& gradient);
    void recurrence_backward(const Network& network, Index first, Index steps, SumBuffer& gradient);
    // Where step t is in the tape of the segment held.
    Index row(Index t) const {
        SPIKEFLOSS_ASSERT(t >= first_of(held_) && t <= end_of(held_));
        return t - first_of(held_);
    }
    float* membrane_at(Index t) { return tape_.membrane.data() + row(t) * b_ * n_; }
    float* current_at(Index t) { return tape_.current.data() + (keep_current_ ? row(t) : 0) * b_ * n_; }

    Backend& backend_;
    const ProcessGrid& grid_;
    NetworkShape shape_;
    Index T_, b_, n_;
    bool keep_current_;
    bool whole_passes_ = true;
    Index chunk_;    // steps whose adjoints, inputs and spikes are handled in one product
    Index segment_;  // steps of a segment, a multiple of chunk_; the last one may be shorter
    Index segments_;
    Index held_ = 0;  // the segment whose states are in the tape
    Recurrence recurrence_;
    Tape tape_;
    Buffer<float> starts_;    // [segments][i, u][b, n], if there are several
    Buffer<float> end_;       // u[T] [b, n], if there are several segments
    Buffer<float> input_;     // [chunk, b, n] input currents; reused for gradients from the readout
    Buffer<float> step_;      // [b, n] recurrent currents; reused for gradients from the recurrence
    SumBuffer readout_sums_;  // [T, b, O]
    Buffer<float> dz_;        // [T, b, O]
    Buffer<float> di_, du_;   // [b, n]
    Buffer<float> adjoint_;   // g [chunk, b, n]
    Buffer<float> limit_;     // [1] of the adjoint cap
    Buffer<double> squares_;  // [T+1, b], over this rank's neurons, or over all after an adjoint cap
    bool squares_complete_ = false;
    mutable Buffer<double> sum_;  // [1] of squares
    // Recorded loops over the steps of a chunk, by kind, first step and arrays of the caller.
    std::map<std::tuple<int, Index, std::array<const void*, 3>>, std::unique_ptr<Recording>> recordings_;
};

}  // namespace spikefloss
