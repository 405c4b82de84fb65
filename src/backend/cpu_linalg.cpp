// Products and sums of the CPU backend. With Sums::float64 the float operands are widened and the product is computed
// in double. Products of two floats are then exact, and the rounded sum does not depend on the order of its terms,
// except for ties in about 1e-9 of the cases. For this reason runs agree on all grids.
#include "backend/cpu_backend.hpp"

#include <cblas.h>

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Below this many multiply-adds one thread computes a product.
constexpr double parallel_work = 1e6;

// Otherwise it is split: the largest number of parts, and the smallest number of rows or columns of a part.
constexpr Index most_parts = 8, least_part = 32;

CBLAS_TRANSPOSE flag(Transpose op) { return op == Transpose::yes ? CblasTrans : CblasNoTrans; }

// Where row `begin` of op(A) starts in A.
template <class T>
const T* row_of(const T* data, Index stride, Transpose op, Index begin) {
    return op == Transpose::no ? data + begin * stride : data + begin;
}

void product(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, const float* a, Index lda,
             const float* b, Index ldb, float beta, float* c, Index ldc) {
    cblas_sgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0f, a,
                static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

void product(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, const double* a, Index lda,
             const double* b, Index ldb, double beta, double* c, Index ldc) {
    cblas_dgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0, a,
                static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

// C [m, n] (+)= op(A) op(B), inner length k. The longer side of C is split into parts for the threads. The parts depend
// only on the shape, so that the result does not depend on the number of threads.
template <class T>
void split_product(int threads, Transpose op_a, Transpose op_b, Index m, Index n, Index k, const T* a, Index lda,
                   const T* b, Index ldb, bool accumulate, T* c, Index ldc) {
    if (m == 0 || n == 0) return;
    if (k == 0) {
        if (!accumulate)
            for (Index i = 0; i < m; ++i) std::fill_n(c + i * ldc, n, T(0));
        return;
    }
    const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const bool by_rows = m >= n;
    const Index side = by_rows ? m : n;
    const Index parts = work < parallel_work ? 1 : std::clamp<Index>(side / least_part, 1, most_parts);
    // Columns of op(B) are rows of its transpose.
    const Transpose turned_b = op_b == Transpose::no ? Transpose::yes : Transpose::no;
#pragma omp parallel for num_threads(threads) if (parts > 1) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        const Index begin = side * part / parts, size = side * (part + 1) / parts - begin;
        if (by_rows)
            product(flag(op_a), flag(op_b), size, n, k, row_of(a, lda, op_a, begin), lda, b, ldb,
                    accumulate ? T(1) : T(0), c + begin * ldc, ldc);
        else
            product(flag(op_a), flag(op_b), m, size, k, a, lda, row_of(b, ldb, turned_b, begin), ldb,
                    accumulate ? T(1) : T(0), c + begin, ldc);
    }
}

// The matrix widened to double, contiguous.
const double* widened(double* to, Matrix<const float> a) {
    for (Index i = 0; i < a.rows; ++i)
        for (Index j = 0; j < a.cols; ++j) to[i * a.cols + j] = a.data[i * a.stride + j];
    return to;
}

double squares_of(const float* x, Index count) {
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (Index i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
    return sum;
}

}  // namespace

void CpuBackend::gemm(Transpose op_a, Transpose op_b, Matrix<const float> a, Matrix<const float> b, Matrix<float> c,
                      bool accumulate) {
    if (sums_ == Sums::float32) {
        const bool forwards = op_a == Transpose::no && op_b == Transpose::yes && !accumulate;
        if (forwards && sparse_product(a, b, c)) return;
        return gemm(op_a, op_b, a, b, {c.data, Scalar::float32, c.rows, c.cols, c.stride}, accumulate);
    }
    double* sum = scratch(2, c.rows * c.cols);
    gemm(op_a, op_b, a, b, {sum, Scalar::float64, c.rows, c.cols, c.cols}, false);
    for (Index i = 0; i < c.rows; ++i)
        for (Index j = 0; j < c.cols; ++j) {
            float& out = c.data[i * c.stride + j];
            out = static_cast<float>(accumulate ? out + sum[i * c.cols + j] : sum[i * c.cols + j]);
        }
}

void CpuBackend::gemm(Transpose op_a, Transpose op_b, Matrix<const float> a, Matrix<const float> b, SumMatrix c,
                      bool accumulate) {
    const Index inner = op_a == Transpose::no ? a.cols : a.rows;
    if (c.type == Scalar::float32) {
        const bool outer = op_a == Transpose::yes && op_b == Transpose::no && accumulate;
        if (outer && sparse_sums(a, b, {static_cast<float*>(c.data), c.rows, c.cols, c.stride})) return;
        split_product(threads_, op_a, op_b, c.rows, c.cols, inner, a.data, a.stride, b.data, b.stride, accumulate,
                      static_cast<float*>(c.data), c.stride);
    } else {
        const double* wide_a = widened(scratch(0, a.rows * a.cols), a);
        const double* wide_b = widened(scratch(1, b.rows * b.cols), b);
        split_product(threads_, op_a, op_b, c.rows, c.cols, inner, wide_a, a.cols, wide_b, b.cols, accumulate,
                      static_cast<double*>(c.data), c.stride);
    }
}

void CpuBackend::add_column_sums(Matrix<const float> a, SumMatrix c) {
    // Always in double: there are steps times sequences rows, so many that float would lose digits.
    double* total = scratch(0, a.cols);
    std::fill_n(total, a.cols, 0.0);
    for (Index i = 0; i < a.rows; ++i)
#pragma omp simd
        for (Index j = 0; j < a.cols; ++j) total[j] += a.data[i * a.stride + j];
    const auto add_to = [&](auto* sum) {
        using T = std::remove_pointer_t<decltype(sum)>;
        for (Index j = 0; j < a.cols; ++j) sum[j] = static_cast<T>(sum[j] + total[j]);
    };
    if (c.type == Scalar::float32)
        add_to(static_cast<float*>(c.data));
    else
        add_to(static_cast<double*>(c.data));
}

void CpuBackend::round_sums(const void* in, float* out, Index count) {
    if (sums_ == Sums::float32)
        copy(out, in, static_cast<std::size_t>(count) * sizeof(float));
    else
        for (Index i = 0; i < count; ++i) out[i] = static_cast<float>(static_cast<const double*>(in)[i]);
}

void CpuBackend::sum_squares(const float* x, Index count, double* sum) { *sum += squares_of(x, count); }

void CpuBackend::row_sum_squares(Index rows, Index n, const float* a, const float* b, double* out) {
    for (Index r = 0; r < rows; ++r) out[r] = squares_of(a + r * n, n) + (b ? squares_of(b + r * n, n) : 0.0);
}

void CpuBackend::cap_rows(Index rows, Index n, const double* squares, const float* limit, float* a, float* b) {
    for (Index r = 0; r < rows; ++r) {
        const double norm = std::sqrt(squares[r]);
        if (norm <= *limit) continue;
        const float factor = static_cast<float>(*limit / norm);
        for (Index j = 0; j < n; ++j) {
            a[r * n + j] *= factor;
            if (b) b[r * n + j] *= factor;
        }
    }
}

void CpuBackend::scale(float* x, float factor, Index count) {
#pragma omp simd
    for (Index i = 0; i < count; ++i) x[i] *= factor;
}

void CpuBackend::add(float* y, const float* x, Index count) {
#pragma omp simd
    for (Index i = 0; i < count; ++i) y[i] += x[i];
}

void CpuBackend::repeat_row(Index rows, Index n, const float* row, float* out) {
    for (Index r = 0; r < rows; ++r) std::copy_n(row, n, out + r * n);
}

}  // namespace spikefloss
