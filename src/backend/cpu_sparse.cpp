// Products of the CPU backend with spikes, and with inputs that are mostly zeros.
#include "backend/cpu_sparse.hpp"

#include "backend/cpu_backend.hpp"
#include "backend/cpu_csr.hpp"

#include <omp.h>

#include <atomic>

namespace spikefloss {
namespace {

// Inputs of this many columns are packed as bits.
constexpr Index least_packed = 32;

// Rows that are listed together, so that their entries and sums stay in cache.
constexpr Index group = 32;

// Room of a thread for the entries of a group. Eight are written at a time.
Index group_capacity(Index columns) { return group * columns + lane_size; }

// Lists rows [first, first + list.rows) of x as one block. Eight values are written for a byte, so that no branch
// depends on their number.
void list_group(const Activity& x, Index first, const SparseRows& list) {
    if (x.bits) return list_spikes(list, 0, x, first);
    Index count = 0;
    list.ends[0] = 0;
    for (Index r = 0; r < list.rows; ++r) {
        for_bytes(x.values + x.before(first + r), list.columns, [&](Index begin, Lane entries, unsigned byte) {
            if (byte == 0) return;
            const std::uint8_t* const places = places_of_bytes[byte].data();
            store_sums(static_cast<std::uint16_t>(begin), places, list.index + count);
            store(list.value + count, picked(entries, places));
            count += std::popcount(byte);
        });
        list.ends[r + 1] = static_cast<std::uint32_t>(count);
    }
}

// The bits of up to 32 inputs. Returns whether all are 0 or 1.
bool pack_word(const float* x, Index size, std::uint32_t& word) {
    if (size < 32) {
        float padded_x[32] = {};
        std::copy_n(x, size, padded_x);
        return pack_word(padded_x, 32, word);
    }
    const Lane minus_one = repeat(-1.0f);
    std::uint32_t not_zero = 0, not_one = 0;
    for (Index j = 0; j < 32; j += lane_size) {
        const Lane x_j = load(x + j);
        not_zero |= nonzero(x_j) << j;
        not_one |= nonzero(add(x_j, minus_one)) << j;
    }
    word = not_zero;
    return (not_zero ^ not_one) == ~std::uint32_t{0};
}

// out [rows of x, n] = X W'. X is listed as one block; W' [m, n] in panels.
void gather_rows(const SparseRows& x, const float* panels, Index n, Matrix<float> out) {
    const Index width = padded(n), parts = panels_of(width);
    for (Index part = 0; part < parts; ++part) {
        const Columns columns(width, part, parts);
        const Index whole = std::min(columns.size, n - columns.begin);
        with_tiles(columns.size / tile, [&](auto tiles) {
            for (Index r = 0; r < x.rows; ++r) {
                float* to = out.data + r * out.stride + columns.begin;
                float last[tiles * tile];
                const float* const panel = panels + columns.begin * x.columns;
                if (x.value)
                    gather<tiles, true>(x, 0, r, panel, false, whole < columns.size ? last : to);
                else
                    gather<tiles, false>(x, 0, r, panel, false, whole < columns.size ? last : to);
                if (whole < columns.size) std::copy_n(last, whole, to);
            }
        });
    }
}

}  // namespace

void add_transposed(const float* panel, Index m, Index size, Index columns, float* sum, Index stride) {
    for (Index first = 0; first < m; first += lane_size)
        for (Index c = 0; c < columns; c += lane_size) {
            const Index height = std::min(lane_size, m - first), width = std::min(lane_size, columns - c);
            if (height < lane_size || width < lane_size) {
                for (Index k = 0; k < width; ++k)
                    for (Index j = 0; j < height; ++j)
                        sum[(c + k) * stride + first + j] += panel[(first + j) * size + c + k];
                continue;
            }
            Lane block[lane_size];
            for (Index j = 0; j < lane_size; ++j) block[j] = load(panel + (first + j) * size + c);
            transpose(block);
            for (Index k = 0; k < lane_size; ++k) {
                float* const to = sum + (c + k) * stride + first;
                store(to, add(load(to), block[k]));
            }
        }
}

void pack_transposed(int threads, Matrix<const float> w, float* panels) {
    pack_transposed(threads, w, panels_of(padded(w.rows)), tile, panels);
}

void pack_transposed(int threads, Matrix<const float> w, Index parts, Index unit, float* panels) {
    const Index n = w.rows, m = w.cols, width = padded(n);
#pragma omp parallel for num_threads(threads) if (threads > 1 && n * m >= 65536)
    for (Index part = 0; part < parts; ++part) {
        const Columns columns(width, part, parts, unit);
        float* const to = panels + columns.begin * m;
        const Index whole = std::min(columns.size, n - columns.begin);
        if (whole < columns.size) std::fill_n(to, m * columns.size, 0.0f);
        copy_transposed(w.data + columns.begin * w.stride, w.stride, whole, m, to, columns.size);
    }
}

bool project_listed(int threads, const Activity& x, const Weights& w, Arena arena, Matrix<float> out) {
    const Index rows = out.rows, n = w.rows, m = w.cols, groups = (rows + group - 1) / group;
    if (rows < least_rows || project_bytes(threads, x, w) == 0) return false;
    float* const panels = arena.take<float>(panels_size(m, n));
    auto* const index = arena.take<std::uint16_t>(threads * group_capacity(m));
    float* const value = x.bits ? nullptr : arena.take<float>(threads * group_capacity(m));
    pack_transposed(threads, {w.values, n, m, w.stride}, panels);
    // Entries are counted while they are listed. If there are too many, `out` is written again by BLAS.
    const Index few = few_entries(rows, m);
    std::atomic<Index> entries = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (Index k = 0; k < groups; ++k) {
        if (entries > few) continue;
        const Index first = k * group, room = omp_get_thread_num() * group_capacity(m);
        std::uint32_t ends[group + 1];
        const SparseRows list{
            std::min(group, rows - first), m, (m + 31) / 32 * 32, group_capacity(m), ends, index + room,
            value ? value + room : nullptr};
        list_group(x, first, list);
        entries += ends[list.rows];
        gather_rows(list, panels, n, {out.data + first * out.stride, list.rows, n, out.stride});
    }
    return entries <= few;
}

bool CpuBackend::packs_inputs(Index rows, Index m, Index n) const {
    return sums_ == Sums::float32 && rows >= least_rows && m >= least_packed && m <= 65536 && n >= least_columns;
}

bool CpuBackend::pack_inputs(const float* x, Index rows, Index m, Index n, std::uint32_t* bits) {
    if (!packs_inputs(rows, m, n)) return false;
    constexpr Index ahead = 1024;  // floats that are fetched into the cache early
    std::atomic<Index> entries = 0;
    std::atomic<bool> others = false;
#pragma omp parallel for num_threads(threads_for(rows* m)) schedule(static)
    for (Index top = 0; top < rows; top += group) {
        if (others) continue;
        Index count = 0;
        bool binary = true;
        std::uint32_t* word = bits + top * spike_words(m);
        for (Index r = top; r < std::min(rows, top + group); ++r)
            for (Index j = 0; j < m; j += 32, ++word) {
                const float* const x_j = x + r * m + j;
                __builtin_prefetch(x_j + ahead);
                __builtin_prefetch(x_j + ahead + tile);
                binary &= pack_word(x_j, std::min<Index>(32, m - j), *word);
                count += std::popcount(*word);
            }
        entries += count;
        if (!binary) others = true;
    }
    return !others && entries <= few_entries(rows, m);
}

Index project_bytes(int threads, const Activity& x, const Weights& w) {
    if (w.cols < lane_size || w.cols > 65536) return 0;
    const Index entries = threads * group_capacity(w.cols);
    return Arena::bytes<float>(panels_size(w.cols, w.rows)) + Arena::bytes<std::uint16_t>(entries) +
           (x.bits ? 0 : Arena::bytes<float>(entries));
}

}  // namespace spikefloss
