// Constants of the whole tangent pass, forwards and backwards.
#pragma once

#include "core/view.hpp"

namespace spikefloss {

// One block per sequence: 16 warps, one for every two tiles of the authors' Gram matrix.
inline constexpr int tangent_block_threads = 512;
// Above this W does not fit the shared memory of any block. Below it, indices of W fit an int.
inline constexpr Index most_block_neurons = 1024;

}  // namespace spikefloss
