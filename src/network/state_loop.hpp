// The state through a chunk of steps as a loop over time of the backend's step operations, forwards and backwards: the
// readable reference of all whole passes, and the only form for sharded neurons. Where the backend has recordings, the
// loop is recorded and replayed. It is thousands of small operations.
//
//   i[t+1] = alpha i[t] + sum over projections of W x[t+1-d] or W s[t+1-d] + b,   s[t] = m[t] H(u[t] - A[t])
//   (w[t+1], u[t+1]) from (i[t+1], u[t], w[t], s[t]) by neuron/lif.hpp,   y[t] = W_out z[t+1],   z = u or s
//
// Backwards for t = steps..1, with (di, du) the adjoints of i[t], u[t]:
//   du  += W_out' dz (times psi if the readout reads spikes) + e[t]
//   dv   = f du;  g = di + (1-beta) dv                    (f, q of the reset)
//   dW += g x[t-d]' or g s[t-d]';  db += g
//   di   = alpha g;  du = beta q dv, and in step t-1 psi(u[t-1] - theta) (sum over projections of W' g[t-1+d])
#pragma once

#include "backend/recorded_calls.hpp"
#include "backend/state_passes.hpp"
#include "network/recurrence.hpp"
#include "network/spike_tape.hpp"

namespace spikefloss {

class StateLoop {
public:
    // plan.N: the neurons of this rank; N of all ranks. The terms must be valid as long as the loop.
    StateLoop(Backend& backend, const ProcessGrid& grid, const StatePlan& plan, Index N, Terms terms,
              bool adaptation = false);

    // The calls are those of whole passes; step 0 of the call is step `first` of the tape of spikes, and of the inputs.
    void forward(const StateForwardCall& call, SpikeTape& spikes, Index first);
    // Goes back from the last step. Calls follow each other backwards in time, the first after begin_backward().
    void begin_backward() { later_.zero(); }
    void backward(const StateBackwardCall& call, const SpikeTape& spikes, Index first,
                  const std::function<void()>& recurrent_done);

private:
    void run_forward(const StateForwardCall& call, SpikeTape& spikes, Index first);
    void run_backward(const StateBackwardCall& call, const SpikeTape& spikes, Index first);
    void cap(const StateBackwardCall& call, Index t);
    // Whether a recording is possible. Sums in double are not recorded, because they need memory of their own.
    bool recordable() const {
        return backend_.sums() == Sums::float32 && (recurrence_.shards() == 1 || grid_.neurons().recorded());
    }

    Backend& backend_;
    const ProcessGrid& grid_;
    StatePlan plan_;
    Terms terms_;
    Index longest_;  // delay
    Recurrence recurrence_;
    // [steps + longest delay - 1, b, n]: forwards W_in x; backwards the gradient from the readout, then g, and behind
    // it the g of the steps after this call
    Buffer<float> chunk_;
    Buffer<float> later_;     // [longest delay - 1, b, n] g of the first steps of the call before
    Buffer<float> step_;      // [b, n]: W_rec s, or W_rec' g
    Buffer<float> own_;       // [b, n] the adjoint of the spikes through the adaptation, if neurons adapt
    Buffer<double> squares_;  // [b] of a step
    RecordedCalls<StateForwardCall> forward_calls_;
    RecordedCalls<StateBackwardCall> backward_calls_;
};

}  // namespace spikefloss
