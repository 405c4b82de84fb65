#include "bf16_parts.hpp"

#include "kernel.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

__global__ void split_kernel(const float* x, Index rows, Index cols, Index stride, int parts, Index row_stride,
                             Index part_stride, __nv_bfloat16* out) {
    for (Index at = first_element(); at < rows * cols; at += element_stride()) {
        const Index row = at / cols, j = at % cols, to = row * row_stride + j;
        float rest = x[row * stride + j];
        for (int part = 0; part < parts; ++part) {
            const __nv_bfloat16 rounded = __float2bfloat16_rn(rest);
            out[to + part * part_stride] = rounded;
            rest -= __bfloat162float(rounded);
        }
    }
}

}  // namespace

void split(cudaStream_t stream, Matrix<const float> x, int parts, Index row_stride, Index part_stride,
           __nv_bfloat16* out) {
    launch({grid_for(x.rows * x.cols, 256), 256, stream}, split_kernel, x.data, x.rows, x.cols, x.stride, parts,
           row_stride, part_stride, out);
}

void bf16_product(cublasHandle_t blas, cublasOperation_t op_a, cublasOperation_t op_b, Index m, Index n, Index k,
                  const __nv_bfloat16* a, Index lda, const __nv_bfloat16* b, Index ldb, bool accumulate, float* c,
                  Index ldc) {
    const float one = 1.0f, zero = 0.0f;
    for (Index first = 0; first < k; first += longest_sum) {
        const __nv_bfloat16* const a_part = a + (op_a == CUBLAS_OP_N ? first * lda : first);
        const __nv_bfloat16* const b_part = b + (op_b == CUBLAS_OP_N ? first : first * ldb);
        check(cublasGemmEx(blas, op_a, op_b, static_cast<int>(m), static_cast<int>(n),
                           static_cast<int>(std::min(longest_sum, k - first)), &one, a_part, CUDA_R_16BF,
                           static_cast<int>(lda), b_part, CUDA_R_16BF, static_cast<int>(ldb),
                           accumulate || first > 0 ? &one : &zero, c, CUDA_R_32F, static_cast<int>(ldc),
                           CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx");
    }
}

}  // namespace spikefloss
