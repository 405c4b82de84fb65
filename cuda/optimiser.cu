// Optimiser updates of the CUDA backend.
#include "cuda_backend.hpp"

#include "kernel.cuh"
#include "pieces.cuh"

namespace spikefloss {
namespace {

// Each thread of a block updates four elements of a piece.
constexpr int block = 256, piece = 4 * block;

template <class Rule>
__global__ void update_kernel(Rule rule, float gradient_scale, const __grid_constant__ Pieces<UpdateView> all) {
    for (int at = static_cast<int>(blockIdx.x); at < all.pieces(); at += static_cast<int>(gridDim.x)) {
        const auto part = all.at(at, piece);
        for (Index e = part.begin + threadIdx.x; e < part.end; e += blockDim.x)
            update_element(rule, part.array.constraint, gradient_scale, part.array, part.place(e));
    }
}

}  // namespace

void CudaBackend::update(const UpdateRule& rule, float gradient_scale, std::span<const UpdateView> views) {
    std::visit(
        [&](const auto& chosen) {
            each_launch(views, piece, [&](const Pieces<UpdateView>& some) {
                launch({grid_for(some.pieces(), 1), block, stream_}, update_kernel<std::decay_t<decltype(chosen)>>,
                       chosen, gradient_scale, some);
            });
        },
        rule);
}

}  // namespace spikefloss
