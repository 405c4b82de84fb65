// The whole passes of the CUDA backend: which there are, and what they take.
#include "passes.hpp"
#include "tangent_steps.hpp"

namespace spikefloss {
namespace {

template <class Pass>
using StateCandidate = Candidate<Pass, StatePlan, CudaBackend>;

constexpr const char* different_neurons = "neurons adapt or have thresholds of their own";

constexpr std::string_view team_limits =
    "where blocks that hold W_rec take less time than a product for each step, with "
    "float32 sums";

constexpr std::string_view product_limits = "with float32 sums";

bool fits_products(CudaBackend& backend, const StatePlan& plan) {
    return backend.sums() == Sums::float32 && plan.b > 0 && plan.N > 0;
}

constexpr StateCandidate<StateForward> state_forward[] = {
    {"team", team_limits, fits_team_forward, team_forward},
    {"digits", product_limits, fits_products, digits_forward},
    {"products", product_limits, fits_products, products_forward}};
constexpr StateCandidate<StateBackward> state_backward[] = {
    {"tiles", team_limits, fits_team_backward<4>, team_backward<4>},
    {"team", team_limits, fits_team_backward<1>, team_backward<1>},
    {"digits", "where integer products take less time than float products, with float32 sums", fits_digits_backward,
     digits_backward}};

constexpr Candidate<TangentForward, TangentPlan, CudaBackend> tangent_forward[] = {
    {"whole recurrence", block_limits, tangents_fit_block, make_pass<TangentForward, BlockTangentForward>}};
constexpr Candidate<TangentBackward, TangentPlan, CudaBackend> tangent_backward[] = {
    {"whole recurrence", block_limits, tangent_adjoints_fit_block, make_pass<TangentBackward, BlockTangentBackward>}};

}  // namespace

StatePasses CudaBackend::state_passes(const StatePlan& plan, Memory& memory) {
    if (plan.adapted) return {{.why = different_neurons}, {.why = different_neurons}};
    return {choose(state_forward, *this, plan, memory, without_),
            choose_backward(state_backward, *this, plan, memory, without_)};
}

TangentPasses CudaBackend::tangent_passes(const TangentPlan& plan, Memory& memory) {
    return {choose(tangent_forward, *this, plan, memory), choose(tangent_backward, *this, plan, memory)};
}

}  // namespace spikefloss
