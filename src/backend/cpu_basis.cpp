#include "backend/cpu_basis.hpp"

#include "backend/cpu_product.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// A block of a basis, or of two, fits into the first-level cache.
constexpr Index block_bytes = 26624;

// Lanes of columns that are substituted together.
constexpr int tile_lanes = 3;

Index block_columns(Index k, std::size_t bytes) {
    return std::max<Index>(16, block_bytes / static_cast<Index>(bytes) / padded_k(k) / 16 * 16);
}

// to[row, 0 .. columns) = x[row, 0 .. columns), zero rows up to padded_k.
void widen_block(Index k, const float* x, Index stride, Index columns, double* to) {
    for (Index row = 0; row < k; ++row)
        for (Index c = 0; c < columns; c += wide_lane_size)
            store(to + row * columns + c, load_wide(x + row * stride + c));
    std::fill(to + k * columns, to + padded_k(k) * columns, 0.0);
}

// g[r, 0..4) (+)= x_r . y_c over `columns` columns; rows of x and y are `stride` apart.
template <int R, class T>
void gram_tile(const T* x, const T* y, Index stride, Index columns, double* g, Index g_stride, bool accumulate) {
    using Lanes = decltype(load(x));
    constexpr Index size = sizeof(Lanes) / sizeof(T);
    Lanes sum[R][4];
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) sum[r][c] = Lanes{};
    for (Index d = 0; d < columns; d += size) {
        Lanes x_d[R];
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r) x_d[r] = load(x + r * stride + d);
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) {
            const Lanes y_d = load(y + c * stride + d);
#pragma GCC unroll 3
            for (int r = 0; r < R; ++r) sum[r][c] = multiply_add(x_d[r], y_d, sum[r][c]);
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r) {
        const WideLane four = sums(sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
        store(g + r * g_stride, accumulate ? add(load(g + r * g_stride), four) : four);
    }
}

// One member's share of g (+)= x y' over a block of columns.
template <class T>
void gram_block(Index k, const T* x, const T* y, Index stride, Index columns, double* g, bool accumulate, Index member,
                Index members) {
    const Index g_stride = padded_k(k);
    for (Index i = 3 * member; i < k; i += 3 * members)
        for (Index j = i / 4 * 4; j < k; j += 4) {
            const T *x_i = x + i * stride, *y_j = y + j * stride;
            double* g_ij = g + i * g_stride + j;
            if (k - i >= 3)
                gram_tile<3>(x_i, y_j, stride, columns, g_ij, g_stride, accumulate);
            else if (k - i == 2)
                gram_tile<2>(x_i, y_j, stride, columns, g_ij, g_stride, accumulate);
            else
                gram_tile<1>(x_i, y_j, stride, columns, g_ij, g_stride, accumulate);
        }
}

// a[r, lane] = rows j .. j + 3 of x minus the contributions of rows first .. j - 1 of L^-1 x; L = R'.
template <int lanes>
inline void subtract_rows(const double* r, Index r_stride, Index first, Index j, const double* x, Index x_stride,
                          WideLane (&a)[4][lanes]) {
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row)
#pragma GCC unroll 3
        for (int c = 0; c < lanes; ++c) a[row][c] = load(x + (j + row) * x_stride + c * wide_lane_size);
    for (Index p = first; p < j; ++p) {
        WideLane x_p[lanes];
#pragma GCC unroll 3
        for (int c = 0; c < lanes; ++c) x_p[c] = load(x + p * x_stride + c * wide_lane_size);
#pragma GCC unroll 4
        for (int row = 0; row < 4; ++row) {
            const WideLane factor = repeat(r[p * r_stride + j + row]);
#pragma GCC unroll 3
            for (int c = 0; c < lanes; ++c) a[row][c] = subtract_product(factor, x_p[c], a[row][c]);
        }
    }
}

// Rows j .. j + 3 of L^-1 x from its rows first .. j - 1; rows before `first` are 0. inverse: 1 / L_jj of the four.
template <int lanes>
void substitute_rows(const double* r, Index r_stride, const double* inverse, Index first, Index j, double* x,
                     Index x_stride) {
    WideLane a[4][lanes];
    subtract_rows(r, r_stride, first, j, x, x_stride, a);
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
#pragma GCC unroll 4
        for (int before = 0; before < row; ++before) {
            const WideLane factor = repeat(r[(j + before) * r_stride + j + row]);
#pragma GCC unroll 3
            for (int c = 0; c < lanes; ++c) a[row][c] = subtract_product(factor, a[before][c], a[row][c]);
        }
        const WideLane factor = repeat(inverse[row]);
#pragma GCC unroll 3
        for (int c = 0; c < lanes; ++c) {
            a[row][c] = multiply(factor, a[row][c]);
            store(x + (j + row) * x_stride + c * wide_lane_size, a[row][c]);
        }
    }
}

// The same, for at most tile_lanes lanes.
void substitute_rows(Index lanes, const double* r, Index r_stride, const double* inverse, Index first, Index j,
                     double* x, Index x_stride) {
    if (lanes >= 3) return substitute_rows<3>(r, r_stride, inverse, first, j, x, x_stride);
    if (lanes == 2) return substitute_rows<2>(r, r_stride, inverse, first, j, x, x_stride);
    substitute_rows<1>(r, r_stride, inverse, first, j, x, x_stride);
}

void invert_diagonal(Index k, const double* r, double* inverse) {
    for (Index j = 0; j < padded_k(k); ++j) inverse[j] = 1.0 / r[j * (padded_k(k) + 1)];
}

}  // namespace

Index basis_scratch(Index k) {
    const Index rows = padded_k(k), blocks = rows * std::max(block_columns(k, 8), 2 * block_columns(k, 16));
    return rows + std::max({blocks, rows * rows, rows * tile_lanes * wide_lane_size});
}

void gram(GramSums sums, Index k, Index D, Index stride, const float* x, const float* y, double* g, double* scratch,
          Index member, Index members) {
    const bool one = x == y, widen = sums == GramSums::float64;
    const Index size = block_columns(k, one ? 8 : widen ? 16 : 8);
    double *wide_x = scratch, *wide_y = one ? wide_x : scratch + padded_k(k) * size;
    for (Index first = 0; first < D; first += size) {
        const Index columns = std::min(size, D - first);
        if (widen) {
            widen_block(k, x + first, stride, columns, wide_x);
            if (!one) widen_block(k, y + first, stride, columns, wide_y);
            gram_block(k, wide_x, wide_y, columns, columns, g, first > 0, member, members);
        } else {
            gram_block(k, x + first, y + first, stride, columns, g, first > 0, member, members);
        }
    }
}

// R = R^-T G by substitution: a row of R needs only the rows before it.
Index factorise(Index k, double* g) {
    const Index stride = padded_k(k);
    for (Index i = 0; i < stride; ++i)
        for (Index j = i < k ? k : i; j < stride; ++j) g[i * stride + j] = i == j ? 1.0 : 0.0;
    double inverse[4];
    for (Index j = 0; j < stride; j += 4) {
        WideLane a[4][1];
        subtract_rows(g, stride, 0, j, g + j, stride, a);
        double d[4][4];
        for (int row = 0; row < 4; ++row) store(d[row], a[row][0]);
        for (int row = 0; row < 4; ++row) {
            if (!(d[row][row] > 0.0 && std::isfinite(d[row][row]))) return j + row + 1;
            const double root = std::sqrt(d[row][row]);
            inverse[row] = 1.0 / root;
            d[row][row] = root;
            for (int c = row + 1; c < 4; ++c) d[row][c] *= inverse[row];
            for (int i = row + 1; i < 4; ++i)
                for (int c = i; c < 4; ++c) d[i][c] = std::fma(-d[row][i], d[row][c], d[i][c]);
        }
        for (int row = 0; row < 4; ++row) std::copy(d[row], d[row] + 4, g + (j + row) * stride + j);
        for (Index c = j + 4; c < stride; c += tile_lanes * wide_lane_size)
            substitute_rows((stride - c) / wide_lane_size, g, stride, inverse, 0, j, g + c, stride);
    }
    return 0;
}

double strain(Index k, const double* r, Index stride) {
    double largest = 0.0;
    for (Index j = 0; j < k; ++j) {
        double column = 0.0;  // |A_j|^2
        for (Index i = 0; i <= j; ++i) column += r[i * stride + j] * r[i * stride + j];
        const double log_r = std::log(r[j * stride + j]);
        largest = std::max({largest, 0.5 * std::log(column) - log_r, std::abs(log_r) / 8.0});
    }
    return largest;
}

void pad(Index k, const double* r, double* padded) {
    const Index stride = padded_k(k);
    std::fill_n(padded, stride * stride, 0.0);
    for (Index i = 0; i < k; ++i) std::copy_n(r + i * k, k, padded + i * stride);
    for (Index i = k; i < stride; ++i) padded[i * (stride + 1)] = 1.0;
}

double invert(Index k, const double* r, float* inverse, double* scratch) {
    const Index stride = padded_k(k);
    double *diagonal = scratch, *x = scratch + stride;
    invert_diagonal(k, r, diagonal);
    std::fill_n(x, stride * stride, 0.0);
    for (Index j = 0; j < stride; ++j) x[j * (stride + 1)] = 1.0;
    // Column c of L^-1 is zero above row c.
    for (Index j = 0; j < stride; j += 4)
        for (Index c = 0; c < j + 4; c += tile_lanes * wide_lane_size)
            substitute_rows((j + 4 - c) / wide_lane_size, r, stride, diagonal + j, c, j, x + c, stride);
    std::copy_n(x, stride * stride, inverse);
    double* norms = diagonal;  // |A_p| = |R_p|
    std::fill_n(norms, stride, 0.0);
    for (Index p = 0; p < k; ++p)
        for (Index j = p; j < k; ++j) norms[j] += r[p * stride + j] * r[p * stride + j];
    for (Index p = 0; p < k; ++p) norms[p] = std::sqrt(norms[p]);
    double largest = 0.0;
    for (Index j = 0; j < k; ++j) {
        const double* row = x + j * stride;
        largest = std::max(largest, sum_in_lanes<wide_lane_size, double>(
                                        j + 1, [&](double sum, Index p) { return sum + std::abs(row[p]) * norms[p]; }));
    }
    return largest;
}

// In place: a row of the result replaces one that no later row needs. A lower triangle is taken from the last row up,
// an upper one from the first row down.
void divide(Index k, Transpose op, const float* inverse, float* x, Index stride, Index begin, Index end) {
    const Index width = padded_k(k), groups = (k + tile_rows - 1) / tile_rows;
    for_tiles(begin, end, [&](auto tiles, Index at) {
        for (Index i = 0; i < groups; ++i) {
            const Index group = op == Transpose::no ? groups - 1 - i : i;
            const Index first = k * group / groups, last = k * (group + 1) / groups;
            float* const column = x + at;
            if (op == Transpose::no)
                multiply_tiles<tiles>(last - first, last, {inverse + first * width, width, 1}, column, stride, tile,
                                      column + first * stride, stride, false);
            else
                multiply_tiles<tiles>(last - first, k - first, {inverse + first * (width + 1), 1, width},
                                      column + first * stride, stride, tile, column + first * stride, stride, false);
        }
    });
}

void substitute(Index k, const double* r, float* x, Index stride, Index begin, Index end, double* scratch) {
    constexpr Index width = tile_lanes * wide_lane_size;
    const Index rows = padded_k(k);
    double *inverse = scratch, *columns = scratch + rows;
    invert_diagonal(k, r, inverse);
    std::fill(columns + k * width, columns + rows * width, 0.0);
    for (Index at = begin; at < end; at += width) {
        const Index lanes = std::min<Index>(tile_lanes, (end - at) / wide_lane_size);
        for (Index row = 0; row < k; ++row)
            for (Index c = 0; c < lanes * wide_lane_size; c += wide_lane_size)
                store(columns + row * width + c, load_wide(x + row * stride + at + c));
        for (Index j = 0; j < rows; j += 4) substitute_rows(lanes, r, rows, inverse + j, 0, j, columns, width);
        for (Index row = 0; row < k; ++row)
            for (Index c = 0; c < lanes * wide_lane_size; c += wide_lane_size)
                store(x + row * stride + at + c, load(columns + row * width + c));
    }
}

}  // namespace spikefloss
