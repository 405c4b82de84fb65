// Random permutations that are computed element by element, so that ranks need neither store nor exchange an order.
#pragma once

#include "tasks/task.hpp"

namespace spikefloss {

// Element `position` of permutation number `epoch` of 0 .. size-1. Different purposes and seeds have different ones.
// 1 <= size <= 2^32, 0 <= position < size.
Index permuted(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, Index size, Index position);

}  // namespace spikefloss
