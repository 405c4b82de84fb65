// Batched QR of the tangent bases and its adjoint on the CPU backend. Bases are stored as k rows of n, which is
// LAPACK's column-major n x k; the k x k matrices are row-major doubles.
#include "backend/cpu_backend.hpp"
#include "core/error.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace spikefloss {
namespace {

// A column counts as a combination of the earlier ones if less than this fraction of it remains. The value is between
// the rounding of double arithmetic, 2^-53, and the precision of float entries, 2^-24.
constexpr double lost_rank = 0x1p-40;

// count floats widened to double.
double* widened(double* to, const float* from, Index count) {
    for (Index i = 0; i < count; ++i) to[i] = from[i];
    return to;
}

void rounded(const double* from, float* to, Index count) {
    for (Index i = 0; i < count; ++i) to[i] = static_cast<float>(from[i]);
}

}  // namespace

void CpuBackend::gram(Index b, Index k, Index n, const float* x, const float* y, double* g, bool accumulate) {
    double* wide_x = scratch(0, b * k * n);
    double* wide_y = x == y ? wide_x : scratch(1, b * k * n);
    const int k_ = static_cast<int>(k), n_ = static_cast<int>(n);
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        const Index at = s * k * n;
        double* g_s = g + s * k * k;
        const double* x_s = widened(wide_x + at, x + at, k * n);
        const double* y_s = x == y ? x_s : widened(wide_y + at, y + at, k * n);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k_, k_, n_, 1.0, x_s, n_, y_s, n_, accumulate ? 1.0 : 0.0,
                    g_s, k_);
    }
}

void CpuBackend::cholesky(Index b, Index k, double* g, std::int32_t* info) {
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        double* g_s = g + s * k * k;
        // The column-major lower L with G = L L' is the row-major upper R with G = R' R.
        info[s] = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', static_cast<int>(k), g_s, static_cast<int>(k));
        for (Index i = 0; i < k; ++i) {
            // LAPACK does not report NaN. A factor that is not finite has failed at that column.
            if (info[s] == 0 && !std::isfinite(g_s[i * k + i])) info[s] = static_cast<std::int32_t>(i + 1);
            std::fill_n(g_s + i * k, i, 0.0);
        }
    }
}

void CpuBackend::divide_by_r(Index b, Index k, Index n, const double* r, float* x) {
    if (n == 0) return;  // BLAS rejects it
    double* wide = scratch(0, b * k * n);
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        double* x_s = widened(wide + s * k * n, x + s * k * n, k * n);
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, static_cast<int>(k),
                    static_cast<int>(n), 1.0, r + s * k * k, static_cast<int>(k), x_s, static_cast<int>(n));
        rounded(x_s, x + s * k * n, k * n);
    }
}

void CpuBackend::multiply_r(Index b, Index k, const double* second, double* r) {
    for (Index s = 0; s < b; ++s)
        cblas_dtrmm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, static_cast<int>(k),
                    static_cast<int>(k), 1.0, second + s * k * k, static_cast<int>(k), r + s * k * k,
                    static_cast<int>(k));
}

void CpuBackend::householder(Index b, Index k, Index n, Tangents x, double* r, std::int32_t* info) {
    const Index D = x.current ? 2 * n : n;
    double* a = scratch(0, k * D);
    double* tau = scratch(1, k);
    for (Index s = 0; s < b; ++s) {
        for (Index j = 0; j < k; ++j) {
            const Index row = (s * k + j) * n;
            if (x.current) widened(a + j * D, x.current + row, n);
            widened(a + j * D + (D - n), x.membrane + row, n);
        }
        const int rows = static_cast<int>(D), cols = static_cast<int>(k);
        info[s] = 0;  // LAPACKE would return the number of its argument, not of the column
        for (Index j = k; j-- > 0;)
            if (!std::all_of(a + j * D, a + (j + 1) * D, [](double x_i) { return std::isfinite(x_i); }))
                info[s] = static_cast<std::int32_t>(j + 1);
        if (info[s] == 0) info[s] = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, rows, cols, a, rows, tau);
        double* r_s = r + s * k * k;
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j) r_s[i * k + j] = i <= j ? a[j * D + i] : 0.0;
        if (info[s] == 0) info[s] = LAPACKE_dorgqr(LAPACK_COL_MAJOR, rows, cols, cols, a, rows, tau);
        for (Index j = 0; j < k; ++j) {
            const double diagonal = r_s[j * k + j];
            double column = 0.0;  // |A_j|^2
            for (Index i = 0; i <= j; ++i) column += r_s[i * k + j] * r_s[i * k + j];
            if (info[s] == 0 && !(std::abs(diagonal) > lost_rank * std::sqrt(column)))
                info[s] = static_cast<std::int32_t>(j + 1);
            const double sign = diagonal < 0.0 ? -1.0 : 1.0;  // R_jj > 0
            for (Index c = j; c < k; ++c) r_s[j * k + c] *= sign;
            for (Index i = 0; i < D; ++i) a[j * D + i] *= sign;
            const Index row = (s * k + j) * n;
            if (x.current) rounded(a + j * D, x.current + row, n);
            rounded(a + j * D + (D - n), x.membrane + row, n);
        }
    }
}

void CpuBackend::log_diagonal(Index b, Index k, const double* r, double* log_r) {
    for (Index s = 0; s < b; ++s)
        for (Index j = 0; j < k; ++j) log_r[s * k + j] = std::log(r[(s * k + j) * k + j]);
}

void CpuBackend::qr_backward_small(Index b, Index k, const double* r, const double* weight, const double* qbq,
                                   double* c) {
    std::vector<double> m(static_cast<std::size_t>(k * k));
    for (Index s = 0; s < b; ++s) {
        const double* r_s = r + s * k * k;
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j)
                m[static_cast<std::size_t>(i * k + j)] =
                    r_s[i * k + j] * (weight[s * k + j] / r_s[j * k + j]) - qbq[(s * k + i) * k + j];
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j)
                c[(s * k + i) * k + j] = m[static_cast<std::size_t>(i >= j ? i * k + j : j * k + i)];
    }
}

void CpuBackend::qr_backward_apply(Index b, Index k, Index n, const float* q, const double* c, const double* r,
                                   float* qb) {
    if (n == 0) return;
    double* wide_q = scratch(0, b * k * n);
    double* wide_qb = scratch(1, b * k * n);
    const int k_ = static_cast<int>(k), n_ = static_cast<int>(n);
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        const Index at = s * k * n;
        const double* q_s = widened(wide_q + at, q + at, k * n);
        double* x = widened(wide_qb + at, qb + at, k * n);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k_, n_, k_, 1.0, c + s * k * k, k_, q_s, n_, 1.0, x, n_);
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, k_, n_, 1.0, r + s * k * k, k_, x,
                    n_);
        rounded(x, qb + at, k * n);
    }
}

}  // namespace spikefloss
