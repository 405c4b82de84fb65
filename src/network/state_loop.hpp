// The state through a chunk of steps as a loop over time of the backend's step operations, forwards and backwards: the
// readable reference of all whole passes, and the only form for sharded neurons. Where the backend has recordings, the
// loop is recorded and replayed. It is thousands of small operations.
//
//   i[t+1] = alpha i[t] + W_in x[t] + W_rec s[t] + b,   s[t] = H(u[t] - theta)
//   u[t+1] = next_membrane(u[t], i[t+1]) of neuron/lif.hpp,   y[t] = W_out z[t+1],   z = u or s
//
// Backwards for t = steps..1, with (di, du) the adjoints of i[t], u[t]:
//   du  += W_out' dz (times psi if the readout reads spikes) + e[t]
//   dv   = f du;  g = di + (1-beta) dv                    (f, q of the reset)
//   dW_in += g x[t-1]';  dW_rec += g s[t-1]';  db += g
//   du   = beta q dv + psi(u[t-1] - theta) (W_rec' g);  di = alpha g
#pragma once

#include "backend/recorded_calls.hpp"
#include "backend/state_passes.hpp"
#include "network/recurrence.hpp"
#include "network/spike_tape.hpp"

namespace spikefloss {

class StateLoop {
public:
    // plan.N: the neurons of this rank; N of all ranks.
    StateLoop(Backend& backend, const ProcessGrid& grid, const StatePlan& plan, Index N);

    // The calls are those of whole passes; step 0 of the call is step `first` of the tape of spikes.
    void forward(const StateForwardCall& call, SpikeTape& spikes, Index first);
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
    Recurrence recurrence_;
    Buffer<float> chunk_;     // [steps, b, n]: forwards W_in x; backwards the gradient from the readout, then g
    Buffer<float> step_;      // [b, n]: W_rec s, or W_rec' g
    Buffer<double> squares_;  // [b] of a step
    RecordedCalls<StateForwardCall> forward_calls_;
    RecordedCalls<StateBackwardCall> backward_calls_;
};

}  // namespace spikefloss
