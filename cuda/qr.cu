// Batched QR of the tangent bases and its adjoint. A basis is k rows of n floats, widened to double before any sum.
// Matrices are row-major. cuBLAS and cuSOLVER read them as column-major, so they see the transposes.
#include "cuda_backend.hpp"
#include "kernel.cuh"
#include "tangent_steps_cholesky.cuh"

#include <algorithm>

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

// One block per sequence, at most 64 vectors: the upper triangle of g becomes R. column as in judge_kernel.
__global__ void factor_kernel(BasisLayout layout, double* g, int* column) {
    const FactorSpace space(layout, dynamic_shared<double>());
    const int k = layout.k, rows = layout.rows(), stride = layout.factor_stride();
    double* g_s = g + static_cast<Index>(blockIdx.x) * k * k;
    if (threadIdx.x == 0) *space.failed = 0;
    for (int at = threadIdx.x; at < rows * rows; at += blockDim.x) {
        const int i = at / rows, j = at % rows;
        if (j <= i) space.factor[i * stride + j] = i < k ? g_s[i * k + j] : i == j ? 1.0 : 0.0;
    }
    __syncthreads();
    factor_gram(layout, space);
    for (int at = threadIdx.x; at < k * k; at += blockDim.x)
        if (at / k <= at % k) g_s[at] = space.factor[at % k * stride + at / k];
    if (threadIdx.x == 0) column[blockIdx.x] = *space.failed;
}

// One block per sequence, after g was factorised: zeroes the triangle that LAPACK does not write; r and its logarithms;
// then what QrFindings tell. column[s]: at which the factorisation failed, or 0.
__global__ void judge_kernel(Index k, QrRound round, double* g, double* r, double* log_r, const int* column,
                             QrFindings findings) {
    auto* shared = dynamic_shared<double>();  // strains of the threads, then the results of the first
    const Index s = blockIdx.x;
    double *g_s = g + s * k * k, *r_s = r + s * k * k;
    for (Index i = threadIdx.x; i < k * k; i += blockDim.x) {
        if (i / k > i % k) g_s[i] = 0.0;
        if (round.round == 0) r_s[i] = g_s[i];
    }
    __syncthreads();
    double strain = 0.0;
    for (Index j = threadIdx.x; j < k; j += blockDim.x) {
        // Row i of R r needs only rows i, i + 1, ... of r, so it can overwrite r from row 0 on.
        for (Index i = 0; round.round > 0 && i <= j; ++i) {
            double sum = 0.0;
            for (Index l = i; l <= j; ++l) sum = fma(g_s[i * k + l], r_s[l * k + j], sum);
            r_s[i * k + j] = sum;
        }
        double length = 0.0;  // |A_j|^2
        for (Index i = 0; i <= j; ++i) length = fma(r_s[i * k + j], r_s[i * k + j], length);
        const double log_j = log(r_s[j * k + j]);
        log_r[s * k + j] = log_j;
        strain = fmax(strain, fmax(0.5 * log(length) - log_j, fabs(log_j) / 8.0));
    }
    shared[threadIdx.x] = strain;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (unsigned thread = 1; thread < blockDim.x; ++thread) strain = fmax(strain, shared[thread]);
    findings.strain[s] = fmax(findings.strain[s], strain);
    std::int32_t failed = column[s];
    double low = DBL_MAX, high = 0.0;
    for (Index j = k; j-- > 0;) {
        const double r_j = g_s[j * k + j];
        low = fmin(low, r_j);
        high = fmax(high, r_j);
        if (column[s] == 0 && (!is_finite(r_j) || (round.round > 0 && !(r_j >= qr_lost_rank))))
            failed = static_cast<std::int32_t>(j + 1);
    }
    const bool doubt = round.last && round.round == 0 && high > qr_second_round_ratio * low;
    if (findings.failure[2 * s] != 0 || (failed == 0 && !doubt)) return;
    findings.failure[2 * s] = static_cast<std::int32_t>(round.step);
    findings.failure[2 * s + 1] = failed;
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
__global__ void finish_householder_kernel(Index k, double* r, double* log_r, double* flip, const int* lapack_info,
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
    for (Index j = threadIdx.x; j < k; j += blockDim.x) {
        flip[s * k + j] = r_s[j * k + j] < 0.0 ? -1.0 : 1.0;
        log_r[s * k + j] = log(fabs(r_s[j * k + j]));
    }
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

// One thread for each element of y. Neighbours take neighbouring columns.
__global__ void add_combined_kernel(Index b, Index k, Index n, ColumnRange columns, const double* c, const float* x,
                                    float* y) {
    const Index size = columns.size();
    for (Index at = first_element(); at < b * k * size; at += element_stride()) {
        const Index row = at / size, s = row / k, j = row % k, column = columns.begin + at % size;
        double sum = 0.0;
        for (Index i = 0; i < k; ++i) sum = fma(c[(s * k + i) * k + j], double(x[(s * k + i) * n + column]), sum);
        y[row * n + column] += static_cast<float>(sum);
    }
}

__global__ void add_kernel(Index count, const float* x, float* y) {
    for (Index at = first_element(); at < count; at += element_stride()) y[at] += x[at];
}

}  // namespace

void CudaBackend::gram(const BasisShape& shape, const float* x, const float* y, double* g, const ColumnRange* columns) {
    const Index b = shape.b, k = shape.k, D = shape.D(), size = b * k * D;
    double* const wide_x = scratch<double>(x == y ? size : 2 * size);
    if (counting()) return;
    const ColumnRange range = columns ? *columns : ColumnRange{0, D};
    if (b * k * range.size() == 0) {  // cuBLAS rejects it
        if (b * k > 0) zero(g, static_cast<std::size_t>(b * k * k) * sizeof(double));
        return;
    }
    double* const wide_y = x == y ? wide_x : wide_x + size;
    launch(over(size, stream_), widen_kernel, size, x, wide_x);
    if (x != y) launch(over(size, stream_), widen_kernel, size, y, wide_y);
    const double one = 1.0, none = 0.0;
    const int k_ = static_cast<int>(k), D_ = static_cast<int>(D);
    check(cublasDgemmStridedBatched(blas_, CUBLAS_OP_T, CUBLAS_OP_N, k_, k_, static_cast<int>(range.size()), &one,
                                    wide_y + range.begin, D_, k * D, wide_x + range.begin, D_, k * D, &none, g, k_,
                                    k * k, static_cast<int>(b)),
          "cublasDgemmStridedBatched");
}

void CudaBackend::add_combined(Index b, Index k, Index n, const ColumnRange& columns, const double* c, const float* x,
                               float* y) {
    launch(over(b * k * columns.size(), stream_), add_combined_kernel, b, k, n, columns, c, x, y);
}

void CudaBackend::add(Index count, const float* x, float* y) { launch(over(count, stream_), add_kernel, count, x, y); }

void CudaBackend::cholesky(Index b, Index k, const QrRound& round, double* g, double* r, double* log_r,
                           const QrFindings& findings) {
    if (b * k == 0) return;
    double** const matrices = scratch<double*>(2 * b);
    if (counting()) return;
    int* const column = reinterpret_cast<int*>(matrices + b);
    if (k <= most_block_vectors) {
        const BasisLayout layout({b, k, 1, false});
        launch({dim3(static_cast<unsigned>(b)), dim3(threads), stream_,
                static_cast<std::size_t>(FactorSpace::bytes(layout))},
               factor_kernel, layout, g, column);
    } else {
        launch(over(b, stream_), pointers_kernel, b, g, k * k, matrices, nullptr, Index(0), nullptr);
        check(cusolverDnDpotrfBatched(solver_, CUBLAS_FILL_MODE_LOWER, static_cast<int>(k), matrices,
                                      static_cast<int>(k), column, static_cast<int>(b)),
              "cusolverDnDpotrfBatched");
    }
    launch(for_each_sequence(b, stream_, threads * sizeof(double)), judge_kernel, k, round, g, r, log_r, column,
           findings);
}

void CudaBackend::divide_by_r(Index b, Index k, Index D, const double* r, float* x) {
    if (b * k * D == 0) return;
    double* const wide = scratch<double>(b * k * D + 2 * b);
    if (counting()) return;
    double** const matrices = reinterpret_cast<double**>(wide + b * k * D);
    launch(over(b * k * D, stream_), widen_kernel, b * k * D, x, wide);
    launch(over(b, stream_), pointers_kernel, b, const_cast<double*>(r), k * k, matrices, wide, k * D, matrices + b);
    const double one = 1.0;
    check(cublasDtrsmBatched(blas_, CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_T, CUBLAS_DIAG_NON_UNIT,
                             static_cast<int>(D), static_cast<int>(k), &one, matrices, static_cast<int>(k),
                             matrices + b, static_cast<int>(D), static_cast<int>(b)),
          "cublasDtrsmBatched");
    launch(over(b * k * D, stream_), round_kernel, b * k * D, wide, x);
}

void CudaBackend::householder(Index b, Index k, Index D, float* x, double* r, double* log_r, std::int32_t* info) {
    if (b * k == 0) return;
    const int rows = static_cast<int>(D), cols = static_cast<int>(k);
    int factor_size = 0, basis_size = 0;  // cuSOLVER tells the size of its work space
    check(cusolverDnDgeqrf_bufferSize(solver_, rows, cols, nullptr, rows, &factor_size), "cusolverDnDgeqrf_bufferSize");
    check(cusolverDnDorgqr_bufferSize(solver_, rows, cols, cols, nullptr, rows, nullptr, &basis_size),
          "cusolverDnDorgqr_bufferSize");
    double* const a = scratch<double>(b * k * D + 2 * b * k + b + std::max(factor_size, basis_size));
    if (counting()) return;
    double *const tau = a + b * k * D, *const work = tau + 2 * b * k + b;
    int* const lapack_info = reinterpret_cast<int*>(tau + 2 * b * k);  // of geqrf, then of orgqr, which fails only on a
                                                                       // wrong argument
    launch(over(b * k * D, stream_), widen_kernel, b * k * D, x, a);
    launch(for_each_sequence(b, stream_, sizeof(std::int32_t)), first_not_finite_kernel, k, D, a, info);
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
    launch(for_each_sequence(b, stream_), finish_householder_kernel, k, r, log_r, flip, lapack_info, info);
    launch(over(b * k * D, stream_), flip_and_round_kernel, b * k, D, a, flip, x);
}

void CudaBackend::qr_backward(Index b, Index k, Index D, const float* q, const double* r, const double* weight,
                              double* qbq, float* qb) {
    double* const wide_q = scratch<double>(2 * b * k * D + 2 * b);
    if (counting()) return;
    launch(over(b * k * k, stream_), qr_backward_small_kernel, b, k, r, weight, qbq);
    if (b * k * D == 0) return;
    double* const wide_qb = wide_q + b * k * D;
    double** const matrices = reinterpret_cast<double**>(wide_qb + b * k * D);
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
