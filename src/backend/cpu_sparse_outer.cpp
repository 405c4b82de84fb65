// gradient += y' x for spikes, and for inputs x that are mostly zeros:
//   gradient[i, j] += sum over entries (r, j) of y[r, i] x[r, j]
// Rows are taken in slabs. The entries of a slab are listed by columns of x, so that a sum stays in registers while it
// runs over them. y is taken in panels of columns, so that the rows of a slab stay in cache.
#include "backend/cpu_sparse.hpp"

#include <omp.h>

#include <atomic>

namespace spikefloss {
namespace {

// Rows of a slab: their place is a byte, and those of a panel stay in the second-level cache (64 KiB).
constexpr Index slab = 256;

// Columns that a thread takes at a time; the least, if there are several threads.
constexpr Index least_share = 32;

// The entries of x [rows, columns] by slabs, and by columns within them.
struct ListedColumns {
    Index columns;
    Index* first;         // [slabs] the first entry of a slab
    std::uint32_t* ends;  // [slabs, columns + 1] within its slab, the first of each 0
    std::uint8_t* place;  // [entries and room] rows within their slab
    float* value;         // [entries and room]; null: all entries are 1

    static constexpr Index spare = spare_places + 1;
    static Index room(Index entries, Index slabs) { return entries + slabs * spare; }
    std::uint32_t* ends_of(Index k) const { return ends + k * (columns + 1); }
};

// Where a slab has entries. Bit r % 32 of word r / 32 of a column: row r.
using ColumnBits = std::array<std::uint32_t, slab / 32>;

// Word w of a row of x, of which `columns` remain from there on.
template <bool valued>
std::uint32_t word_of(const Activity& x, Index row, Index w, Index columns) {
    if constexpr (!valued) {
        return x.bits[x.before(row) + w];
    } else {
        std::uint32_t word = 0;
        for_bytes(x.values + x.before(row) + 32 * w, std::min<Index>(32, columns),
                  [&](Index begin, Lane, unsigned byte) { word |= byte << begin; });
        return word;
    }
}

// The bits of `columns` columns of rows [first, first + size). Returns the number of entries.
template <bool valued>
Index find_entries(const Activity& x, Index first, Index size, Index columns, ColumnBits* bits) {
    const Index words = spike_words(columns);
    Index count = 0;
    for (Index top = 0; top < slab; top += 32)
        for (Index begin = 0; begin < words; begin += words_at_once) {
            const Index some = std::min(words_at_once, words - begin);
            BitBlock block{};
            for (Index r = 0; r < std::min<Index>(32, size - top); ++r)
                for (Index w = 0; w < some; ++w) {
                    std::uint32_t& word = block[r][w];
                    word = word_of<valued>(x, first + top + r, begin + w, columns - 32 * (begin + w));
                    count += std::popcount(word);
                }
            transpose(block);
            for (Index w = 0; w < some; ++w) {
                const Index from = 32 * (begin + w);
                for (Index c = 0; c < std::min<Index>(32, columns - from); ++c) bits[from + c][top / 32] = block[c][w];
            }
        }
    return count;
}

// Lists slab k, whose rows begin at `first`.
template <bool valued>
void list_slab(const Activity& x, Index first, const ColumnBits* bits, const ListedColumns& list, Index k) {
    std::uint32_t* const ends = list.ends_of(k);
    std::uint8_t* const place = list.place + list.first[k];
    Index count = 0;
    ends[0] = 0;
    for (Index j = 0; j < list.columns; ++j) {
        for (Index w = 0; w < slab / 32; w += 2) {
            const std::uint64_t two = bits[j][w] | static_cast<std::uint64_t>(bits[j][w + 1]) << 32;
            count += list_bits(two, 32 * w, place + count);
        }
        if constexpr (valued)
            for (Index e = ends[j]; e < count; ++e)
                list.value[list.first[k] + e] = x.values[x.before(first + place[e]) + j];
        ends[j + 1] = static_cast<std::uint32_t>(count);
    }
}

// sum [end - begin, 16 tiles] += the entries of columns [begin, end) in slab k.
template <int tiles>
void add_slab(const ListedColumns& list, Index k, Index begin, Index end, const float* y, float* sum) {
    const std::uint32_t* const ends = list.ends_of(k);
    const Index first = list.first[k];
    for (Index j = begin; j < end; ++j) {
        const Index at = first + ends[j], count = ends[j + 1] - ends[j];
        if (count == 0) continue;
        float* const to = sum + (j - begin) * tiles * tile;
        if (list.value)
            sum_entries<tiles, true>(list.place + at, list.value + at, count, y, true, to);
        else
            sum_entries<tiles, false>(list.place + at, nullptr, count, y, true, to);
    }
}

Index slabs_of(Index rows) { return (rows + slab - 1) / slab; }

// Lists all slabs of x [rows, .]. Returns false if the entries are too many for the room. bits: [threads, columns].
bool list_slabs(int threads, const Activity& x, Index rows, ColumnBits* bits, const ListedColumns& list, Index room) {
    // A slab takes the next part of the room when its number of entries is known.
    std::atomic<Index> taken = 0;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (Index k = 0; k < slabs_of(rows); ++k) {
        if (taken > room) continue;
        const auto list_with = [&](auto valued) {
            ColumnBits* const own = bits + omp_get_thread_num() * list.columns;
            const Index first = k * slab;
            const Index count = find_entries<valued>(x, first, std::min(slab, rows - first), list.columns, own);
            list.first[k] = taken.fetch_add(count + ListedColumns::spare);
            if (list.first[k] + count + ListedColumns::spare <= room) list_slab<valued>(x, first, own, list, k);
        };
        x.bits ? list_with(std::false_type{}) : list_with(std::true_type{});
    }
    return taken <= room;
}

void copy_row(const float* from, Index size, float* to) {
    Index c = 0;
    for (; c + lane_size <= size; c += lane_size) store(to + c, load(from + c));
    for (; c < size; ++c) to[c] = from[c];
}

// The columns of y in slab k, to [slab, columns.size]. The next slab is fetched into cache meanwhile.
void copy_slab(Matrix<const float> y, Index k, const Columns& columns, float* to) {
    constexpr Index line = 16;  // floats of a line of cache
    const Index whole = std::min(columns.size, y.cols - columns.begin), end = std::min(y.rows, (k + 1) * slab);
    for (Index r = k * slab; r < end; ++r, to += columns.size) {
        const float* const row = y.data + r * y.stride + columns.begin;
        copy_row(row, whole, to);
        for (Index c = 0; r + slab < y.rows && c < whole; c += line)
            __builtin_prefetch(row + slab * y.stride + c, 0, 2);
    }
}

// Floats of a thread: its rows of y, and its sums.
Index own_floats(Index m) { return (slab + m) * panel_columns; }

}  // namespace

bool add_outer_listed(int threads, Matrix<const float> y, const Activity& x, Arena arena, Matrix<float> gradient) {
    const Index rows = y.rows, n = y.cols, m = gradient.cols, slabs = slabs_of(rows);
    if (!x.bits && m < lane_size) return false;
    const Index room = ListedColumns::room(few_entries(rows, m), slabs);
    const ListedColumns list{m, arena.take<Index>(slabs), arena.take<std::uint32_t>(slabs * (m + 1)),
                             arena.take<std::uint8_t>(room), x.bits ? nullptr : arena.take<float>(room)};
    auto* const bits = arena.take<ColumnBits>(threads * m);
    float* const own = arena.take<float>(threads * own_floats(m));
    if (!list_slabs(threads, x, rows, bits, list, room)) return false;

    // With too few panels for the threads, these share the columns of x, too.
    const Index width = padded(n), panels = panels_of(width);
    const Index shares = threads == 1 ? 1 : std::clamp<Index>(m / least_share, 1, (2 * threads + panels - 1) / panels);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (Index work = 0; work < panels * shares; ++work) {
        const Columns columns(width, work / shares, panels);
        const Index begin = m * (work % shares) / shares, end = m * (work % shares + 1) / shares;
        float *const y_slab = own + omp_get_thread_num() * own_floats(m), *const sum = y_slab + slab * columns.size;
        std::fill_n(y_slab, (slab + end - begin) * columns.size, 0.0f);
        for (Index k = 0; k < slabs; ++k) {
            copy_slab(y, k, columns, y_slab);
            with_tiles(columns.size / tile, [&](auto tiles) { add_slab<tiles>(list, k, begin, end, y_slab, sum); });
        }
        add_transposed(sum, end - begin, columns.size, std::min(columns.size, n - columns.begin),
                       gradient.data + columns.begin * gradient.stride + begin, gradient.stride);
    }
    return true;
}

Index outer_bytes(int threads, const Activity& x, Index rows, Index m) {
    const Index slabs = slabs_of(rows), room = ListedColumns::room(few_entries(rows, m), slabs);
    return Arena::bytes<Index>(slabs) + Arena::bytes<std::uint32_t>(slabs * (m + 1)) +
           Arena::bytes<std::uint8_t>(room) + (x.bits ? 0 : Arena::bytes<float>(room)) +
           Arena::bytes<ColumnBits>(threads * m) + Arena::bytes<float>(threads * own_floats(m));
}

}  // namespace spikefloss
