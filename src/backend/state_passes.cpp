#include "backend/state_passes.hpp"

namespace spikefloss {
namespace {

// The readout's input z of steps 1..steps, from u [steps+1, b, N].
Activity readout_input(const StatePlan& plan, Readout readout, const float* u, const Activity& spikes) {
    if (readout == Readout::spikes) return spikes;
    return {.values = u + plan.b * plan.N, .stride = plan.N};
}

}  // namespace

void project_inputs(Backend& backend, const StatePlan& plan, const StateForwardCall& call, float* chunk) {
    backend.project({plan.N, plan.M, call.w_in, plan.M}, inputs_of(plan.M, call.x, call.x_bits),
                    Matrix<float>(chunk, call.steps * plan.b, plan.N), false);
}

void project_readout(Backend& backend, const StatePlan& plan, const StateForwardCall& call, const Activity& spikes) {
    if (call.again || !call.y.data) return;
    backend.project({plan.O, plan.N, call.w_out, plan.N}, readout_input(plan, call.readout, call.u, spikes), call.y,
                    false);
}

void readout_backward(Backend& backend, const StatePlan& plan, const StateBackwardCall& call, const Activity& spikes,
                      float* chunk) {
    if (!call.dz) return;
    const Matrix<const float> dz(call.dz, call.steps * plan.b, plan.O);
    backend.add_outer(dz, readout_input(plan, call.readout, call.u, spikes), call.d_w_out);
    backend.project_transposed({plan.O, plan.N, call.w_out, plan.N}, dz, Matrix<float>(chunk, dz.rows, plan.N), false);
}

void inputs_backward(Backend& backend, const StatePlan& plan, const StateBackwardCall& call, const float* chunk) {
    const Matrix<const float> g(chunk, call.steps * plan.b, plan.N);
    backend.add_outer(g, inputs_of(plan.M, call.x, call.x_bits), call.d_w_in);
    backend.add_column_sums(g, call.d_bias);
}

}  // namespace spikefloss
