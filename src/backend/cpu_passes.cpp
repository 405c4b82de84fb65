// The whole passes of the CPU backend: which there are, and what they take.
#include "backend/cpu_passes.hpp"
#include "backend/cpu_tangent_pass.hpp"

namespace spikefloss {
namespace {

// Far above these limits one product for all rows, and one thread that sums dW of a block of neurons, should be faster:
// W' and dW' of the parts no longer fit the caches of a core. Measured only at N = 80 with one input and readout.
constexpr std::string_view network_limits = "up to 160 neurons, 8 inputs and 8 readouts, with float32 sums";
bool fits_network(CpuBackend& backend, const StatePlan& plan) {
    return backend.sums() == Sums::float32 && plan.N <= largest_fused_network && plan.M <= largest_side &&
           plan.O <= largest_side;
}

// W and its panels are in memory at the same time: 8 GiB for the largest.
constexpr std::string_view row_limits = "up to 32768 neurons, with float32 sums";
bool fits_rows(CpuBackend& backend, const StatePlan& plan) {
    return backend.sums() == Sums::float32 && plan.N <= 32768;
}

template <class Pass>
using StateCandidate = Candidate<Pass, StatePlan, CpuBackend>;

constexpr StateCandidate<StateForward> state_forward[] = {{"network", network_limits, fits_network, network_forward},
                                                          {"rows", row_limits, fits_rows, row_forward}};
constexpr StateCandidate<StateBackward> state_backward[] = {{"network", network_limits, fits_network, network_backward},
                                                            {"rows", row_limits, fits_rows, row_backward}};

constexpr StateCandidate<StateForward> adapted_forward[] = {{"rows", row_limits, fits_rows, row_forward}};
constexpr StateCandidate<StateBackward> adapted_backward[] = {{"rows", row_limits, fits_rows, row_backward}};

// Each sequence reads W in every step. The loop has one product for the vectors of all sequences. It is better if W is
// large, and before that if a sequence has few vectors.
bool fits_cache(CpuBackend& backend, const TangentPlan& plan) {
    return backend.sums() == Sums::float32 && plan.basis.n <= (plan.basis.k < 16 ? 256 : 512);
}
constexpr std::string_view cache_limits = "up to 256 neurons, or 512 with 16 exponents or more, with float32 sums";

constexpr Candidate<TangentForward, TangentPlan, CpuBackend> tangent_forward[] = {
    {"whole recurrence", cache_limits, fits_cache, make_pass<TangentForward, CpuTangentForward>}};
constexpr Candidate<TangentBackward, TangentPlan, CpuBackend> tangent_backward[] = {
    {"whole recurrence", cache_limits, fits_cache, make_pass<TangentBackward, CpuTangentBackward>}};

}  // namespace

StatePasses CpuBackend::state_passes(const StatePlan& plan, Memory& memory) {
    if (plan.adapted)
        return {choose(adapted_forward, *this, plan, memory), choose_backward(adapted_backward, *this, plan, memory)};
    return {choose(state_forward, *this, plan, memory), choose_backward(state_backward, *this, plan, memory)};
}

TangentPasses CpuBackend::tangent_passes(const TangentPlan& plan, Memory& memory) {
    return {choose(tangent_forward, *this, plan, memory), choose(tangent_backward, *this, plan, memory)};
}

}  // namespace spikefloss
