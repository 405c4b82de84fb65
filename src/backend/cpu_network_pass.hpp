// Whole passes of a small network on the CPU, with its inputs and its readout. A thread takes its sequences from x to y
// (cpu_network_pass.cpp) and from dz to all gradients (cpu_network_pass_backward.cpp), so that only x, u, spikes and y
// leave its cache.
#pragma once

#include "backend/cpu_passes.hpp"
#include "backend/cpu_state_pass.hpp"

#include <algorithm>
#include <cstdint>
#include <vector>

namespace spikefloss {

inline constexpr Index most_parts = 8;

// Steps that are taken together: forwards their spikes and readouts are then stored, backwards their adjoints summed.
inline constexpr Index slab = 32;

// The sums of a panel of W' fill at most three quarters of the registers.
inline constexpr int most_tiles = panel_tiles * 3 / 2;
inline constexpr Index widest_panel = most_tiles * tile;
inline std::vector<Columns> panels_in_registers(Index width) {
    const Index panels = (width + widest_panel - 1) / widest_panel;
    std::vector<Columns> columns;
    for (Index p = 0; p < panels; ++p) columns.emplace_back(width, p, panels);
    return columns;
}

struct BatchShape : StatePlan {
    Index width, parts;
    std::vector<Columns> panels;  // of the columns of W'

    explicit BatchShape(const StatePlan& plan)
        : StatePlan(plan), width(padded(N)), parts(std::min(b, most_parts)), panels(panels_in_registers(width)) {}
    Index first_of(Index part) const { return b * part / parts; }
    // The threads, of at most `most`, that take this number of steps.
    Index threads(Index most, Index count) const {
        return threads_for_steps(std::max<Index>(1, std::min(most, parts)), *this, count);
    }
};

// Calls work(first part, end of parts, first sequence, end) for groups of at most largest_group of a thread's
// sequences. A group is several whole parts, or a piece of one.
template <class Work>
void for_every_group(const BatchShape& shape, Index begin, Index end, Work&& work) {
    for (Index part = begin, next; part < end; part = next) {
        next = part + 1;
        while (next < end && shape.first_of(next + 1) - shape.first_of(part) <= largest_group) ++next;
        for (Index s = shape.first_of(part); s < shape.first_of(next); s += largest_group)
            work(part, next, s, std::min(s + largest_group, shape.first_of(next)));
    }
}

// sum (+)= rows index[0], index[1], ..., in order. The rows begin `stride` floats apart.
template <int tiles>
void add_rows(const std::uint16_t* index, Index count, const float* rows, Index stride, bool accumulate, float* sum) {
    Tile a[tiles];
#pragma GCC unroll 12
    for (int l = 0; l < tiles; ++l) a[l] = accumulate ? load_tile(sum + l * tile) : zero_tile();
    for (Index e = 0; e < count; ++e) {
        const float* row = rows + index[e] * stride;
#pragma GCC unroll 12
        for (int l = 0; l < tiles; ++l) a[l] = add(a[l], load_tile(row + l * tile));
    }
#pragma GCC unroll 12
    for (int l = 0; l < tiles; ++l) store(sum + l * tile, a[l]);
}

// out[j] = sum over m of x[m] w[m, j], m in order. w [count, width] has at least one row.
inline void combine_rows(Index count, const float* x, const float* w, Index width, float* out) {
    const float first = count > 0 ? x[0] : 0.0f;
#pragma omp simd
    for (Index j = 0; j < width; ++j) out[j] = first * w[j];
    for (Index m = 1; m < count; ++m)
#pragma omp simd
        for (Index j = 0; j < width; ++j) out[j] = fmaf(x[m], w[m * width + j], out[j]);
}

}  // namespace spikefloss
