// Products of the CUDA backend by cuBLAS. A row-major matrix read as column-major is its transpose. So the row-major
// C = op(A) op(B) is the column-major C' = op(B)' op(A)': the same product with A and B exchanged, without a copy. With
// Sums::float64 the float operands are widened and the product is computed in double, as on the CPU.
#include "cuda_backend.hpp"

#include "kernel.cuh"

#include <limits>

namespace spikefloss {
namespace {

constexpr int block = 256;

// to[rows, cols], contiguous, from rows `stride` apart.
__global__ void widen_kernel(const float* from, Index rows, Index cols, Index stride, double* to) {
    for (Index at = first_element(); at < rows * cols; at += element_stride())
        to[at] = from[at / cols * stride + at % cols];
}

// c (+)= sum, rounded once.
__global__ void narrow_kernel(const double* sum, Index rows, Index cols, Index stride, bool accumulate, float* c) {
    for (Index at = first_element(); at < rows * cols; at += element_stride()) {
        float& out = c[at / cols * stride + at % cols];
        out = static_cast<float>(accumulate ? out + sum[at] : sum[at]);
    }
}

// c = 0, for an inner length of 0.
template <class T>
__global__ void clear_kernel(Index rows, Index cols, Index stride, T* c) {
    for (Index at = first_element(); at < rows * cols; at += element_stride()) c[at / cols * stride + at % cols] = T(0);
}

cublasOperation_t flag(Transpose op) { return op == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N; }

// Sizes of cuBLAS are int, and a leading dimension must be at least 1.
int size(Index n) {
    if (n > std::numeric_limits<int>::max())
        check(CUBLAS_STATUS_INVALID_VALUE, "a product with a side of 2^31 or more");
    return static_cast<int>(n);
}
int leading(Index stride) { return stride > 0 ? size(stride) : 1; }

cublasComputeType_t compute_type(Precision precision) {
    switch (precision) {
        case Precision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
        case Precision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
        default: return CUBLAS_COMPUTE_32F;  // with cuBLAS's default math mode: every product and sum is a float
    }
}

const double* widened(cudaStream_t stream, Matrix<const float> a, double* to) {
    launch({grid_for(a.rows * a.cols, block), block, stream}, widen_kernel, a.data, a.rows, a.cols, a.stride, to);
    return to;
}

}  // namespace

void CudaBackend::gemm(Transpose op_a, Transpose op_b, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
                       bool accumulate) {
    if (sums_ == Sums::float32)
        return gemm(op_a, op_b, a, b, {c.data, Scalar::float32, c.rows, c.cols, c.stride}, accumulate);
    double* sum = scratch<double>(wide_c_scratch, c.rows * c.cols);
    gemm(op_a, op_b, a, b, {sum, Scalar::float64, c.rows, c.cols, c.cols}, false);
    launch({grid_for(c.rows * c.cols, block), block, stream_}, narrow_kernel, sum, c.rows, c.cols, c.stride, accumulate,
           c.data);
}

void CudaBackend::gemm(Transpose op_a, Transpose op_b, Matrix<const float> a, Matrix<const float> b, SumMatrix c,
                       bool accumulate) {
    const Index m = c.rows, n = c.cols, inner = op_a == Transpose::no ? a.cols : a.rows;
    if (m == 0 || n == 0) return;
    if (inner == 0) {
        const Launch how{grid_for(m * n, block), block, stream_};
        if (accumulate) return;
        if (c.type == Scalar::float32)
            return launch(how, clear_kernel<float>, m, n, c.stride, static_cast<float*>(c.data));
        return launch(how, clear_kernel<double>, m, n, c.stride, static_cast<double*>(c.data));
    }
    if (c.type == Scalar::float32) {
        const float one = 1.0f, beta = accumulate ? 1.0f : 0.0f;
        check(cublasGemmEx(blas_, flag(op_b), flag(op_a), size(n), size(m), size(inner), &one, b.data, CUDA_R_32F,
                           leading(b.stride), a.data, CUDA_R_32F, leading(a.stride), &beta, c.data, CUDA_R_32F,
                           leading(c.stride), compute_type(precision_), CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx");
        return;
    }
    const double* wide_a = widened(stream_, a, scratch<double>(wide_a_scratch, a.rows * a.cols));
    const double* wide_b = widened(stream_, b, scratch<double>(wide_b_scratch, b.rows * b.cols));
    const double one = 1.0, beta = accumulate ? 1.0 : 0.0;
    check(cublasDgemm(blas_, flag(op_b), flag(op_a), size(n), size(m), size(inner), &one, wide_b, leading(b.cols),
                      wide_a, leading(a.cols), &beta, static_cast<double*>(c.data), leading(c.stride)),
          "cublasDgemm");
}

}  // namespace spikefloss
