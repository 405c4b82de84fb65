// Batched QR of the tangent bases and its adjoint. A basis is k rows of n floats, widened to double before any sum.
// Matrices are row-major. cuBLAS and cuSOLVER read them as column-major, so they see the transposes.
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <cfloat>

namespace spikefloss {
namespace {

constexpr int threads = 256;

// As on the CPU: a column counts as a combination of the earlier ones if less than this fraction of it remains.
constexpr double lost_rank = 0x1p-40;

__device__ bool is_finite(double x) { return fabs(x) <= DBL_MAX; }

__global__ void widen_kernel(Index count, const float* from, double* to) {
    for (Index i = first_element(); i < count; i += element_stride()) to[i] = from[i];
}

__global__ void round_kernel(Index count, const double* from, float* to) {
    for (Index i = first_element(); i < count; i += element_stride()) to[i] = static_cast<float>(from[i]);
}

__global__ void pointers_kernel(Index b, double* first, Index first_stride, double** firsts, double* second,
                                Index second_stride, double** seconds) {
    for (Index s = first_element(); s < b; s += element_stride()) {
        firsts[s] = first + s * first_stride;
        if (seconds) seconds[s] = second + s * second_stride;
    }
}

// One block per sequence: zeroes the triangle that LAPACK does not write, and finds the first pivot that is not finite.
__global__ void finish_cholesky_kernel(Index k, double* g, std::int32_t* info) {
    const Index s = blockIdx.x;
    double* g_s = g + s * k * k;
    for (Index i = threadIdx.x; i < k * k; i += blockDim.x)
        if (i / k > i % k) g_s[i] = 0.0;
    if (threadIdx.x > 0 || info[s] != 0) return;
    for (Index j = 0; j < k; ++j)
        if (!is_finite(g_s[j * k + j])) {
            info[s] = static_cast<std::int32_t>(j + 1);
            return;
        }
}

// One thread per column. Row i of the product needs only rows i, i + 1, ... of r, so it can overwrite r from row 0 on.
__global__ void multiply_r_kernel(Index b, Index k, const double* second, double* r) {
    for (Index column = first_element(); column < b * k; column += element_stride()) {
        const Index s = column / k, j = column % k;
        const double* second_s = second + s * k * k;
        double* r_s = r + s * k * k;
        for (Index i = 0; i <= j; ++i) {
            double sum = 0.0;
            for (Index l = i; l <= j; ++l) sum = fma(second_s[i * k + l], r_s[l * k + j], sum);
            r_s[i * k + j] = sum;
        }
    }
}

__global__ void log_diagonal_kernel(Index b, Index k, const double* r, double* log_r) {
    for (Index i = first_element(); i < b * k; i += element_stride()) log_r[i] = log(r[i * k + i % k]);
}

// qbq becomes C. Both triangles come from the lower one of M, so the threads of the lower triangle write both.
__global__ void qr_backward_small_kernel(Index b, Index k, const double* r, const double* weight, double* qbq) {
    for (Index at = first_element(); at < b * k * k; at += element_stride()) {
        const Index j = at % k, row = at / k, i = row % k, s = row / k;
        if (i < j) continue;
        const double* r_s = r + s * k * k;
        const double m = r_s[i * k + j] * (weight[s * k + j] / r_s[j * k + j]) - qbq[at];
        qbq[at] = m;
        qbq[(s * k + j) * k + i] = m;
    }
}

// info[s] = the first column (from 1) of sequence s that is not finite, or 0. One block per sequence.
__global__ void first_not_finite_kernel(Index k, Index D, const double* a, std::int32_t* info) {
    std::int32_t* first = dynamic_shared<std::int32_t>();
    const Index s = blockIdx.x;
    if (threadIdx.x == 0) *first = static_cast<std::int32_t>(k + 1);
    __syncthreads();
    for (Index i = threadIdx.x; i < k * D; i += blockDim.x)
        if (!is_finite(a[s * k * D + i])) atomicMin(first, static_cast<std::int32_t>(i / D + 1));
    __syncthreads();
    if (threadIdx.x == 0) info[s] = *first <= k ? *first : 0;
}

// R from the factors that geqrf leaves in a.
__global__ void upper_triangle_kernel(Index b, Index k, Index D, const double* a, double* r) {
    for (Index at = first_element(); at < b * k * k; at += element_stride()) {
        const Index j = at % k, row = at / k, i = row % k, s = row / k;
        r[at] = i <= j ? a[(s * k + j) * D + i] : 0.0;
    }
}

// Makes every R_jj > 0 and finds the rank. One block per sequence. `flip` [b, k] becomes the sign of each vector.
__global__ void finish_householder_kernel(Index k, double* r, double* flip, const int* lapack_info,
                                          std::int32_t* info) {
    const Index s = blockIdx.x;
    double* r_s = r + s * k * k;
    if (threadIdx.x == 0) {
        if (info[s] == 0) info[s] = lapack_info[s];
        for (Index j = 0; j < k && info[s] == 0; ++j) {
            double column = 0.0;  // |A_j|^2
            for (Index i = 0; i <= j; ++i) column += r_s[i * k + j] * r_s[i * k + j];
            if (!(fabs(r_s[j * k + j]) > lost_rank * sqrt(column))) info[s] = static_cast<std::int32_t>(j + 1);
        }
    }
    for (Index j = threadIdx.x; j < k; j += blockDim.x) flip[s * k + j] = r_s[j * k + j] < 0.0 ? -1.0 : 1.0;
    __syncthreads();
    for (Index i = threadIdx.x; i < k * k; i += blockDim.x) r_s[i] *= flip[s * k + i / k];
}

// x [rows, D] = a, each row times its sign.
__global__ void flip_and_round_kernel(Index rows, Index D, const double* a, const double* flip, float* x) {
    for (Index i = first_element(); i < rows * D; i += element_stride()) x[i] = static_cast<float>(a[i] * flip[i / D]);
}

Launch over(Index count, cudaStream_t stream) { return {grid_for(count, threads), dim3(threads), stream}; }

// One block for each of b sequences.
Launch for_each_sequence(Index b, cudaStream_t stream, std::size_t shared = 0) {
    return {dim3(static_cast<unsigned>(b)), dim3(threads), stream, shared};
}

}  // namespace

void CudaBackend::gram(const BasisShape& shape, const float* x, const float* y, double* g) {
    const Index b = shape.b, k = shape.k, D = shape.D(), size = shape.size();
    if (size == 0) {  // cuBLAS rejects it
        if (b * k > 0) zero(g, static_cast<std::size_t>(b * k * k) * sizeof(double));
        return;
    }
    double* wide_x = scratch<double>(4, size);
    double* wide_y = x == y ? wide_x : scratch<double>(5, size);
    launch(over(size, stream_), widen_kernel, size, x, wide_x);
    if (x != y) launch(over(size, stream_), widen_kernel, size, y, wide_y);
    const double one = 1.0, none = 0.0;
    const int k_ = static_cast<int>(k), D_ = static_cast<int>(D);
    check(cublasDgemmStridedBatched(blas_, CUBLAS_OP_T, CUBLAS_OP_N, k_, k_, D_, &one, wide_y, D_, k * D, wide_x, D_,
                                    k * D, &none, g, k_, k * k, static_cast<int>(b)),
          "cublasDgemmStridedBatched");
}

void CudaBackend::cholesky(Index b, Index k, double* g, std::int32_t* info) {
    if (b * k == 0) return;
    double** matrices = scratch<double*>(6, b);
    launch(over(b, stream_), pointers_kernel, b, g, k * k, matrices, nullptr, Index(0), nullptr);
    check(cusolverDnDpotrfBatched(solver_, CUBLAS_FILL_MODE_LOWER, static_cast<int>(k), matrices, static_cast<int>(k),
                                  info, static_cast<int>(b)),
          "cusolverDnDpotrfBatched");
    launch(for_each_sequence(b, stream_), finish_cholesky_kernel, k, g, info);
}

void CudaBackend::divide_by_r(Index b, Index k, Index D, const double* r, float* x) {
    if (b * k * D == 0) return;
    double* wide = scratch<double>(4, b * k * D);
    double** matrices = scratch<double*>(6, 2 * b);
    launch(over(b * k * D, stream_), widen_kernel, b * k * D, x, wide);
    launch(over(b, stream_), pointers_kernel, b, const_cast<double*>(r), k * k, matrices, wide, k * D, matrices + b);
    const double one = 1.0;
    check(cublasDtrsmBatched(blas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT,
                             static_cast<int>(D), static_cast<int>(k), &one, matrices, static_cast<int>(k),
                             matrices + b, static_cast<int>(D), static_cast<int>(b)),
          "cublasDtrsmBatched");
    launch(over(b * k * D, stream_), round_kernel, b * k * D, wide, x);
}

void CudaBackend::multiply_r(Index b, Index k, const double* second, double* r) {
    launch({grid_for(b * k, warp_size), dim3(warp_size), stream_}, multiply_r_kernel, b, k, second, r);
}

void CudaBackend::householder(Index b, Index k, Index D, float* x, double* r, std::int32_t* info) {
    if (b * k == 0) return;
    const int rows = static_cast<int>(D), cols = static_cast<int>(k);
    double* a = scratch<double>(4, b * k * D);
    double* tau = scratch<double>(5, 2 * b * k);
    int* lapack_info = scratch<int>(6, 2 * b);  // of geqrf, then of orgqr, which fails only on a wrong argument
    launch(over(b * k * D, stream_), widen_kernel, b * k * D, x, a);
    launch(for_each_sequence(b, stream_, sizeof(std::int32_t)), first_not_finite_kernel, k, D, a, info);
    int factor_size = 0, basis_size = 0;
    check(cusolverDnDgeqrf_bufferSize(solver_, rows, cols, a, rows, &factor_size), "cusolverDnDgeqrf_bufferSize");
    check(cusolverDnDorgqr_bufferSize(solver_, rows, cols, cols, a, rows, tau, &basis_size),
          "cusolverDnDorgqr_bufferSize");
    double* work = scratch<double>(7, factor_size > basis_size ? factor_size : basis_size);
    for (Index s = 0; s < b; ++s)
        check(
            cusolverDnDgeqrf(solver_, rows, cols, a + s * k * D, rows, tau + s * k, work, factor_size, lapack_info + s),
            "cusolverDnDgeqrf");
    launch(over(b * k * k, stream_), upper_triangle_kernel, b, k, D, a, r);
    for (Index s = 0; s < b; ++s)
        check(cusolverDnDorgqr(solver_, rows, cols, cols, a + s * k * D, rows, tau + s * k, work, basis_size,
                               lapack_info + b + s),
              "cusolverDnDorgqr");
    double* flip = tau + b * k;
    launch(for_each_sequence(b, stream_), finish_householder_kernel, k, r, flip, lapack_info, info);
    launch(over(b * k * D, stream_), flip_and_round_kernel, b * k, D, a, flip, x);
}

void CudaBackend::log_diagonal(Index b, Index k, const double* r, double* log_r) {
    launch(over(b * k, stream_), log_diagonal_kernel, b, k, r, log_r);
}

void CudaBackend::qr_backward(Index b, Index k, Index D, const float* q, const double* r, const double* weight,
                              double* qbq, float* qb) {
    launch(over(b * k * k, stream_), qr_backward_small_kernel, b, k, r, weight, qbq);
    if (b * k * D == 0) return;
    double* wide_q = scratch<double>(4, b * k * D);
    double* wide_qb = scratch<double>(5, b * k * D);
    double** matrices = scratch<double*>(6, 2 * b);
    launch(over(b * k * D, stream_), widen_kernel, b * k * D, q, wide_q);
    launch(over(b * k * D, stream_), widen_kernel, b * k * D, qb, wide_qb);
    launch(over(b, stream_), pointers_kernel, b, const_cast<double*>(r), k * k, matrices, wide_qb, k * D, matrices + b);
    const double one = 1.0;
    const int k_ = static_cast<int>(k), D_ = static_cast<int>(D), b_ = static_cast<int>(b);
    check(cublasDgemmStridedBatched(blas_, CUBLAS_OP_N, CUBLAS_OP_T, D_, k_, k_, &one, wide_q, D_, k * D, qbq, k_,
                                    k * k, &one, wide_qb, D_, k * D, b_),
          "cublasDgemmStridedBatched");
    check(cublasDtrsmBatched(blas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N, CUBLAS_DIAG_NON_UNIT, D_,
                             k_, &one, matrices, k_, matrices + b, D_, b_),
          "cublasDtrsmBatched");
    launch(over(b * k * D, stream_), round_kernel, b * k * D, wide_qb, qb);
}

}  // namespace spikefloss
