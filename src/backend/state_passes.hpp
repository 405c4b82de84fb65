// Whole passes of the state: many steps in one call, when one rank holds all neurons. A backend makes them as objects
// that own their scratch and their graphs (Backend::state_passes). StateLoop of src/network takes the same calls on any
// grid; it is the reference.
#pragma once

#include "backend/backend.hpp"
#include "backend/pass_table.hpp"

#include <functional>

namespace spikefloss {

// Sizes that do not change between calls.
struct StatePlan {
    Index steps, b, N, M, O;  // the most steps of a call; sequences, neurons of this rank, inputs, readouts
    bool time_constants =
        false;             // backward passes also give the gradients of the constants of neurons (alpha, beta ...)
    bool adapted = false;  // neurons adapt or have thresholds of their own
};

// Steps t = 0..steps-1 of a chunk, with input = W_in x and y = W_out z. Arrays begin at the chunk's first step.
struct StateForwardCall {
    Index steps;
    NeuronModel model;
    NeuronVectors neurons;
    Readout readout;
    const float *w_in, *w_rec, *w_out;      // [N, M]; this rank's rows [N, all neurons]; [O, N]
    const float* x;                         // [steps, b, M], or null if there are bits
    const std::uint32_t* x_bits = nullptr;  // the same as bits, or null: see Backend::packs_inputs
    float* i;                               // [steps+1, b, N], the steps i_stride apart, i[0] is given; 0: in place
    Index i_stride;
    float* u;             // [steps+1, b, N], u[0] is given
    float* w = nullptr;   // likewise, with adaptation
    std::uint32_t* bits;  // the spikes of all neurons at steps 0..steps as in network/spike_tape.hpp, bits[0] is given
    SumMatrix y;          // [steps b, O], written; without data: there is no readout
    bool again;           // bits and y are known: y is not written
    bool operator==(const StateForwardCall&) const = default;
};

// The adjoint, steps t = steps..1: turns (di, du) of the last step, before the readout's part is added, into those of
// the first.
struct StateBackwardCall {
    Index steps;
    NeuronModel model;
    NeuronVectors neurons;
    Readout readout;
    const float *w_rec, *w_out;
    const float *x, *u;  // as in the forward call
    const std::uint32_t* x_bits = nullptr;
    const std::uint32_t* bits;
    const float* dz;                             // [steps, b, O]; null: no readout part
    const float* extra;                          // e [steps+1, b, N], added to du[t], t >= 1; null: none
    double* squares;                             // [steps+1, b], |(di, du)|^2 after these additions, t >= 1; null: none
    const float* adjoint_limit;                  // [1], of a sequence's (di, du); null: off
    float *di, *du;                              // [b, N]
    SumMatrix d_w_in, d_w_rec, d_w_out, d_bias;  // += sum of g x', g s', dz z' and g
    const float* i;                              // [steps+1, b, N], with StatePlan::time_constants
    ConstantSums constants{};                    // +=
    // [steps+1, b, N] and [b, N] with adaptation:
    const float* w = nullptr;
    float* dw = nullptr;
    float* g = nullptr;  // [steps, b, N], set to the adjoint of the current's input; the loop alone gives it
    bool operator==(const StateBackwardCall&) const = default;
};

class StateForward {
public:
    virtual ~StateForward() = default;
    virtual void run(const StateForwardCall& call) = 0;
};

class StateBackward {
public:
    virtual ~StateBackward() = default;
    // A pass may call `recurrent_done` (if not null) when d_w_rec and d_w_out are queued and others are not.
    virtual void run(const StateBackwardCall& call, const std::function<void()>& recurrent_done) = 0;
};

struct StatePasses {
    Chosen<StateForward> forward;
    Chosen<StateBackward> backward;
};

// No whole pass gives the gradients of constants.
template <class Of, std::size_t count>
Chosen<StateBackward> choose_backward(const Candidate<StateBackward, StatePlan, Of> (&candidates)[count], Of& backend,
                                      const StatePlan& plan, Memory& memory,
                                      const std::vector<std::string>& without = {}) {
    if (plan.time_constants) return {.why = "constants of the neurons are trained"};
    return choose(candidates, backend, plan, memory, without);
}

// The spikes of `step` and the steps after it, for passes of one rank that holds all neurons.
inline Activity spikes_from(const StatePlan& plan, const std::uint32_t* bits, Index step) {
    const Index words = spike_words(plan.N);
    return {.bits = bits + step * plan.b * words, .stride = words};
}

// x [rows, M] of a call.
inline Activity inputs_of(Index M, const float* x, const std::uint32_t* bits) {
    if (bits) return {.bits = bits, .stride = spike_words(M)};
    return {.values = x, .stride = M, .sparse = true};
}

// ---- the products of a call that do not depend on the order of its steps, for passes that do not fuse them ----------
// `spikes`: this rank's of steps 1..steps. chunk: [steps, b, N].

// chunk = W_in x.
void project_inputs(Backend& backend, const StatePlan& plan, const StateForwardCall& call, float* chunk);
// y = W_out z, unless it is known.
void project_readout(Backend& backend, const StatePlan& plan, const StateForwardCall& call, const Activity& spikes);
// d_w_out += dz z'; chunk = dz W_out. Only if the call has dz.
void readout_backward(Backend& backend, const StatePlan& plan, const StateBackwardCall& call, const Activity& spikes,
                      float* chunk);
// From chunk = g: d_w_in += g x'; d_bias += g.
void inputs_backward(Backend& backend, const StatePlan& plan, const StateBackwardCall& call, const float* chunk);

}  // namespace spikefloss
