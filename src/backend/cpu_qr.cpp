// Batched QR of the tangent bases and its adjoint on the CPU backend. Bases are stored as k rows of n, which is
// LAPACK's column-major n x k; the k x k matrices are row-major doubles.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_basis.hpp"
#include "core/error.hpp"

#include <cblas.h>
#include <lapacke.h>

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Below this many multiply-adds one thread computes.
constexpr Index parallel_elements = 1 << 15;

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

// Of whole bases, the products of the membrane parts come before those of the current parts: results depend on this
// order.
void CpuBackend::gram(const BasisShape& shape, const float* x, const float* y, double* g, const ColumnRange* columns) {
    const Index k = shape.k, D = shape.D(), size = k * D;
    double* const wide_x = scratch<double>(x == y ? shape.size() : 2 * shape.size());
    if (counting()) return;
    double* const wide_y = x == y ? wide_x : wide_x + shape.size();
    const int k_ = static_cast<int>(k), D_ = static_cast<int>(D);
#pragma omp parallel for num_threads(threads_) if (shape.b > 1)
    for (Index s = 0; s < shape.b; ++s) {
        double* g_s = g + s * k * k;
        const double* x_s = widened(wide_x + s * size, x + s * size, size);
        const double* y_s = x == y ? x_s : widened(wide_y + s * size, y + s * size, size);
        const auto add = [&](Index from, Index count, double keep) {
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k_, k_, static_cast<int>(count), 1.0, x_s + from, D_,
                        y_s + from, D_, keep, g_s, k_);
        };
        if (columns) {
            add(columns->begin, columns->size(), 0.0);
            continue;
        }
        add(shape.membrane(), D - shape.membrane(), 0.0);
        if (shape.current) add(0, shape.n, 1.0);
    }
}

void CpuBackend::add_combined(Index b, Index k, Index n, const ColumnRange& columns, const double* c, const float* x,
                              float* y) {
    const auto [begin, end] = columns;
    constexpr Index most = 512;  // columns whose sums stay in cache
#pragma omp parallel for num_threads(threads_) collapse(2) if (b * k * k * (end - begin) > parallel_elements)
    for (Index s = 0; s < b; ++s)
        for (Index j = 0; j < k; ++j)
            for (Index first = begin; first < end; first += most) {
                const Index count = std::min(most, end - first);
                double sum[most];
                std::fill_n(sum, count, 0.0);
                for (Index i = 0; i < k; ++i) {
                    const double factor = c[(s * k + i) * k + j];
                    const float* from = x + (s * k + i) * n + first;
                    if (factor == 0.0) continue;
#pragma omp simd
                    for (Index d = 0; d < count; ++d) sum[d] += factor * from[d];
                }
                float* to = y + (s * k + j) * n + first;
#pragma omp simd
                for (Index d = 0; d < count; ++d) to[d] += static_cast<float>(sum[d]);
            }
}

void CpuBackend::add(Index count, const float* x, float* y) {
#pragma omp parallel for simd num_threads(threads_) if (count > parallel_elements)
    for (Index i = 0; i < count; ++i) y[i] += x[i];
}

void CpuBackend::cholesky(Index b, Index k, const QrRound& round, double* g, double* r, double* log_r,
                          const QrFindings& findings) {
    if (counting()) return;
    const int k_ = static_cast<int>(k);
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        double *g_s = g + s * k * k, *r_s = r + s * k * k;
        // The column-major lower L with G = L L' is the row-major upper R with G = R' R.
        Index column = LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', k_, g_s, k_);
        for (Index i = 0; i < k; ++i) {
            // LAPACK does not report NaN. A factor that is not finite has failed at that column.
            if (column == 0 && !std::isfinite(g_s[i * k + i])) column = i + 1;
            std::fill_n(g_s + i * k, i, 0.0);
        }
        if (round.round == 0)
            std::copy_n(g_s, k * k, r_s);
        else
            cblas_dtrmm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, k_, k_, 1.0, g_s, k_, r_s,
                        k_);
        double low = HUGE_VAL, high = 0.0;
        for (Index j = 0; j < k; ++j) {
            log_r[s * k + j] = std::log(r_s[j * k + j]);
            low = std::min(low, g_s[j * k + j]);
            high = std::max(high, g_s[j * k + j]);
            if (column == 0 && round.round > 0 && !(g_s[j * k + j] >= qr_lost_rank)) column = j + 1;
        }
        findings.strain[s] = std::max(findings.strain[s], strain(k, r_s, k));
        const bool doubt = round.last && round.round == 0 && high > qr_second_round_ratio * low;
        if (findings.failure[2 * s] != 0 || (column == 0 && !doubt)) continue;
        findings.failure[2 * s] = static_cast<std::int32_t>(round.step);
        findings.failure[2 * s + 1] = static_cast<std::int32_t>(column);
    }
}

void CpuBackend::divide_by_r(Index b, Index k, Index D, const double* r, float* x) {
    if (D == 0) return;  // BLAS rejects it
    double* const wide = scratch<double>(b * k * D);
    if (counting()) return;
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        double* x_s = widened(wide + s * k * D, x + s * k * D, k * D);
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, static_cast<int>(k),
                    static_cast<int>(D), 1.0, r + s * k * k, static_cast<int>(k), x_s, static_cast<int>(D));
        rounded(x_s, x + s * k * D, k * D);
    }
}

void CpuBackend::householder(Index b, Index k, Index D, float* x, double* r, double* log_r, std::int32_t* info) {
    double* const a = scratch<double>(k * D + k);
    if (counting()) return;
    double* const tau = a + k * D;
    for (Index s = 0; s < b; ++s) {
        widened(a, x + s * k * D, k * D);
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
            log_r[s * k + j] = std::log(r_s[j * k + j]);
            for (Index i = 0; i < D; ++i) a[j * D + i] *= sign;
            rounded(a + j * D, x + (s * k + j) * D, D);
        }
    }
}

void CpuBackend::qr_backward(Index b, Index k, Index D, const float* q, const double* r, const double* weight,
                             double* qbq, float* qb) {
    double* const wide_q = scratch<double>(2 * b * k * D);
    if (counting()) return;
    double* const wide_qb = wide_q + b * k * D;
    const int k_ = static_cast<int>(k), D_ = static_cast<int>(D);
#pragma omp parallel for num_threads(threads_) if (b > 1)
    for (Index s = 0; s < b; ++s) {
        const double *r_s = r + s * k * k, *w_s = weight + s * k;
        double* c = qbq + s * k * k;
        for (Index i = 0; i < k; ++i)  // only the lower triangle of M is needed
            for (Index j = 0; j <= i; ++j)
                c[j * k + i] = c[i * k + j] = r_s[i * k + j] * (w_s[j] / r_s[j * k + j]) - c[i * k + j];
        if (D == 0) continue;  // BLAS rejects it
        const Index at = s * k * D;
        const double* q_s = widened(wide_q + at, q + at, k * D);
        double* x = widened(wide_qb + at, qb + at, k * D);
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k_, D_, k_, 1.0, c, k_, q_s, D_, 1.0, x, D_);
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, k_, D_, 1.0, r_s, k_, x, D_);
        rounded(x, qb + at, k * D);
    }
}

}  // namespace spikefloss
