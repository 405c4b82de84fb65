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
inline void copy_async(float* shared, const float* global) { emulation::copy_async(shared, global, sizeof(float)); }
inline void commit_copies() { emulation::commit_copies(); }
template <int newer>
void wait_copies() {
    emulation::wait_copies(newer);
}
inline void multiply_add_tile(double (&c)[2], double a, double b,
                              emulation::Place place = emulation::Place::current()) {
    const double* all = emulation::exchange(a, b, place);
    const unsigned lane = threadIdx.x % 32, row = lane / 4, column = lane % 4 * 2;
    for (unsigned l = 0; l < 4; ++l) {
        const double a_l = all[row * 4 + l];
        c[0] = fma(a_l, all[32 + column * 4 + l], c[0]);
        c[1] = fma(a_l, all[32 + column * 4 + 4 + l], c[1]);
    }
}
inline void store_shared(float* to, float a, float b, float c, float d) {
    emulation::require_shared(to, 4 * sizeof(float));
    to[0] = a, to[1] = b, to[2] = c, to[3] = d;
}
SPIKEFLOSS_UNTRACED inline void add_release(unsigned* counter) { ++*counter; }
inline void wait_until(const unsigned* counter, unsigned target, emulation::Place place = emulation::Place::current()) {
    emulation::wait_until(counter, target, place);
}

}  // namespace spikefloss
