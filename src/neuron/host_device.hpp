// Marks a scalar equation as callable from host code and from CUDA kernels.
#pragma once

#ifdef __CUDACC__
#define SPIKEFLOSS_HD __host__ __device__ __forceinline__
#else
#define SPIKEFLOSS_HD inline __attribute__((always_inline))
#endif
