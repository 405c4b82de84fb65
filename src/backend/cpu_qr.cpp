// Batched QR of the tangent bases and its adjoint on the CPU backend. Bases are stored as k rows of n, which is
// LAPACK's column-major n x k; the k x k matrices are row-major doubles.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_basis.hpp"
#include "core/error.hpp"

#include <cblas.h>
#include <lapacke.h>
#include <omp.h>

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Below this many multiply-adds one thread computes.
constexpr Index parallel_elements = 1 << 15;

// A column counts as a combination of the earlier ones if less than this fraction of it remains. The value is between
// the rounding of double arithmetic, 2^-53, and the precision of float entries, 2^-24.
constexpr double lost_rank = 0x1p-40;

// Columns of a basis that a thread takes at a time, at most. Their sums do not depend on the threads.
constexpr Index most_columns = 1024;

Index blocks_of(Index columns) { return std::max<Index>(1, (columns + most_columns - 1) / most_columns); }

// Part `block` of [0, columns) in `blocks` parts.
ColumnRange part_of(Index columns, Index block, Index blocks) {
    return {columns * block / blocks, columns * (block + 1) / blocks};
}

// Calls work(s, block, thread) for every block of columns of every sequence. products: multiply-adds of all.
template <class Work>
void for_blocks_of(int threads, Index b, Index blocks, Index products, Work&& work) {
#pragma omp parallel for num_threads(threads) collapse(2) if (b * blocks > 1 && products > parallel_elements)
    for (Index s = 0; s < b; ++s)
        for (Index block = 0; block < blocks; ++block) work(s, block, Index{omp_get_thread_num()});
}

// Columns of x [k, D] widened to `to` [k, columns.size()].
double* widened(double* to, const float* x, Index k, Index D, const ColumnRange& columns) {
    const Index size = columns.size();
    for (Index j = 0; j < k; ++j)
        for (Index i = 0; i < size; ++i) to[j * size + i] = x[j * D + columns.begin + i];
    return to;
}

void rounded(const double* from, float* x, Index k, Index D, const ColumnRange& columns) {
    const Index size = columns.size();
    for (Index j = 0; j < k; ++j)
        for (Index i = 0; i < size; ++i) x[j * D + columns.begin + i] = static_cast<float>(from[j * size + i]);
}

}  // namespace

// In a block of a whole basis, the products of the membrane parts come before those of the current parts: results
// depend on this order.
void CpuBackend::gram(const BasisShape& shape, const float* x, const float* y, double* g, const ColumnRange* columns) {
    const Index k = shape.k, D = shape.D(), blocks = blocks_of(columns ? columns->size() : shape.n);
    const Index wide = k * ((D + blocks - 1) / blocks + 1), sums = blocks > 1 ? shape.b * blocks * k * k : 0;
    double* const memory = scratch<double>(sums + 2 * threads_ * wide);
    if (counting()) return;
    for_blocks_of(threads_, shape.b, blocks, shape.b * k * k * D, [&](Index s, Index block, Index thread) {
        double* const sum = (blocks > 1 ? memory : g) + (s * blocks + block) * k * k;
        double* const own = memory + sums + 2 * thread * wide;
        const auto add = [&](Index from, Index count, double keep) {
            const ColumnRange of = part_of(count, block, blocks), at{from + of.begin, from + of.end};
            const double* x_s = widened(own, x + s * k * D, k, D, at);
            const double* y_s = x == y ? x_s : widened(own + wide, y + s * k * D, k, D, at);
            const int k_ = static_cast<int>(k), size = static_cast<int>(at.size());
            cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, k_, k_, size, 1.0, x_s, std::max(1, size), y_s,
                        std::max(1, size), keep, sum, k_);
        };
        if (columns) return add(columns->begin, columns->size(), 0.0);
        add(shape.membrane(), D - shape.membrane(), 0.0);
        if (shape.current) add(0, shape.n, 1.0);
    });
    for (Index s = 0; blocks > 1 && s < shape.b; ++s)
        for (Index at = 0; at < k * k; ++at) {
            double sum = 0.0;
            for (Index block = 0; block < blocks; ++block) sum += memory[(s * blocks + block) * k * k + at];
            g[s * k * k + at] = sum;
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
#pragma omp parallel for num_threads(threads_) if (b > 1 && b * k * k * k > parallel_elements)
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
    const Index blocks = blocks_of(D), wide = k * (D / blocks + 1);
    double* const memory = scratch<double>(threads_ * wide);
    if (counting()) return;
    for_blocks_of(threads_, b, blocks, b * k * k * D, [&](Index s, Index block, Index thread) {
        const ColumnRange columns = part_of(D, block, blocks);
        double* const own = widened(memory + thread * wide, x + s * k * D, k, D, columns);
        const int k_ = static_cast<int>(k), size = static_cast<int>(columns.size());
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasTrans, CblasNonUnit, k_, size, 1.0, r + s * k * k, k_,
                    own, size);
        rounded(own, x + s * k * D, k, D, columns);
    });
}

void CpuBackend::householder(Index b, Index k, Index D, float* x, double* r, double* log_r, std::int32_t* info) {
    double* const a = scratch<double>(k * D + k);
    if (counting()) return;
    double* const tau = a + k * D;
    for (Index s = 0; s < b; ++s) {
        widened(a, x + s * k * D, k, D, {0, D});
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
            rounded(a + j * D, x + (s * k + j) * D, 1, D, {0, D});
        }
    }
}

void CpuBackend::qr_backward(Index b, Index k, Index D, const float* q, const double* r, const double* weight,
                             double* qbq, float* qb) {
    const Index blocks = blocks_of(D), wide = k * (D / blocks + 1);
    double* const memory = scratch<double>(2 * threads_ * wide);
    if (counting()) return;
#pragma omp parallel for num_threads(threads_) if (b > 1 && b * k * k > parallel_elements)
    for (Index s = 0; s < b; ++s) {
        const double *r_s = r + s * k * k, *w_s = weight + s * k;
        double* c = qbq + s * k * k;
        for (Index i = 0; i < k; ++i)  // only the lower triangle of M is needed
            for (Index j = 0; j <= i; ++j)
                c[j * k + i] = c[i * k + j] = r_s[i * k + j] * (w_s[j] / r_s[j * k + j]) - c[i * k + j];
    }
    if (D == 0) return;  // BLAS rejects it
    for_blocks_of(threads_, b, blocks, b * k * k * D, [&](Index s, Index block, Index thread) {
        const ColumnRange columns = part_of(D, block, blocks);
        const double* q_s = widened(memory + 2 * thread * wide, q + s * k * D, k, D, columns);
        double* x = widened(memory + (2 * thread + 1) * wide, qb + s * k * D, k, D, columns);
        const int k_ = static_cast<int>(k), size = static_cast<int>(columns.size());
        cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k_, size, k_, 1.0, qbq + s * k * k, k_, q_s, size, 1.0, x,
                    size);
        cblas_dtrsm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, k_, size, 1.0, r + s * k * k, k_,
                    x, size);
        rounded(x, qb + s * k * D, k, D, columns);
    });
}

}  // namespace spikefloss
