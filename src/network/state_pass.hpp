// The state of the network through time: forwards and its adjoint backwards. StatePass divides time into chunks, which
// whole passes of the backend take (backend/state_passes.hpp), or StateLoop. It adds the readout's filter and sums.
//
//   y[t] = kappa y[t-1] + (1-kappa) (W_out z[t+1] + b_out),   z = u or s
//
// Chunks lie in segments. The states of one segment are held. Of the others only the first state is kept; from it the
// backward pass runs them again. The full tape is a single segment. The spikes of all steps are always kept: they are
// bits, and with them ranks need not communicate again.
//
// Shapes: T steps, b sequences and n neurons of this rank, N neurons in all, M inputs, O readouts.
#pragma once

#include "core/error.hpp"
#include "network/parameters.hpp"
#include "network/state_loop.hpp"

#include <functional>
#include <initializer_list>
#include <optional>

namespace spikefloss {

struct StateOptions {
    bool keep_current = false;  // hold the currents of every step whose membranes are held
    // The backward pass also gives the gradients of the constants of neurons (alpha, beta, and those that not every
    // network has). It keeps the currents.
    bool time_constants = false;
    TapeKind tape = TapeKind::full;
    bool spike_adjoint = false;  // the backward pass takes one
    bool input_adjoint = false;  // the backward pass gives one
    bool whole_passes = true;    // false: always the loop over steps
    bool readout = true;         // false: there is none, and no dL/dy
};

// The results of a forward pass, for the backward pass and for measurements. S steps are held: T in the full tape,
// those of one segment otherwise.
struct Tape {
    Buffer<float> membrane;    // u [S+1, b, n]
    Buffer<float> current;     // i [S+1, b, n] if kept, else only the latest [b, n]
    Buffer<float> adaptation;  // w [S+1, b, n] if neurons adapt
    SpikeTape spikes;          // s, t = 0..T, of all neurons
    Buffer<float> readout;     // y [T, b, O]
};

// Inputs x of consecutive steps: numbers [T, b, M], or bits [T, b, spike_words(M)] if all are 0 or 1.
struct InputView {
    const float* values = nullptr;
    const std::uint32_t* bits = nullptr;
    InputView(const float* x) : values(x) {}  // NOLINT(google-explicit-constructor): most inputs are numbers
    explicit InputView(const std::uint32_t* x) : bits(x) {}
};

struct BackwardOptions {
    const float* dy = nullptr;     // dL/dy [T, b, O]; null: no task loss
    const float* extra = nullptr;  // e [T+1, b, n], added to dL/du[t]; null: none
    // dL/ds[t] [n], the same for t = 1..T and all sequences, times psi(u[t] - theta) added to dL/du[t]; null: none.
    // Needs StateOptions::spike_adjoint, and no extra.
    const float* spike_adjoint = nullptr;
    float adjoint_limit = 0.0f;  // a sequence's adjoint (di, du) is scaled down to this norm; 0: off
    bool state_norms = false;    // record state_gradient_norm
    // Set to g [T, b, n], the adjoint of W_in x + ..., from which dL/dx follows. Needs StateOptions::input_adjoint.
    float* input_adjoint = nullptr;
    // Called, while the pass still runs, as soon as this rank's contribution to the gradients of these parameters is
    // complete. From then until the pass returns no rank makes a collective call on the grid's communicators. Optional.
    std::function<void(std::initializer_list<Parameter>)> complete = nullptr;
};

class StatePass {
public:
    // For passes of `network`, which must live as long as this object.
    StatePass(Backend& backend, const ProcessGrid& grid, const Network& network, Index T, Index b,
              StateOptions options = {});

    // Whether x can be bits.
    bool takes_bits() const { return !packed_.empty(); }
    // Runs the network on x from its initial state; fills the tape.
    void forward(const Network& network, InputView x);
    // Adds the gradients of this rank's sequences to `gradient`, which has the layout of the parameters; bias_out and
    // kappa are whole on every neuron shard. The caller then sums over `batch`. network and x are those of the forward
    // pass before it.
    void backward(const Network& network, InputView x, const BackwardOptions& options, SumBuffer& gradient);

    // e[t] = psi(u[t] - theta) dL/ds[t] + dL/du[t] of steps t = first + 1..first + steps, which are held: spikes and
    // membranes [steps, b, n] may be null. Adds to extra [steps+1, b, n], which begins at step `first`.
    void add_extra(const Network& network, Index first, Index steps, const float* spikes, const float* membranes,
                   float* extra) const;

    // Frobenius norm of dL/d(i[t], u[t]) over all sequences of all ranks, [T+1], after a backward pass that recorded
    // it. Collective.
    std::vector<double> state_gradient_norm() const;
    // Whether all membranes of this rank, t = 0..T, are finite.
    bool finite() const;

    // How the passes are run; a null object: the loop.
    const StatePasses& passes() const { return passes_; }

    const Tape& tape() const { return tape_; }
    // Arrays of the steps held: 0..T in the full tape, else those of the last segment after a forward pass.
    const float* membrane(Index t) const { return tape_.membrane.data() + row(t) * b_ * n_; }
    const float* current(Index t) const { return tape_.current.data() + row(t) * i_stride_; }
    // Null without adaptation.
    const float* adaptation(Index t) const { return adapts_ ? tape_.adaptation.data() + row(t) * b_ * n_ : nullptr; }
    Index steps() const { return T_; }
    Index sequences() const { return b_; }
    Index segment_steps() const { return segment_; }
    // Bytes of all arrays that grow with T, except inputs and targets, which the caller holds.
    std::size_t bytes() const;

private:
    StatePlan plan() const {
        return {chunk_, b_, n_, shape_.inputs, shape_.outputs, options_.time_constants, adapted_};
    }
    Index first_of(Index k) const { return k * segment_; }
    Index end_of(Index k) const { return k + 1 < segments_ ? (k + 1) * segment_ : T_; }
    void save_start(Index k);
    void load_start(Index k);
    void hold(const Network& network, InputView x, Index k);
    void forward_segment(const Network& network, InputView x, bool again);
    StateForwardCall forward_call(const Network& network, InputView x, Index first, Index steps, bool again);
    void pack_inputs(InputView x, Index first, Index steps);
    // The inputs of the chunk that begins at `first`: numbers, or null if they were given as bits; bits, or null.
    const float* input_values(InputView x, Index first) const {
        return x.values ? x.values + first * b_ * shape_.inputs : nullptr;
    }
    const std::uint32_t* input_bits(InputView x, Index first) const {
        const bool packed = !packed_.empty() && packed_[static_cast<std::size_t>(first / chunk_)];
        const std::uint32_t* const bits = x.bits ? x.bits : packed ? x_bits_.data() : nullptr;
        return bits ? bits + first * b_ * spike_words(shape_.inputs) : nullptr;
    }
    void finish_readout(const Network& network);
    void filter_backward(const Network& network, const float* dy, SumBuffer& gradient);
    void backward_segment(const Network& network, InputView x, const BackwardOptions& options, SumBuffer& gradient);
    StateAdjoint adjoint() { return {di_.data(), du_.data(), adapts_ ? dw_.data() : nullptr}; }
    ConstantSums constant_sums(const Network& network, SumBuffer& gradient) const;
    const float* extra_of(const Network& network, const BackwardOptions& options, Index first, Index steps);
    StateBackwardCall backward_call(const Network& network, InputView x, const BackwardOptions& options, Index first,
                                    Index steps, SumBuffer& gradient);
    // Where step t is in the tape of the segment held.
    Index row(Index t) const {
        SPIKEFLOSS_ASSERT(t >= first_of(held_) && t <= end_of(held_));
        return t - first_of(held_);
    }
    float* membrane_at(Index t) { return tape_.membrane.data() + row(t) * b_ * n_; }
    float* current_at(Index t) { return tape_.current.data() + row(t) * i_stride_; }
    float* adaptation_at(Index t) { return const_cast<float*>(adaptation(t)); }
    Index state_arrays() const { return adapts_ ? 3 : 2; }
    Index readouts() const { return options_.readout ? T_ * b_ * shape_.outputs : 0; }

    Backend& backend_;
    const ProcessGrid& grid_;
    NetworkShape shape_;
    Index T_, b_, n_;
    bool adapts_, adapted_;  // whether neurons adapt; or that, or have thresholds of their own
    StateOptions options_;
    Index i_stride_;  // floats from one current to the next; 0: only the latest is held
    Index chunk_;     // steps of a call
    Index segment_;   // steps of a segment, a multiple of chunk_; the last one may be shorter
    Index segments_;
    Index held_ = 0;  // the segment whose states are in the tape
    StatePasses passes_;
    std::optional<StateLoop> loop_;  // unless there are passes for both directions
    Tape tape_;
    std::vector<char> packed_;      // of each chunk: whether its inputs are in x_bits_; empty: never
    Buffer<std::uint32_t> x_bits_;  // [T, b, spike_words(M)]
    Buffer<float> starts_;          // [segments][i, u, w][b, n], if there are several
    Buffer<float> end_;             // u[T] [b, n], if there are several segments
    SumBuffer readout_sums_;        // [T, b, O]
    Buffer<float> dz_;              // [T, b, O]
    Buffer<float> di_, du_, dw_;    // [b, n]; dw if neurons adapt
    Buffer<float> spread_;          // [chunk b, n] the spike adjoint, if there is one
    Buffer<float> extra_;           // [chunk + 1, b, n] its part of dL/du
    Buffer<float> limit_;           // [1] of the adjoint cap
    Buffer<double> squares_;        // [T+1, b], over this rank's neurons, or over all after an adjoint cap
    bool squares_complete_ = false;
    mutable Buffer<double> sum_;  // [1] of squares
};

}  // namespace spikefloss
