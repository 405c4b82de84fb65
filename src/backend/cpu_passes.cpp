// The whole passes of the CPU backend: which there are, and what they take.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_tangent_pass.hpp"

namespace spikefloss {
namespace {

// W fits the second-level cache of a core. Above this, one product for the vectors of all sequences is better.
bool fits_cache(CpuBackend& backend, const TangentPlan& plan) {
    return backend.sums() == Sums::float32 && plan.basis.n <= 512;
}
constexpr std::string_view cache_limits = "up to 512 neurons, with float32 sums";

constexpr Candidate<TangentForward, TangentPlan, CpuBackend> tangent_forward[] = {
    {"whole recurrence", cache_limits, fits_cache, make_pass<TangentForward, CpuTangentForward>}};
constexpr Candidate<TangentBackward, TangentPlan, CpuBackend> tangent_backward[] = {
    {"whole recurrence", cache_limits, fits_cache, make_pass<TangentBackward, CpuTangentBackward>}};

}  // namespace

TangentPasses CpuBackend::tangent_passes(const TangentPlan& plan, Memory& memory) {
    return {choose<TangentForward, TangentPlan, CpuBackend>(tangent_forward, *this, plan, memory),
            choose<TangentBackward, TangentPlan, CpuBackend>(tangent_backward, *this, plan, memory)};
}

}  // namespace spikefloss
