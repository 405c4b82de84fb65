// How dense weights are copied for the products of a loop, and these products.
#include "backend/cpu_packed.hpp"

#include "backend/cpu_backend.hpp"
#include "backend/cpu_sparse.hpp"

#include <omp.h>

#include <bit>

namespace spikefloss {
namespace {

Index entries_of(const Activity& spikes, Index rows, Index m) {
    Index count = 0;
    for (Index r = 0; r < rows; ++r)
        for (Index w = 0; w < spike_words(m); ++w) count += std::popcount(spikes.bits[spikes.before(r) + w]);
    return count;
}

// The shape of the list of all rows.
SparseRows list_of(Index rows, Index m) { return {rows, m, spike_block, rows * spike_block + spare_places}; }

// Panel `columns` of out. The columns after the last one of out are left out.
void gather_panel(const SparseRows& list, const Columns& columns, const float* panel, Matrix<float> out,
                  bool accumulate) {
    const Index whole = std::min(columns.size, out.cols - columns.begin);
    with_tiles(columns.size / tile, [&](auto tiles) {
        const auto add_block = [&](Index c, Index r, float* sums) {
            gather<tiles, false>(list, c, r, panel + c * list.block * columns.size, c > 0 || accumulate, sums);
        };
        float* const to = out.data + columns.begin;
        if (whole == columns.size) {
            for (Index c = 0; c < list.blocks(); ++c)
                for (Index r = 0; r < list.rows; ++r) add_block(c, r, to + r * out.stride);
            return;
        }
        for (Index r = 0; r < list.rows; ++r) {
            float sums[tiles * tile] = {};
            if (accumulate) std::copy_n(to + r * out.stride, whole, sums);
            for (Index c = 0; c < list.blocks(); ++c) add_block(c, r, sums);
            std::copy_n(sums, whole, to + r * out.stride);
        }
    });
}

void widen(int threads, Matrix<const float> from, double* to) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (Index r = 0; r < from.rows; ++r)
        for (Index c = 0; c < from.cols; ++c) to[r * from.cols + c] = from.data[r * from.stride + c];
}

}  // namespace

void multiply_packed(int threads, Matrix<const float> a, const float* panels, Matrix<float> out, bool accumulate) {
    const Index m = a.cols, tiles = padded(out.cols) / tile, whole = out.cols / tile * tile, rest = out.cols - whole;
    const auto* const blocks = reinterpret_cast<const std::uint8_t*>(panels + tiles * tile * m);
    const std::uint8_t* const filled = blocks[0] ? blocks + 1 : nullptr;
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        const Index member = omp_get_thread_num(), members = omp_get_num_threads();
        const Index begin = tiles * member / members * tile, end = tiles * (member + 1) / members * tile;
        if (begin < whole)
            multiply(out.rows, std::min(end, whole) - begin, m, {a.data, a.stride, 1},
                     {panels + begin * m, tile, m * tile, filled ? filled + begin / tile * filled_blocks(m) : nullptr},
                     out.data + begin, out.stride, accumulate);
        for (Index top = 0; end > whole && top < out.rows; top += row_block) {
            const Index rows = std::min(row_block, out.rows - top);
            float sums[row_block * tile];
            float* const to = out.data + top * out.stride + whole;
            for (Index r = 0; accumulate && r < rows; ++r) std::copy_n(to + r * out.stride, rest, sums + r * tile);
            multiply(rows, tile, m, {a.data + top * a.stride, a.stride, 1}, {panels + whole * m, tile}, sums, tile,
                     accumulate);
            for (Index r = 0; r < rows; ++r) std::copy_n(sums + r * tile, rest, to + r * out.stride);
        }
    }
}

bool gather_packed(int threads, Index parts, const Activity& spikes, const Weights& w, Arena arena, Matrix<float> out,
                   bool accumulate) {
    const Index rows = out.rows, m = w.cols;
    if (entries_of(spikes, rows, m) > few_entries(rows, m)) return false;
    SparseRows list = list_of(rows, m);
    list.ends = arena.take<std::uint32_t>(list.blocks() * (rows + 1));
    list.index = arena.take<std::uint16_t>(list.blocks() * list.capacity);
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
#pragma omp for schedule(static)
        for (Index c = 0; c < list.blocks(); ++c) list_spikes(list, c, spikes);
#pragma omp for schedule(static)
        for (Index part = 0; part < parts; ++part) {
            const Columns columns(padded(out.cols), part, parts);
            gather_panel(list, columns, w.packed + columns.begin * m, out, accumulate);
        }
    }
    return true;
}

Index gather_packed_bytes(Index rows, Index m) {
    const SparseRows list = list_of(rows, m);
    return Arena::bytes<std::uint32_t>(list.blocks() * (rows + 1)) +
           Arena::bytes<std::uint16_t>(list.blocks() * list.capacity);
}

Index CpuBackend::packed_size(Product of, Index rows, Index cols) const {
    if (sums_ == Sums::float64) return rows * cols * static_cast<Index>(sizeof(double) / sizeof(float));
    if (std::min(rows, cols) <= narrow) return 0;
    if (of == Product::spikes) return cols * padded(rows);
    const Index inner = of == Product::adjoints ? rows : cols, width = padded(of == Product::adjoints ? cols : rows);
    return inner * width + (width / tile * filled_blocks(inner) + 1 + 3) / 4;
}

void CpuBackend::pack(Product of, const Weights& w, float* to) {
    const Matrix<const float> values(w.values, w.rows, w.cols, w.stride);
    const Index width = padded(w.rows);
    if (sums_ == Sums::float64) return widen(threads_for(w.rows * w.cols), values, reinterpret_cast<double*>(to));
    if (of == Product::spikes) return pack_transposed(threads_, values, panels_of(width, threads_), tile, to);
    const Index inner = of == Product::adjoints ? w.rows : w.cols;
    const Index count = padded(of == Product::adjoints ? w.cols : w.rows) / tile;
    if (of == Product::adjoints)
        pack_panels(threads_, values, to);
    else
        pack_transposed(threads_, values, count, tile, to);
    auto* const blocks = reinterpret_cast<std::uint8_t*>(to + count * tile * inner);
    blocks[0] = find_filled(threads_, to, count, inner, blocks + 1);
}

}  // namespace spikefloss
