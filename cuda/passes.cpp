// The whole passes of the CUDA backend: which there are, and what they take.
#include "tangent_steps.hpp"

namespace spikefloss {
namespace {

constexpr Candidate<TangentForward, TangentPlan, CudaBackend> tangent_forward[] = {
    {"whole recurrence", block_limits, tangents_fit_block, make_pass<TangentForward, BlockTangentForward>}};
constexpr Candidate<TangentBackward, TangentPlan, CudaBackend> tangent_backward[] = {
    {"whole recurrence", block_limits, tangent_adjoints_fit_block, make_pass<TangentBackward, BlockTangentBackward>}};

}  // namespace

TangentPasses CudaBackend::tangent_passes(const TangentPlan& plan, Memory& memory) {
    return {choose<TangentForward, TangentPlan, CudaBackend>(tangent_forward, *this, plan, memory),
            choose<TangentBackward, TangentPlan, CudaBackend>(tangent_backward, *this, plan, memory)};
}

}  // namespace spikefloss
