// What the two directions of the whole tangent pass agree on.
#pragma once

#include "core/view.hpp"

namespace spikefloss {

// One block a sequence: 16 warps, one for every two tiles of the authors' Gram matrix.
inline constexpr int tangent_block_threads = 512;
// Beyond this many neurons W fits no block's shared memory, and indices of it no int.
inline constexpr Index most_block_neurons = 1024;

}  // namespace spikefloss
