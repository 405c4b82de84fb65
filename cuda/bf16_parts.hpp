// Products with spikes on the tensor cores. Spikes are 0 or 1, which is exact in bfloat16. A float is exactly the sum
// of three bfloat16 numbers; each is the rounded rest after the ones before. The three parts of W are stored side by
// side, [N, 3N], and the spikes three times, [b, 3N]. Then one bfloat16 product with float sums has the products of a
// float product. It runs on the tensor cores, at a third of their rate:
//
//   W s = W1 s + W2 s + W3 s            dW = sum of (g1 + g2 + g3) s'
//
// But tensor cores truncate their float sums: a sum of k terms of one sign is too small by about k / 16 times 2^-25,
// where rounded sums have errors of both signs. So at most longest_sum terms are summed on the tensor cores; these sums
// are added with rounding. The relative error is then up to about 1e-5 (longest_sum 4096), and 1e-6 for float sums.
//
// precision tf32 keeps two parts (16 bits of the mantissa, at least as many as TF32), bf16 keeps one.
#pragma once

#include "core/view.hpp"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace spikefloss {

// Largest number of terms of a sum on the tensor cores.
inline constexpr Index longest_sum = 4096;

inline int parts_of(Precision precision) {
    return precision == Precision::fp32 ? 3 : precision == Precision::tf32 ? 2 : 1;
}

// out[part][...]: the bfloat16 parts of x, `row_stride` elements from row to row and `part_stride` from part to part.
void split(cudaStream_t stream, Matrix<const float> x, int parts, Index row_stride, Index part_stride,
           __nv_bfloat16* out);

// Column-major C [m, n] (+)= op(A) op(B) of bfloat16 matrices with float sums, longest_sum terms at a time.
void bf16_product(cublasHandle_t blas, cublasOperation_t op_a, cublasOperation_t op_b, Index m, Index n, Index k,
                  const __nv_bfloat16* a, Index lda, const __nv_bfloat16* b, Index ldb, bool accumulate, float* c,
                  Index ldc);

}  // namespace spikefloss
