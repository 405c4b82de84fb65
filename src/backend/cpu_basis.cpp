#include "backend/cpu_basis.hpp"

#include "backend/lane.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// A block of a basis widened to double is to fit into the first-level cache.
constexpr Index block_doubles = 3328;

// Lanes of columns that are substituted together.
constexpr int tile_lanes = 3;

Index block_columns(Index k) { return std::max<Index>(16, block_doubles / padded_k(k) / 16 * 16); }

// to[row, 0 .. columns) = x[row, first .. first + columns), zero rows up to padded_k.
void widen_block(Index k, const float* x, Index stride, Index first, Index columns, double* to) {
    for (Index row = 0; row < k; ++row)
        for (Index c = 0; c < columns; c += wide_lane_size)
            store(to + row * columns + c, load_wide(x + row * stride + first + c));
    std::fill(to + k * columns, to + padded_k(k) * columns, 0.0);
}

// g[r, 0..4) (+)= x_r . y_c over `columns` columns.
template <int R>
void gram_tile(const double* x, const double* y, Index columns, double* g, Index g_stride, bool accumulate) {
    WideLane sum[R][4];
#pragma GCC unroll 3
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) sum[r][c] = zero_wide_lane();
    for (Index d = 0; d < columns; d += wide_lane_size) {
        WideLane x_d[R];
#pragma GCC unroll 3
        for (int r = 0; r < R; ++r) x_d[r] = load(x + r * columns + d);
#pragma GCC unroll 4
        for (int c = 0; c < 4; ++c) {
            const WideLane y_d = load(y + c * columns + d);
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

// a[r, lane] = rows j .. j + 3 of x minus what the rows before them take away.
template <int lanes>
inline void subtract_rows(const LowerTriangle& l, Index j, const double* x, Index x_stride, WideLane (&a)[4][lanes]) {
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row)
#pragma GCC unroll 3
        for (int c = 0; c < lanes; ++c) a[row][c] = load(x + (j + row) * x_stride + c * wide_lane_size);
    for (Index p = 0; p < j; ++p) {
        WideLane x_p[lanes];
#pragma GCC unroll 3
        for (int c = 0; c < lanes; ++c) x_p[c] = load(x + p * x_stride + c * wide_lane_size);
#pragma GCC unroll 4
        for (int row = 0; row < 4; ++row) {
            const WideLane factor = repeat(l.data[p * l.inner + (j + row) * l.outer]);
#pragma GCC unroll 3
            for (int c = 0; c < lanes; ++c) a[row][c] = subtract_product(factor, x_p[c], a[row][c]);
        }
    }
}

// Rows j .. j + 3 of L^-1 x, given those before, with 1 / L_jj of the four in `inverse`.
template <int lanes>
void substitute_rows(const LowerTriangle& l, const double* inverse, Index j, double* x, Index x_stride) {
    WideLane a[4][lanes];
    subtract_rows(l, j, x, x_stride, a);
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
#pragma GCC unroll 4
        for (int before = 0; before < row; ++before) {
            const WideLane factor = repeat(l.data[(j + before) * l.inner + (j + row) * l.outer]);
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

// At most tile_lanes lanes of them.
void substitute_rows(Index lanes, const LowerTriangle& l, const double* inverse, Index j, double* x, Index x_stride) {
    if (lanes >= 3) return substitute_rows<3>(l, inverse, j, x, x_stride);
    if (lanes == 2) return substitute_rows<2>(l, inverse, j, x, x_stride);
    substitute_rows<1>(l, inverse, j, x, x_stride);
}

}  // namespace

Index basis_scratch(Index k) { return padded_k(k) * (2 * block_columns(k) + tile_lanes * wide_lane_size + 1); }

void gram(Index k, Index D, Index stride, const float* x, const float* y, double* g, double* scratch, Index member,
          Index members) {
    const Index g_stride = padded_k(k), size = block_columns(k);
    double *x_block = scratch, *y_block = x == y ? x_block : scratch + padded_k(k) * size;
    for (Index first = 0; first < D; first += size) {
        const Index columns = std::min(size, D - first);
        widen_block(k, x, stride, first, columns, x_block);
        if (x != y) widen_block(k, y, stride, first, columns, y_block);
        for (Index i = 3 * member; i < k; i += 3 * members)
            for (Index j = i / 4 * 4; j < k; j += 4) {
                const double *x_i = x_block + i * columns, *y_j = y_block + j * columns;
                double* g_ij = g + i * g_stride + j;
                if (k - i >= 3)
                    gram_tile<3>(x_i, y_j, columns, g_ij, g_stride, first > 0);
                else if (k - i == 2)
                    gram_tile<2>(x_i, y_j, columns, g_ij, g_stride, first > 0);
                else
                    gram_tile<1>(x_i, y_j, columns, g_ij, g_stride, first > 0);
            }
    }
}

// The rows of R are those of G substituted by themselves: R = R^-T G.
Index factorise(Index k, double* g) {
    const Index stride = padded_k(k);
    for (Index i = 0; i < stride; ++i)
        for (Index j = i < k ? k : i; j < stride; ++j) g[i * stride + j] = i == j ? 1.0 : 0.0;
    double inverse[4];
    for (Index j = 0; j < stride; j += 4) {
        WideLane a[4][1];
        subtract_rows(transpose_of(k, g), j, g + j, stride, a);
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
            substitute_rows((stride - c) / wide_lane_size, transpose_of(k, g), inverse, j, g + c, stride);
    }
    return 0;
}

LowerTriangle reverse_of(Index k, const double* r, double* padded) {
    const Index stride = padded_k(k), pad = stride - k;
    for (Index i = 0; i < pad; ++i)
        for (Index j = 0; j < stride; ++j) padded[i * stride + j] = i == j ? 1.0 : 0.0;
    for (Index i = 0; i < k; ++i) std::copy_n(r + i * k, k, padded + (pad + i) * stride + pad);
    return {padded + stride * stride - 1, -1, -stride};
}

void substitute(Index k, const LowerTriangle& l, float* x, Index stride, Index begin, Index end, double* scratch) {
    constexpr Index width = tile_lanes * wide_lane_size;
    const Index rows = padded_k(k);
    double *inverse = scratch, *columns = scratch + rows;
    for (Index j = 0; j < rows; ++j) inverse[j] = 1.0 / l.data[j * (l.inner + l.outer)];
    std::fill(columns + k * width, columns + rows * width, 0.0);
    if (l.inner < 0) {
        x += (k - 1) * stride;
        stride = -stride;
    }
    for (Index at = begin; at < end; at += width) {
        const Index lanes = std::min<Index>(tile_lanes, (end - at) / wide_lane_size);
        for (Index row = 0; row < k; ++row)
            for (Index c = 0; c < lanes * wide_lane_size; c += wide_lane_size)
                store(columns + row * width + c, load_wide(x + row * stride + at + c));
        for (Index j = 0; j < rows; j += 4) substitute_rows(lanes, l, inverse + j, j, columns, width);
        for (Index row = 0; row < k; ++row)
            for (Index c = 0; c < lanes * wide_lane_size; c += wide_lane_size)
                store(x + row * stride + at + c, load(columns + row * width + c));
    }
}

}  // namespace spikefloss
