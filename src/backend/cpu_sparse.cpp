// Products of the CPU backend with spikes, and with inputs that are mostly zeros.
#include "backend/cpu_sparse.hpp"

#include "backend/cpu_backend.hpp"
#include "backend/cpu_csr.hpp"

#include <omp.h>

#include <array>
#include <atomic>

namespace spikefloss {
namespace {

// Rows that a panel sums at a time, so that their part of G stays in cache.
constexpr Index slab = 512;

// Parts of the rows, each with its own list. They depend only on the shape, so the results do too.
constexpr Index most_parts = 8;

// The places of the bits that are set in a byte, in order; then zeros.
using Places = std::array<std::uint8_t, lane_size>;
constexpr std::array<Places, 256> places_of_bytes = [] {
    std::array<Places, 256> table{};
    for (unsigned byte = 0; byte < 256; ++byte)
        for (unsigned place = 0, count = 0; place < lane_size; ++place)
            if (byte >> place & 1u) table[byte][count++] = static_cast<std::uint8_t>(place);
    return table;
}();

// Calls work(first column, their values, byte) for every eight columns of a row; a bit is set where the entry is not 0.
// Spikes have no values.
template <class Work>
void for_bytes(const Activity& x, Index row, Index columns, Work&& work) {
    if (x.bits) {
        const std::uint32_t* const words = x.bits + x.before(row);
        for (Index first = 0; first < columns; first += lane_size)
            work(first, zero_lane(), words[first / 32] >> (first % 32) & 0xffu);
        return;
    }
    const float* const values = x.values + x.before(row);
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

Index count_entries(const Activity& x, Index first, Index rows, Index columns) {
    Index count = 0;
    for (Index r = first; r < first + rows; ++r)
        if (x.bits)
            for (Index w = 0; w < spike_words(columns); ++w) count += std::popcount(x.bits[x.before(r) + w]);
        else
            for_bytes(x, r, columns, [&](Index, Lane, unsigned byte) { count += std::popcount(byte); });
    return count;
}

// Lists the entries of x from row `first` on in one block. Returns false if there is no room for another row.
// Eight entries are written for a byte, so that no branch depends on their number.
bool list_entries(const Activity& x, Index first, const SparseRows& list) {
    Index count = 0;
    std::uint16_t* const index = list.index;
    float* const value = list.value;
    list.ends[0] = 0;
    for (Index r = 0; r < list.rows; ++r) {
        if (count + list.columns + lane_size > list.capacity) return false;
        for_bytes(x, first + r, list.columns, [&](Index begin, Lane entries, unsigned byte) {
            if (byte == 0) return;
            const std::uint8_t* const places = places_of_bytes[byte].data();
            store_sums(static_cast<std::uint16_t>(begin), places, index + count);
            if (value) store(value + count, picked(entries, places));
            count += std::popcount(byte);
        });
        list.ends[r + 1] = static_cast<std::uint32_t>(count);
    }
    return true;
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
    pack_transposed(threads, w, panels_of(padded(w.rows)), panels);
}

void pack_transposed(int threads, Matrix<const float> w, Index parts, float* panels) {
    const Index n = w.rows, m = w.cols, width = padded(n);
#pragma omp parallel for num_threads(threads) if (threads > 1 && n * m >= 65536)
    for (Index part = 0; part < parts; ++part) {
        const Columns columns(width, part, parts);
        float* const to = panels + columns.begin * m;
        const Index whole = std::min(columns.size, n - columns.begin);
        if (whole < columns.size) std::fill_n(to, m * columns.size, 0.0f);
        copy_transposed(w.data + columns.begin * w.stride, w.stride, whole, m, to, columns.size);
    }
}

void gather_rows(const SparseRows& x, const float* panels, Index n, Matrix<float> out) {
    const Index width = padded(n), parts = panels_of(width);
    constexpr Index group = 32;  // rows whose sums stay in cache
    for (Index first = 0; first < x.rows; first += group)
        for (Index part = 0; part < parts; ++part) {
            const Columns columns(width, part, parts);
            const Index whole = std::min(columns.size, n - columns.begin);
            with_lanes(columns.size / lane_size, [&](auto lanes) {
                for (Index r = first; r < std::min(x.rows, first + group); ++r) {
                    float* to = out.data + r * out.stride + columns.begin;
                    float last[lanes * lane_size];
                    const float* const panel = panels + columns.begin * x.columns;
                    if (x.value)
                        gather<lanes, true>(x, 0, r, panel, false, whole < columns.size ? last : to);
                    else
                        gather<lanes, false>(x, 0, r, panel, false, whole < columns.size ? last : to);
                    if (whole < columns.size) std::copy_n(last, whole, to);
                }
            });
        }
}

Index scatter_workspace(int threads, Index m) { return threads * (m + slab) * panel_columns; }

void scatter_rows(int threads, const SparseRows* x, Index parts, Matrix<const float> g, float* workspace,
                  Matrix<float> sum) {
    const Index n = g.cols, m = x->columns, width = padded(n), panels = panels_of(width, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1 && panels > 1) schedule(dynamic)
    for (Index p = 0; p < panels; ++p) {
        const Columns columns(width, p, panels);
        const Index whole = std::min(columns.size, n - columns.begin);
        float* total = workspace + omp_get_thread_num() * (m + slab) * panel_columns;
        float* g_slab = total + m * panel_columns;
        std::fill_n(total, m * columns.size, 0.0f);
        std::fill_n(g_slab, slab * columns.size, 0.0f);
        const bool copy = whole < columns.size;
        const auto add_slab = [&](auto lanes, const SparseRows& list, const float* rows, Index first, Index size) {
            for (Index c = 0; c < list.blocks(); ++c)
                for (Index r = 0; r < size; ++r) {
                    const float* row = rows + r * (copy ? columns.size : g.stride);
                    float* block = total + c * list.block * columns.size;
                    if (list.value)
                        scatter<lanes, true>(list, c, first + r, row, block);
                    else
                        scatter<lanes, false>(list, c, first + r, row, block);
                }
        };
        const float* next = g.data + columns.begin;  // row of G
        for (Index part = 0; part < parts; ++part)
            for (Index first = 0; first < x[part].rows; first += slab) {
                const Index size = std::min(slab, x[part].rows - first);
                for (Index r = 0; copy && r < size; ++r)
                    std::copy_n(next + r * g.stride, whole, g_slab + r * columns.size);
                with_lanes(columns.size / lane_size,
                           [&](auto lanes) { add_slab(lanes, x[part], copy ? g_slab : next, first, size); });
                next += size * g.stride;
            }
        add_transposed(total, m, columns.size, whole, sum.data + columns.begin * sum.stride, sum.stride);
    }
}

ListRoom::ListRoom(const Activity& x, Index rows, Index cols, bool in_parts, Index floats)
    : x_(x),
      rows_(rows),
      in_parts_(in_parts),
      floats_(floats),
      count_(!in_parts ? 1
             : rows < least_rows || cols < lane_size || cols > 65536
                 ? 0
                 : std::clamp<Index>(rows / least_rows, 1, most_parts)) {
    for (Index part = 0; part < count_; ++part) {
        SparseRows& list = part_[part];
        list.rows = first_row(part + 1) - first_row(part);
        list.columns = cols;
        list.block = in_parts ? (cols + 31) / 32 * 32 : spike_block;
        list.capacity = list.rows * spike_block;  // of a block; in parts: set by list_parts
    }
}

// Entries of all parts or blocks together. In parts, each has room for a row more, so that a row is not looked at
// twice.
Index ListRoom::most_entries() const {
    const Index columns = part_[0].columns;
    return in_parts_
               ? static_cast<Index>(dense_rate * static_cast<double>(rows_ * columns)) + count_ * (columns + lane_size)
               : part_[0].blocks() * part_[0].capacity;
}

Index ListRoom::bytes() const {
    if (count_ == 0) return 0;
    Index bytes = Arena::bytes<float>(floats_) + Arena::bytes<std::uint16_t>(most_entries()) +
                  (x_.bits ? 0 : Arena::bytes<float>(most_entries()));
    for (const SparseRows& list : parts()) bytes += Arena::bytes<std::uint32_t>(list.blocks() * (list.rows + 1));
    return bytes;
}

bool ListRoom::list(int threads, Arena arena) {
    if (count_ == 0) return false;
    panels_ = arena.take<float>(floats_);
    part_[0].index = arena.take<std::uint16_t>(most_entries());
    if (!x_.bits) part_[0].value = arena.take<float>(most_entries());
    for (Index part = 0; part < count_; ++part)
        part_[part].ends = arena.take<std::uint32_t>(part_[part].blocks() * (part_[part].rows + 1));
    return in_parts_ ? list_parts(threads) : list_blocks(threads);
}

bool ListRoom::list_parts(int threads) {
    // Equal shares first: then every row is looked at once. But a part may have most entries, that of early steps.
    for (Index part = 0; part < count_; ++part) part_[part].capacity = most_entries() / count_;
    if (list_in_shares(threads)) return true;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (Index part = 0; part < count_; ++part)
        part_[part].capacity =
            count_entries(x_, first_row(part), part_[part].rows, part_[part].columns) + part_[part].columns + lane_size;
    Index room = 0;
    for (const SparseRows& list : parts()) room += list.capacity;
    return room <= most_entries() && list_in_shares(threads);
}

// The parts follow one another in the room, each with its capacity.
bool ListRoom::list_in_shares(int threads) {
    for (Index part = 1; part < count_; ++part) {
        const SparseRows& before = part_[part - 1];
        part_[part].index = before.index + before.capacity;
        if (!x_.bits) part_[part].value = before.value + before.capacity;
    }
    std::atomic<bool> fits = true;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (Index part = 0; part < count_; ++part)
        if (!list_entries(x_, first_row(part), part_[part])) fits = false;
    return fits;
}

bool ListRoom::list_blocks(int threads) {
    const SparseRows& list = part_[0];
    const Index entries = count_entries(x_, 0, list.rows, list.columns);
    if (static_cast<double>(entries) > dense_rate * static_cast<double>(list.rows * list.columns)) return false;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic)
    for (Index c = 0; c < list.blocks(); ++c) list_spikes(list, c, x_);
    return true;
}

bool project_listed(int threads, ListRoom& room, Arena arena, const Weights& w, Matrix<float> out) {
    if (!room.list(threads, arena)) return false;
    pack_transposed(threads, {w.values, w.rows, w.cols, w.stride}, room.panels());
    const auto parts = static_cast<Index>(room.parts().size());
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        const SparseRows& list = room.parts()[static_cast<std::size_t>(part)];
        gather_rows(list, room.panels(), w.rows,
                    {out.data + out.rows * part / parts * out.stride, list.rows, w.rows, out.stride});
    }
    return true;
}

bool add_outer_listed(int threads, ListRoom& room, Arena arena, Matrix<const float> y, Matrix<float> gradient) {
    if (!room.list(threads, arena)) return false;
    scatter_rows(threads, room.parts().data(), static_cast<Index>(room.parts().size()), y, room.panels(), gradient);
    return true;
}

}  // namespace spikefloss
