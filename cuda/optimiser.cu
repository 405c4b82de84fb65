// Optimiser updates of the CUDA backend.
#include "cuda_backend.hpp"

#include "kernel.cuh"

namespace spikefloss {
namespace {

constexpr int block = 256;

template <class Rule>
__global__ void update_kernel(Rule rule, Constraint constraint, float gradient_scale, UpdateView view) {
    for (Index i = first_element(); i < view.count; i += element_stride())
        update_element(rule, constraint, gradient_scale, view, i);
}

}  // namespace

void CudaBackend::update(const UpdateRule& rule, Constraint constraint, float gradient_scale, const UpdateView& view) {
    std::visit(
        [&](const auto& chosen) {
            launch({grid_for(view.count, block), block, stream_}, update_kernel<std::decay_t<decltype(chosen)>>, chosen,
                   constraint, gradient_scale, view);
        },
        rule);
}

}  // namespace spikefloss
