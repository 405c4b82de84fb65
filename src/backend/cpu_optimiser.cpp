// Optimiser updates of the CPU backend.
#include "backend/cpu_backend.hpp"
#include "core/flush_denormals.hpp"

namespace spikefloss {

namespace {

// Elements begin to end - 1 of the arrays.
template <class Rule>
void update_row(const Rule& rule, float gradient_scale, const UpdateView& view, Index begin, Index end) {
    const auto all = [&](Constraint constant) {
#pragma omp simd
        for (Index i = begin; i < end; ++i) update_element(rule, constant, gradient_scale, view, i);
    };
    // One loop for each constraint, so that all but that of fractions are vectorised.
    switch (view.constraint) {
        case Constraint::none: return all(Constraint::none);
        case Constraint::fraction: return all(Constraint::fraction);
        case Constraint::non_negative: return all(Constraint::non_negative);
        case Constraint::non_positive: return all(Constraint::non_positive);
    }
}

}  // namespace

void CpuBackend::update(const UpdateRule& rule, float gradient_scale, std::span<const UpdateView> views) {
    // Adam's second moment is a square, and its eps may be as small as the gradients: without denormal numbers a
    // gradient below 3e-18 would be divided by eps alone.
    const KeepDenormals keep;
    std::visit(
        [&](const auto& chosen) {
            for (const UpdateView& view : views) {
                const bool one = view.stride == view.cols;
                const Index rows = one ? 1 : view.rows, cols = one ? view.rows * view.cols : view.cols;
                for (Index r = 0; r < rows; ++r)
                    update_row(chosen, gradient_scale, view, r * view.stride, r * view.stride + cols);
            }
        },
        rule);
}

}  // namespace spikefloss
