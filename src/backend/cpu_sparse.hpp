// Products with rows that are mostly zeros (spikes or inputs). The CPU backend visits only the entries that are not 0:
//   project_listed     out[r] = sum over entries (r, j) of x[r, j] w[j], in the order of j
//   add_outer_listed   sum[j] += sum over entries (r, j) of x[r, j] y[r], in the order of r
// w, y, sum and out are taken in panels of a few columns. The part of a panel that many entries share stays in cache,
// and a sum stays in registers. No sum depends on the number of threads.
#pragma once

#include "backend/arena.hpp"
#include "backend/backend.hpp"
#include "backend/cpu_product.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <type_traits>

namespace spikefloss {

// Above this share of entries a dense product is cheaper.
inline constexpr double dense_rate = 0.3;

// From this many rows, and columns of the other factor, listing the entries saves time.
inline constexpr Index least_rows = 256, least_columns = 8;

// The same for sums over rows of spikes.
inline constexpr Index least_spike_rows = 64;

// The most columns of a panel.
inline constexpr Index panel_columns = panel_tiles * tile;

// The columns of one of `parts` nearly equal parts of width, in whole units of one or two tiles.
struct Columns {
    Index begin, size;
    Columns(Index width, Index part, Index parts, Index unit = tile) {
        const Index units = (width + unit - 1) / unit;
        begin = std::min(width, units * part / parts * unit);
        size = std::min(width, units * (part + 1) / parts * unit) - begin;
    }
};
// The number of panels of `width` columns: at least `wanted`, if they can be two tiles wide.
inline Index panels_of(Index width, Index wanted = 1) {
    return std::max((width + panel_columns - 1) / panel_columns, std::min(wanted, width / (2 * tile)));
}

// Calls work with the number of tiles, at most `most`, as an integral constant.
template <int most = panel_tiles, class Work>
void with_tiles(Index tiles, Work&& work) {
    if constexpr (most > 1)
        if (tiles < most) return with_tiles<most - 1>(tiles, work);
    work(std::integral_constant<int, most>{});
}

// The entries of rows, by blocks of columns. Block c and row r have the elements [begin(c, r), end(c, r)) of
// indices(c).
struct SparseRows {
    Index rows = 0, columns = 0;
    Index block = 0;                 // columns that are listed together, <= 65536
    Index capacity = 0;              // entries that a block has room for, and spare_places
    std::uint32_t* ends = nullptr;   // [blocks, rows + 1], the first of each 0
    std::uint16_t* index = nullptr;  // [blocks, capacity] columns within their block
    float* value = nullptr;          // [blocks, capacity]; null: all entries are 1

    Index blocks() const { return (columns + block - 1) / block; }
    Index begin(Index c, Index r) const { return ends[c * (rows + 1) + r]; }
    Index end(Index c, Index r) const { return ends[c * (rows + 1) + r + 1]; }
    const std::uint16_t* indices(Index c) const { return index + c * capacity; }
    const float* values(Index c) const { return value + c * capacity; }
};

// Writes the places of the bits that are set in a word to `to`, the first of the word being `first`; returns their
// number. They are written in fours, so that few branches depend on it. Up to spare_places are written after the last.
inline constexpr Index spare_places = 3;
template <class Word, class Place>
Index list_bits(Word word, Index first, Place* to) {
    const Index count = std::popcount(word);
    do {
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i, word &= word - 1) *to++ = static_cast<Place>(first + std::countr_zero(word));
    } while (word);
    return count;
}

// 32 rows of 32 columns each, of a few words. Bit c of row r becomes bit r of row c.
inline constexpr Index words_at_once = 8;
using BitBlock = std::array<std::array<std::uint32_t, words_at_once>, 32>;
inline void transpose(BitBlock& a) {
    std::uint32_t mask = 0x0000ffff;
    for (std::size_t distance = 16; distance > 0; distance /= 2, mask ^= mask << distance)
        for (std::size_t r = 0; r < 32; r = (r + distance + 1) & ~distance)
#pragma omp simd
            for (std::size_t w = 0; w < words_at_once; ++w) {
                const std::uint32_t changed = ((a[r][w] >> distance) ^ a[r + distance][w]) & mask;
                a[r][w] ^= changed << distance;
                a[r + distance][w] ^= changed;
            }
}

// Columns of spikes that are listed together. A block of a panel then has 32 KiB, or 64 KiB with AVX-512.
inline constexpr Index spike_block = 128;

// Lists block c of the spikes in rows of bits, from row `top` on.
inline void list_spikes(const SparseRows& list, Index c, const Activity& spikes, Index top = 0) {
    std::uint32_t* ends = list.ends + c * (list.rows + 1);
    std::uint16_t* index = list.index + c * list.capacity;
    const Index first = c * list.block / 32, last = std::min(spike_words(list.columns), first + list.block / 32);
    Index count = 0;
    ends[0] = 0;
    for (Index r = 0; r < list.rows; ++r) {
        const std::uint32_t* const words = spikes.bits + spikes.before(top + r);
        for (Index w = first; w < last; ++w) count += list_bits(words[w], (w - first) * 32, index + count);
        ends[r + 1] = static_cast<std::uint32_t>(count);
    }
}

// out [16 tiles] (+)= the sum over `count` entries of their value (1 for spikes) times the row of `rows` at their
// place.
template <int tiles, bool valued, class Place>
void sum_entries(const Place* place, const float* value, Index count, const float* rows, bool accumulate, float* out) {
    Tile a[tiles];
#pragma GCC unroll 8
    for (int l = 0; l < tiles; ++l) a[l] = accumulate ? load_tile(out + l * tile) : zero_tile();
    for (Index e = 0; e < count; ++e) {
        const float* const row = rows + place[e] * tiles * tile;
#pragma GCC unroll 8
        for (int l = 0; l < tiles; ++l)
            if constexpr (valued)
                a[l] = multiply_add(value[e], load_tile(row + l * tile), a[l]);
            else
                a[l] = add(a[l], load_tile(row + l * tile));
    }
#pragma GCC unroll 8
    for (int l = 0; l < tiles; ++l) store(out + l * tile, a[l]);
}

// out [16 tiles] (+)= sum over the entries of row r in block c of x w[j]; w: the block's rows of a panel.
template <int tiles, bool valued>
void gather(const SparseRows& list, Index c, Index r, const float* w, bool accumulate, float* out) {
    const Index begin = list.begin(c, r);
    sum_entries<tiles, valued>(list.indices(c) + begin, valued ? list.values(c) + begin : nullptr,
                               list.end(c, r) - begin, w, accumulate, out);
}

// Floats of the panels of a matrix with n columns and m rows.
inline Index panels_size(Index m, Index n) { return m * padded(n); }

// W' of W [n, m] in panels of its n columns, each [m, its size], padded with zeros.
void pack_transposed(int threads, Matrix<const float> w, float* panels);
void pack_transposed(int threads, Matrix<const float> w, Index parts, Index unit, float* panels);

// sum += panel', 8 x 8 at a time. panel [m, size], of which the first `columns` are used.
void add_transposed(const float* panel, Index m, Index size, Index columns, float* sum, Index stride);

// Calls work(first column, their values, byte) for every eight columns of a row of values; a bit is set where the entry
// is not 0.
template <class Work>
void for_bytes(const float* values, Index columns, Work&& work) {
    const Index whole = columns / lane_size * lane_size;
    for (Index first = 0; first < whole; first += lane_size) {
        const Lane entries = load(values + first);
        work(first, entries, nonzero(entries));
    }
    if (whole == columns) return;
    float rest[lane_size] = {};
    std::copy_n(values + whole, columns - whole, rest);
    work(whole, load(rest), nonzero(load(rest)));
}

// The places of the bits that are set in a byte, in order; then zeros.
using Places = std::array<std::uint8_t, lane_size>;
inline constexpr std::array<Places, 256> places_of_bytes = [] {
    std::array<Places, 256> table{};
    for (unsigned byte = 0; byte < 256; ++byte)
        for (unsigned place = 0, count = 0; place < lane_size; ++place)
            if (byte >> place & 1u) table[byte][count++] = static_cast<std::uint8_t>(place);
    return table;
}();

// The most entries of x [rows, columns] that are listed.
inline Index few_entries(Index rows, Index columns) {
    return static_cast<Index>(dense_rate * static_cast<double>(rows * columns));
}

// out = x W'. Returns false if it takes less time by BLAS, because the entries are many or the rows few. The arena has
// project_bytes.
bool project_listed(int threads, const Activity& x, const Weights& w, Arena arena, Matrix<float> out);
Index project_bytes(int threads, const Activity& x, const Weights& w);

// The same for gradient += y' x, with outer_bytes. m: columns of x.
bool add_outer_listed(int threads, Matrix<const float> y, const Activity& x, Arena arena, Matrix<float> gradient);
Index outer_bytes(int threads, const Activity& x, Index rows, Index m);

}  // namespace spikefloss
