// Products of the CPU backend: x W', y W and y' x. Spikes, and inputs that are mostly zeros, are listed and only these
// entries are visited (cpu_sparse.cpp); everything else is one product by BLAS. With Sums::float64 the factors are
// widened and the product is computed in double. Products of two floats are then exact, and the rounded sum does not
// depend on the order of its terms, except for ties in about 1e-9 of the cases. For this reason runs agree on all
// grids.
#include "backend/cpu_backend.hpp"

#include <cblas.h>

#include <algorithm>

namespace spikefloss {
namespace {

// Below this many multiply-adds one thread computes a product.
constexpr double parallel_work = 1e6;

// Otherwise it is split: the largest number of parts, and the smallest number of rows or columns of a part.
constexpr Index most_parts = 8, least_part = 32;

// From this many elements all threads expand bits.
constexpr Index parallel_elements = 1 << 15;

void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, const float* a, Index lda, const float* b,
          Index ldb, float beta, float* c, Index ldc) {
    cblas_sgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0f, a,
                static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, const double* a, Index lda,
          const double* b, Index ldb, double beta, double* c, Index ldc) {
    cblas_dgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0, a,
                static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

// C (+)= A B, where a turned factor is stored as its transpose. The longer side of C is split into parts for the
// threads. The parts depend only on the shape, so that the result does not depend on the number of threads.
template <class T>
void split_product(int threads, Matrix<const T> a, bool turned_a, Matrix<const T> b, bool turned_b, SumMatrix out,
                   bool accumulate) {
    const Index m = out.rows, n = out.cols, k = turned_a ? a.rows : a.cols;
    T* const c = static_cast<T*>(out.data);
    if (m == 0 || n == 0) return;
    if (k == 0) {
        if (!accumulate)
            for (Index i = 0; i < m; ++i) std::fill_n(c + i * out.stride, n, T(0));
        return;
    }
    const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const bool by_rows = m >= n;
    const Index side = by_rows ? m : n;
    const Index parts = work < parallel_work ? 1 : std::clamp<Index>(side / least_part, 1, most_parts);
    const auto flag = [](bool turned) { return turned ? CblasTrans : CblasNoTrans; };
#pragma omp parallel for num_threads(threads) if (parts > 1) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        const Index begin = side * part / parts, size = side * (part + 1) / parts - begin;
        const T* const a_part = by_rows ? a.data + (turned_a ? begin : begin * a.stride) : a.data;
        const T* const b_part = by_rows ? b.data : b.data + (turned_b ? begin * b.stride : begin);
        blas(flag(turned_a), flag(turned_b), by_rows ? size : m, by_rows ? n : size, k, a_part, a.stride, b_part,
             b.stride, accumulate ? T(1) : T(0), c + (by_rows ? begin * out.stride : begin), out.stride);
    }
}

}  // namespace

// The factor as a matrix of T; expanded or widened to scratch array `which` unless it is one.
template <class T>
Matrix<const T> CpuBackend::dense(const Factor& factor, int which) {
    const Activity& x = factor.x;
    const Index rows = factor.rows, cols = factor.cols;
    if constexpr (std::is_same_v<T, float>)
        if (!x.bits) return {x.values, rows, cols, x.stride};
    T* const to = reinterpret_cast<T*>(scratch(which, rows * cols * static_cast<Index>(sizeof(T)) / 8 + 1));
    const auto expand = [&](Index r) {
        const std::uint32_t* const words = x.bits + x.before(r);
        for (Index j = 0; j < cols; ++j) to[r * cols + j] = static_cast<T>((words[j >> 5] >> (j & 31)) & 1u);
    };
    if (x.bits && rows * cols > parallel_elements) {
#pragma omp parallel for num_threads(threads_)
        for (Index r = 0; r < rows; ++r) expand(r);
    } else {
        for (Index r = 0; x.bits && r < rows; ++r) expand(r);
        for (Index r = 0; !x.bits && r < rows; ++r)
            for (Index j = 0; j < cols; ++j) to[r * cols + j] = static_cast<T>(x.values[r * x.stride + j]);
    }
    return {to, rows, cols};
}

// out (+)= A B.
void CpuBackend::product(const Factor& a, const Factor& b, SumMatrix out, bool accumulate) {
    const bool round = out.type == Scalar::float32 && sums_ == Sums::float64;
    if (out.type == Scalar::float32 && !round)
        return split_product(threads_, dense<float>(a, 0), a.turned, dense<float>(b, 1), b.turned, out, accumulate);
    double* const sum = round ? scratch(2, out.rows * out.cols) : nullptr;
    split_product(threads_, dense<double>(a, 0), a.turned, dense<double>(b, 1), b.turned,
                  round ? SumMatrix{sum, Scalar::float64, out.rows, out.cols, out.cols} : out, accumulate && !round);
    for (Index i = 0; round && i < out.rows; ++i)
        for (Index j = 0; j < out.cols; ++j) {
            float& to = static_cast<float*>(out.data)[i * out.stride + j];
            to = static_cast<float>(accumulate ? to + sum[i * out.cols + j] : sum[i * out.cols + j]);
        }
}

void CpuBackend::project(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    if (sums_ == Sums::float32 && !accumulate &&
        project_listed(w, x, {static_cast<float*>(out.data), out.rows, out.cols, out.stride}))
        return;
    product({x, out.rows, w.cols, false}, {{.values = w.values, .stride = w.stride}, w.rows, w.cols, true}, out,
            accumulate);
}

void CpuBackend::project_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    product({{.values = y.data, .stride = y.stride}, y.rows, y.cols, false},
            {{.values = w.values, .stride = w.stride}, w.rows, w.cols, false}, out, accumulate);
}

void CpuBackend::add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient) {
    const Matrix<float> listed(static_cast<float*>(gradient.data), gradient.rows, gradient.cols, gradient.stride);
    const bool large = y.cols >= least_columns && y.rows >= (x.bits ? least_spike_rows : least_rows);
    if (sums_ == Sums::float32 && large && add_outer_listed(y, x, listed)) return;
    product({{.values = y.data, .stride = y.stride}, y.rows, y.cols, true}, {x, y.rows, gradient.cols, false}, gradient,
            true);
}

}  // namespace spikefloss
