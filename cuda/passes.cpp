// The whole passes of the CUDA backend: which there are, and what they take.
#include "passes.hpp"
#include "tangent_steps.hpp"
#include "team_plan.hpp"

namespace spikefloss {
namespace {

template <class Pass>
using StateCandidate = Candidate<Pass, StatePlan, CudaBackend>;

constexpr const char* different_neurons = "neurons adapt or have thresholds of their own";

constexpr std::string_view team_limits =
    "where blocks that hold W_rec take less time than a product for each step, with "
    "float32 sums";

constexpr std::string_view product_limits = "with float32 sums";
constexpr std::string_view digit_limits =
    "where integer products take less time than float products, with float32 sums";

bool takes_products(CudaBackend& backend, const StatePlan& plan) {
    return backend.sums() == Sums::float32 && plan.b > 0 && plan.N > 0;
}
bool takes_digits_backward(CudaBackend& backend, const StatePlan& plan) {
    return takes_products(backend, plan) &&
           (backend.leaves_out("loop") || digits_backward_time(plan.N, plan.b) < float_backward_time(plan.N, plan.b));
}
template <StepTime (*time)(CudaBackend&, const StatePlan&)>
bool has_time(CudaBackend& backend, const StatePlan& plan) {
    return time(backend, plan).has_value();
}
template <StepTime (*time)(CudaBackend&, const StatePlan&)>
double value_of(CudaBackend& backend, const StatePlan& plan) {
    return time(backend, plan).value();
}
template <double (*time)(Index, Index)>
double of_sizes(CudaBackend&, const StatePlan& plan) {
    return time(plan.N, plan.b);
}

constexpr StateCandidate<StateForward> state_forward[] = {
    {"team", team_limits, has_time<team_forward_time>, team_forward, value_of<team_forward_time>},
    {"digits", product_limits, takes_products, digits_forward, of_sizes<digits_forward_time>},
    {"products", product_limits, takes_products, products_forward, of_sizes<bf16_forward_time>}};
constexpr StateCandidate<StateBackward> state_backward[] = {
    {"tiles", team_limits, has_time<team_backward_time<4>>, team_backward<4>, value_of<team_backward_time<4>>},
    {"team", team_limits, has_time<team_backward_time<1>>, team_backward<1>, value_of<team_backward_time<1>>},
    {"digits", digit_limits, takes_digits_backward, digits_backward, of_sizes<digits_backward_time>}};

constexpr Candidate<TangentForward, TangentPlan, CudaBackend> tangent_forward[] = {
    {"whole recurrence", block_limits, tangents_fit_block, make_pass<TangentForward, BlockTangentForward>}};
constexpr Candidate<TangentBackward, TangentPlan, CudaBackend> tangent_backward[] = {
    {"whole recurrence", block_limits, tangent_adjoints_fit_block, make_pass<TangentBackward, BlockTangentBackward>}};

}  // namespace

void run_backward(CudaBackend& backend, const StatePlan& plan, const StateBackwardCall& call, float* adjoint,
                  const std::function<void()>& take_steps, const std::function<void()>& recurrent_done) {
    readout_backward(backend, plan, call, spikes_from(plan, call.bits, 1), adjoint);
    if (!backend.counting()) take_steps();
    backend.add_outer({adjoint, call.steps * plan.b, plan.N}, spikes_from(plan, call.bits, 0), call.d_w_rec);
    if (recurrent_done) recurrent_done();
    inputs_backward(backend, plan, call, adjoint);
}

StatePasses CudaBackend::state_passes(const StatePlan& plan, Memory& memory) {
    if (plan.adapted) return {{.why = different_neurons}, {.why = different_neurons}};
    return {choose(state_forward, *this, plan, memory, without_),
            choose_backward(state_backward, *this, plan, memory, without_)};
}

TangentPasses CudaBackend::tangent_passes(const TangentPlan& plan, Memory& memory) {
    return {choose(tangent_forward, *this, plan, memory), choose(tangent_backward, *this, plan, memory)};
}

}  // namespace spikefloss
