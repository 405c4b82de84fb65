// The device operations of cuda/kernel.cuh that C++ does not have, in the emulation.
#pragma once

#include <cuda_runtime.h>

namespace spikefloss {

template <class T>
T* dynamic_shared() {
    return static_cast<T*>(emulation::block_shared_memory());
}
inline unsigned cluster_rank() { return emulation::cluster_rank(); }
inline void cluster_barrier(emulation::Place place = emulation::Place::current()) { emulation::cluster_barrier(place); }

template <class T>
T* cluster_peer(T* mine, unsigned rank) {
    return static_cast<T*>(emulation::cluster_peer(mine, rank));
}
SPIKEFLOSS_UNTRACED inline void add_release(unsigned* counter) { ++*counter; }
inline void wait_until(const unsigned* counter, unsigned target, emulation::Place place = emulation::Place::current()) {
    emulation::wait_until(counter, target, place);
}

}  // namespace spikefloss
