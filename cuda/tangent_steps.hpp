// The whole tangent passes: one block per sequence, with W_rec and the basis in shared memory.
#pragma once

#include "cuda_backend.hpp"

#include "backend/buffer.hpp"
#include "backend/tangent_passes.hpp"

namespace spikefloss {

// 16 warps, one for every two tiles of the authors' Gram matrix.
inline constexpr int tangent_block_threads = 512;

// Whether the shared memory of a block suffices, with float32 sums.
bool tangents_fit_block(CudaBackend& backend, const TangentPlan& plan);
bool tangent_adjoints_fit_block(CudaBackend& backend, const TangentPlan& plan);
inline constexpr std::string_view block_limits =
    "up to 64 exponents, where W_rec and the basis fit the shared memory of a block, with float32 sums";

class BlockTangentForward final : public TangentForward {
public:
    BlockTangentForward(CudaBackend& backend, const TangentPlan& plan, Memory& memory);
    void run(const TangentForwardCall& call) override;

private:
    CudaBackend& backend_;
    BasisShape shape_;
};

class BlockTangentBackward final : public TangentBackward {
public:
    BlockTangentBackward(CudaBackend& backend, const TangentPlan& plan, Memory& memory);
    void run(const TangentBackwardCall& call) override;

private:
    CudaBackend& backend_;
    BasisShape shape_;
    Index chunk_;             // steps of a launch
    Buffer<float> g_, back_;  // [chunk, b, k, N]
};

}  // namespace spikefloss
