// Optimiser updates of the CPU backend.
#include "backend/cpu_backend.hpp"

namespace spikefloss {

void CpuBackend::update(const UpdateRule& rule, Constraint constraint, float gradient_scale, const UpdateView& view) {
    std::visit(
        [&](const auto& chosen) {
            const auto all = [&](Constraint constant) {
#pragma omp simd
                for (Index i = 0; i < view.count; ++i) update_element(chosen, constant, gradient_scale, view, i);
            };
            // One loop for each constraint, so that the one without is vectorised.
            constraint == Constraint::none ? all(Constraint::none) : all(Constraint::fraction);
        },
        rule);
}

}  // namespace spikefloss
