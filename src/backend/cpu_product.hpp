// Products of a few rows with a matrix, in registers: out[r, col] (+)= sum over j of a(r, j) w[j, col]. Every element
// is one chain of multiply-adds in the order of j. So results do not depend on how rows and columns are distributed
// over threads. BLAS does not guarantee this.
#pragma once

#include "backend/lane.hpp"
#include "core/view.hpp"

#include <algorithm>
#include <cstdint>
#include <type_traits>

namespace spikefloss {

// Rows of padded arrays are a whole number of tiles.
inline Index padded(Index n) { return (n + tile - 1) / tile * tile; }

// The left factor: a(r, j) is at data[r * row + j * inner].
struct LeftFactor {
    const float* data;
    Index row, inner;
};

// The right factor in panels of 16 columns: w[j, 16 p + c] is at data[p * panel + j * stride + c].
struct RightFactor {
    const float* data;
    Index stride, panel = tile;
    // [panels, filled_blocks(inner)] whether a block of weights has one that is not 0, as of find_filled; null: all
    // have. The others are left out: in networks of layers most weights can be 0.
    const std::uint8_t* filled = nullptr;
};

// Rows of W of such a block.
inline constexpr Index filled_block = 64;
inline Index filled_blocks(Index inner) { return (inner + filled_block - 1) / filled_block; }

// `rows` rows, at most R, of C tiles of columns. Those of w are `panel` floats apart, those of out side by side.
template <int C, int R = tile_rows>
void multiply_tiles(Index rows, Index inner, LeftFactor a, const float* w, Index w_stride, Index panel, float* out,
                    Index out_stride, bool accumulate) {
    if constexpr (R > 1)
        if (rows < R) return multiply_tiles<C, R - 1>(rows, inner, a, w, w_stride, panel, out, out_stride, accumulate);
    Tile sum[R][C];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) sum[r][c] = accumulate ? load_tile(out + r * out_stride + c * tile) : zero_tile();
    for (Index j = 0; j < inner; ++j) {
        Tile w_j[C];
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) keep(w_j[c] = load_tile(w + c * panel + j * w_stride));
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
            for (int c = 0; c < C; ++c) sum[r][c] = multiply_add(a.data[r * a.row + j * a.inner], w_j[c], sum[r][c]);
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) store(out + r * out_stride + c * tile, sum[r][c]);
}

// Calls work(tiles, column) for the tiles of columns [begin, end), tile_columns at a time and the rest one by one.
// tiles is an integral constant.
template <class Work>
void for_tiles(Index begin, Index end, Work&& work) {
    Index at = begin;
    for (; at + tile_columns * tile <= end; at += tile_columns * tile)
        work(std::integral_constant<int, tile_columns>{}, at);
    for (; at < end; at += tile) work(std::integral_constant<int, 1>{}, at);
}

// How much of the inner length and how many rows are taken at a time. With these sizes both factors of the inner loops
// stay in the first-level cache for any size of W.
inline constexpr Index inner_block = 256, row_block = 48;

// From this many columns on, the left factor is copied, so that its rows do not evict each other from the cache.
inline constexpr Index copy_from = 8 * tile;

// Rows first .. first + count of the left factor, side by side: to[j count + r].
inline void pack_rows(LeftFactor a, Index first, Index count, Index begin, Index size, float* to) {
    const float* const from = a.data + first * a.row + begin * a.inner;
    if (a.inner == 1) return copy_transposed(from, a.row, count, size, to, count);
    for (Index r = 0; r < count; ++r)
        for (Index j = 0; j < size; ++j) to[j * count + r] = from[r * a.row + j * a.inner];
}

// Calls work(from, length, whether there was one before) for the parts of rows [begin, begin + size) of w in which
// tiles [panel, panel + tiles) have weights; once with length 0 if there are none. begin: a multiple of filled_block.
template <class Work>
void for_filled(const RightFactor& w, Index panel, Index tiles, Index inner, Index begin, Index size, Work&& work) {
    if (!w.filled) return work(0, size, false);
    const Index blocks = filled_blocks(inner);
    const auto is_filled = [&](Index from) {
        const Index block = panel * blocks + (begin + from) / filled_block;
        return w.filled[block] || (tiles > 1 && w.filled[block + blocks]);
    };
    bool later = false;
    for (Index from = 0; from < size; from += filled_block) {
        if (!is_filled(from)) continue;
        Index end = from + filled_block;
        while (end < size && is_filled(end)) end += filled_block;
        work(from, std::min(end, size) - from, later);
        later = true, from = end;
    }
    if (!later) work(0, 0, false);
}

// columns: a multiple of 16.
inline void multiply(Index rows, Index columns, Index inner, LeftFactor a, RightFactor w, float* out, Index out_stride,
                     bool accumulate) {
    float copies[row_block * inner_block];
    LeftFactor parts[row_block / tile_rows];
    const bool copy = columns >= copy_from;
    for (Index top = 0; top < rows; top += row_block) {
        const Index height = std::min(row_block, rows - top), groups = (height + tile_rows - 1) / tile_rows;
        const auto first = [&](Index group) { return height * group / groups; };
        for (Index begin = 0; begin < std::max<Index>(inner, 1); begin += inner_block) {
            const Index size = std::min(inner_block, inner - begin);
            const bool add = accumulate || begin > 0;
            for (Index group = 0; group < groups; ++group) {
                const Index count = first(group + 1) - first(group);
                float* copied = copies + first(group) * inner_block;
                if (copy) pack_rows(a, top + first(group), count, begin, size, copied);
                parts[group] =
                    copy ? LeftFactor{copied, 1, count}
                         : LeftFactor{a.data + (top + first(group)) * a.row + begin * a.inner, a.row, a.inner};
            }
            for_tiles(0, columns, [&](auto tiles, Index at) {
                const float* panel = w.data + at / tile * w.panel + begin * w.stride;
                for_filled(w, at / tile, tiles, inner, begin, size, [&](Index from, Index length, bool later) {
                    for (Index group = 0; group < groups; ++group) {
                        LeftFactor part = parts[group];
                        part.data += from * part.inner;
                        multiply_tiles<tiles>(first(group + 1) - first(group), length, part, panel + from * w.stride,
                                              w.stride, w.panel, out + (top + first(group)) * out_stride + at,
                                              out_stride, add || later);
                    }
                });
            });
        }
    }
}

// Below this many multiply-adds one thread computes a product.
inline constexpr double parallel_products = 1e6;
inline int threads_for_product(int threads, Index rows, Index columns, Index inner) {
    return static_cast<double>(rows * columns) * static_cast<double>(inner) >= parallel_products ? threads : 1;
}

// A product with a factor of up to this many rows or columns takes as long as reading or writing the other one. BLAS
// copies both, or writes its result several times.
inline constexpr Index narrow = 32;

// W [m, n] as panels [padded(n) / 16][m][16], padded with zeros. pack_transposed of cpu_sparse.hpp does so with W'.
void pack_panels(int threads, Matrix<const float> w, float* panels);

// Of panels [count][m][16]. filled: [count, filled_blocks(m)]. Returns whether some blocks are not filled.
bool find_filled(int threads, const float* panels, Index count, Index m, std::uint8_t* filled);

}  // namespace spikefloss
