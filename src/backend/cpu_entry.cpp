// The one symbol of the CPU backend that the rest of the program sees. The backend is compiled once for each
// instruction set, and the symbol has the number of the set.
#include "backend/cpu_backend.hpp"

extern "C" spikefloss::Backend* SPIKEFLOSS_CPU_ENTRY(int threads, spikefloss::Sums sums);

spikefloss::Backend* SPIKEFLOSS_CPU_ENTRY(int threads, spikefloss::Sums sums) {
    return new spikefloss::CpuBackend(threads, sums);
}
