// Products with rows that are mostly zeros (spikes or inputs). The CPU backend visits only the entries that are not 0:
//   gather   out[r] += sum over entries (r, j) of x[r, j] w[j]
//   scatter  sum[j] += sum over rows r of x[r, j] g[r]
// w, g, sum and out are panels of a few columns, so that the panel that all rows share stays in cache. A sum runs in
// the order of j (gather) or r (scatter), on any number of threads.
#pragma once

#include "backend/arena.hpp"
#include "backend/backend.hpp"
#include "backend/cpu_product.hpp"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <type_traits>

namespace spikefloss {

// Above this share of entries a dense product is cheaper.
inline constexpr double dense_rate = 0.3;

// From this many rows, and columns of the other factor, listing the entries saves time.
inline constexpr Index least_rows = 256, least_columns = 8;

// The same for sums over rows of spikes, which need no copy of the weights.
inline constexpr Index least_spike_rows = 64;

// The most columns of a panel: eight lanes.
inline constexpr Index panel_columns = 8 * lane_size;

// The columns of one of `parts` nearly equal parts of width, in whole tiles.
struct Columns {
    Index begin, size;
    Columns(Index width, Index part, Index parts)
        : begin(width / tile * part / parts * tile), size(width / tile * (part + 1) / parts * tile - begin) {}
};
// The number of panels of `width` columns: at least `wanted`, if they can be two tiles wide.
inline Index panels_of(Index width, Index wanted = 1) {
    return std::max((width + panel_columns - 1) / panel_columns, std::min(wanted, width / (2 * tile)));
}

// Calls work with the number of lanes, even and at most 8, as an integral constant.
template <class Work>
void with_lanes(Index lanes, Work&& work) {
    switch (lanes) {
        case 2: return work(std::integral_constant<int, 2>{});
        case 4: return work(std::integral_constant<int, 4>{});
        case 6: return work(std::integral_constant<int, 6>{});
        default: return work(std::integral_constant<int, 8>{});
    }
}

// The entries of rows, by blocks of columns. Block c and row r have the elements [begin(c, r), end(c, r)) of
// indices(c).
struct SparseRows {
    Index rows = 0, columns = 0;
    Index block = 0;                 // columns that are listed together, <= 65536
    Index capacity = 0;              // entries that a block has room for
    std::uint32_t* ends = nullptr;   // [blocks, rows + 1], the first of each 0
    std::uint16_t* index = nullptr;  // [blocks, capacity] columns within their block
    float* value = nullptr;          // [blocks, capacity]; null: all entries are 1

    Index blocks() const { return (columns + block - 1) / block; }
    Index begin(Index c, Index r) const { return ends[c * (rows + 1) + r]; }
    Index end(Index c, Index r) const { return ends[c * (rows + 1) + r + 1]; }
    const std::uint16_t* indices(Index c) const { return index + c * capacity; }
    const float* values(Index c) const { return value + c * capacity; }
};

// Columns of spikes that are listed together. A block of a panel is then as large as a first-level cache.
inline constexpr Index spike_block = 128;

// Lists block c of the spikes in rows of bits.
inline void list_spikes(const SparseRows& list, Index c, const Activity& spikes) {
    std::uint32_t* ends = list.ends + c * (list.rows + 1);
    std::uint16_t* index = list.index + c * list.capacity;
    const Index first = c * list.block / 32, last = std::min(spike_words(list.columns), first + list.block / 32);
    Index count = 0;
    ends[0] = 0;
    for (Index r = 0; r < list.rows; ++r) {
        const std::uint32_t* const words = spikes.bits + spikes.before(r);
        for (Index w = first; w < last; ++w)
            for (std::uint32_t word = words[w]; word; word &= word - 1)
                index[count++] = static_cast<std::uint16_t>((w - first) * 32 + std::countr_zero(word));
        ends[r + 1] = static_cast<std::uint32_t>(count);
    }
}

// out [8 lanes] (+)= sum over the entries of row r in block c of x w[j]; w: the block's rows of a panel.
template <int lanes, bool valued>
void gather(const SparseRows& list, Index c, Index r, const float* w, bool accumulate, float* out) {
    const std::uint16_t* index = list.indices(c);
    Lane a[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) a[l] = accumulate ? load(out + l * lane_size) : zero_lane();
    for (Index e = list.begin(c, r), end = list.end(c, r); e < end; ++e) {
        const float* row = w + index[e] * lanes * lane_size;
        if constexpr (valued) {
            const Lane x = repeat(list.values(c)[e]);
#pragma GCC unroll 8
            for (int l = 0; l < lanes; ++l) a[l] = multiply_add(x, load(row + l * lane_size), a[l]);
        } else {
#pragma GCC unroll 8
            for (int l = 0; l < lanes; ++l) a[l] = add(a[l], load(row + l * lane_size));
        }
    }
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) store(out + l * lane_size, a[l]);
}

// sum[j] += x g for every entry of row r in block c; sum: the block's rows of a panel.
template <int lanes, bool valued>
void scatter(const SparseRows& list, Index c, Index r, const float* g, float* sum) {
    const std::uint16_t* index = list.indices(c);
    Lane a[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) a[l] = load(g + l * lane_size);
    for (Index e = list.begin(c, r), end = list.end(c, r); e < end; ++e) {
        float* row = sum + index[e] * lanes * lane_size;
        if constexpr (valued) {
            const Lane x = repeat(list.values(c)[e]);
#pragma GCC unroll 8
            for (int l = 0; l < lanes; ++l)
                store(row + l * lane_size, multiply_add(x, a[l], load(row + l * lane_size)));
        } else {
#pragma GCC unroll 8
            for (int l = 0; l < lanes; ++l) store(row + l * lane_size, add(load(row + l * lane_size), a[l]));
        }
    }
}

// Floats of the panels of a matrix with n columns and m rows.
inline Index panels_size(Index m, Index n) { return m * padded(n); }

// W' of W [n, m] in panels of its n columns, each [m, its size], padded with zeros.
void pack_transposed(int threads, Matrix<const float> w, float* panels);
void pack_transposed(int threads, Matrix<const float> w, Index parts, float* panels);  // `parts` panels

// sum += panel', 8 x 8 at a time. panel [m, size], of which the first `columns` are used.
void add_transposed(const float* panel, Index m, Index size, Index columns, float* sum, Index stride);

// out [rows, n] = X W'. X [rows, m], listed as one block; W' [m, n] in panels.
void gather_rows(const SparseRows& x, const float* panels, Index n, Matrix<float> out);

// sum [n, m] += G' X over rows; X in parts with the same columns; their rows follow one another. G [rows, n].
void scatter_rows(int threads, const SparseRows* x, Index parts, Matrix<const float> g, float* workspace,
                  Matrix<float> sum);
Index scatter_workspace(int threads, Index m);  // floats

// Room for lists of the entries of x [rows, cols], and for panels of floats.
class ListRoom {
public:
    // Lists of spikes in blocks of spike_block columns; or, in_parts, of all entries as one block, in parts of the
    // rows.
    ListRoom(const Activity& x, Index rows, Index cols, bool in_parts, Index floats);
    Index bytes() const;
    // Lists the entries, in `arena`. Returns false if they are not few.
    bool list(int threads, Arena arena);

    std::span<const SparseRows> parts() const { return {part_, static_cast<std::size_t>(count_)}; }
    float* panels() const { return panels_; }

private:
    Index first_row(Index part) const { return rows_ * part / count_; }
    Index most_entries() const;
    bool list_blocks(int threads);
    bool list_parts(int threads);
    bool list_in_shares(int threads);
    Activity x_;
    Index rows_;
    bool in_parts_;
    Index floats_, count_;
    SparseRows part_[8];
    float* panels_ = nullptr;
};

// out = x W'. Returns false if it takes less time by BLAS. The next: gradient += y' x.
bool project_listed(int threads, ListRoom& room, Arena arena, const Weights& w, Matrix<float> out);
bool add_outer_listed(int threads, ListRoom& room, Arena arena, Matrix<const float> y, Matrix<float> gradient);

}  // namespace spikefloss
