// Optimiser updates of the CPU backend.
#include "backend/cpu_backend.hpp"
#include "core/flush_denormals.hpp"

namespace spikefloss {

void CpuBackend::update(const UpdateRule& rule, Constraint constraint, float gradient_scale, const UpdateView& view) {
    // Adam's second moment is a square, and its eps may be as small as the gradients: without denormal numbers a
    // gradient below 3e-18 would be divided by eps alone.
    const KeepDenormals keep;
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
