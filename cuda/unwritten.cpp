// Operations of the CUDA backend that are still to come. Whoever writes one removes it here.
#include "cuda_backend.hpp"

namespace spikefloss {

// ---- tangent_steps.cu ----
bool CudaBackend::tangent_steps(const NeuronModel&, const NeuronVectors&, Index, Index, Index, const float*,
                                const TangentSteps&) {
    return false;
}
bool CudaBackend::tangent_steps_backward(const NeuronModel&, const NeuronVectors&, Index, Index, Index, const float*,
                                         const TangentStepsBackward&) {
    return false;
}

}  // namespace spikefloss
