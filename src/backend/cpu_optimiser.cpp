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
            // One loop for each constraint, so that all but that of fractions are vectorised.
            switch (constraint) {
                case Constraint::none: return all(Constraint::none);
                case Constraint::fraction: return all(Constraint::fraction);
                case Constraint::non_negative: return all(Constraint::non_negative);
                case Constraint::non_positive: return all(Constraint::non_positive);
            }
        },
        rule);
}

}  // namespace spikefloss
