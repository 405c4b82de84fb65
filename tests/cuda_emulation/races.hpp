// A detector of data races in emulated kernels. Kernels that are compiled with -fsanitize=thread call races.cpp before
// every load and store. Two accesses to the same 4 bytes by different CUDA threads, one of them a store, are a race
// unless a barrier of the block, a __syncwarp of their warp or a meeting of their team (a cluster, or blocks with a
// counter) is between them. The order in which the fibers ran does not matter. A plain load of what another block
// stored in the same launch is also a fault: it may read a stale line of the first-level cache, where __ldcg does not.
// So is an access to the shared memory of another block that no meeting separates from the end of that block.
#pragma once

namespace emulation {

struct Races {
    long long accesses = 0, races = 0, plain_loads = 0;
};

// Counted since the start, or the last call of forget_races. A process that ends with uncounted faults ends with 1.
Races races_found();
void forget_races();

}  // namespace emulation
