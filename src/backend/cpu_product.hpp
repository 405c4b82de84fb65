// Products of a few rows with a matrix, in registers: out[r, col] (+)= sum over j of a(r, j) w[j, col]. Every element
// is one chain of multiply-adds in the order of j, however rows and columns are shared out: so results do not depend on
// who computes what, which BLAS does not promise.
#pragma once

#include "backend/lane.hpp"
#include "core/view.hpp"

#include <algorithm>

namespace spikefloss {

// Columns handled together; rows of padded arrays are a whole number of tiles.
inline constexpr Index tile = 2 * lane_size;
inline Index padded(Index n) { return (n + tile - 1) / tile * tile; }

// The left factor: a(r, j) lies at data[r * row + j * inner].
struct LeftFactor {
    const float* data;
    Index row, inner;
};

// The right factor in panels of 16 columns: w[j, 16 p + c] lies at data[p * panel + j * stride + c].
struct RightFactor {
    const float* data;
    Index stride, panel = tile;
};

template <int R>
void multiply_tile(Index inner, LeftFactor a, const float* w, Index w_stride, float* out, Index out_stride,
                   bool accumulate) {
    Lane low[R], high[R];
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
        low[r] = accumulate ? load(out + r * out_stride) : zero_lane();
        high[r] = accumulate ? load(out + r * out_stride + lane_size) : zero_lane();
    }
    for (Index j = 0; j < inner; ++j) {
        const Lane w0 = load(w + j * w_stride), w1 = load(w + j * w_stride + lane_size);
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            const Lane x = repeat(a.data[r * a.row + j * a.inner]);
            low[r] = multiply_add(x, w0, low[r]);
            high[r] = multiply_add(x, w1, high[r]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
        store(out + r * out_stride, low[r]);
        store(out + r * out_stride + lane_size, high[r]);
    }
}

// columns: a multiple of 16.
inline void multiply(Index rows, Index columns, Index inner, LeftFactor a, RightFactor w, float* out, Index out_stride,
                     bool accumulate) {
    const Index groups = (rows + 5) / 6;
    for (Index at = 0; at < columns; at += tile)
        for (Index group = 0; group < groups; ++group) {
            const Index first = rows * group / groups, count = rows * (group + 1) / groups - first;
            const LeftFactor part{a.data + first * a.row, a.row, a.inner};
            const float* panel = w.data + at / tile * w.panel;
            float* to = out + first * out_stride + at;
            switch (count) {
                case 1: multiply_tile<1>(inner, part, panel, w.stride, to, out_stride, accumulate); break;
                case 2: multiply_tile<2>(inner, part, panel, w.stride, to, out_stride, accumulate); break;
                case 3: multiply_tile<3>(inner, part, panel, w.stride, to, out_stride, accumulate); break;
                case 4: multiply_tile<4>(inner, part, panel, w.stride, to, out_stride, accumulate); break;
                case 5: multiply_tile<5>(inner, part, panel, w.stride, to, out_stride, accumulate); break;
                default: multiply_tile<6>(inner, part, panel, w.stride, to, out_stride, accumulate);
            }
        }
}

// W [n, n] (or W', transposed) as panels [padded(n) / 16][n][16], padded with zeros.
inline void pack_panels(const float* w, Index n, bool transposed, float* panels) {
    const Index width = padded(n);
    for (Index j = 0; j < n; ++j)
        for (Index c = 0; c < width; ++c)
            panels[c / tile * n * tile + j * tile + c % tile] =
                c >= n ? 0.0f : (transposed ? w[c * n + j] : w[j * n + c]);
}

}  // namespace spikefloss
