// Products of the CPU backend with spikes and with matrices that are mostly zeros: W_in x, dW_in += g x',
// dW_rec += g s'.
#include "backend/cpu_sparse.hpp"

#include "backend/cpu_backend.hpp"

#include <omp.h>

#include <atomic>

namespace spikefloss {
namespace {

// Rows that a panel sums at a time, so that their part of G stays in cache.
constexpr Index slab = 512;

// From this many rows, and columns of the other factor, listing the entries and packing W saves time.
constexpr Index least_rows = 256, least_columns = 32;

// Parts of the rows, each with its own list. They depend only on the shape, so the results do too.
constexpr Index most_parts = 8;

// Lists the entries of rows of x in one block. Returns false if there are more than it has room for.
bool list_entries(Matrix<const float> x, SparseRows& list) {
    Index count = 0;
    list.ends[0] = 0;
    for (Index r = 0; r < x.rows; ++r) {
        const float* row = x.data + r * x.stride;
        const auto add_lane = [&](Index begin, unsigned bits) {
            for (; bits; bits &= bits - 1) {
                const Index j = begin + std::countr_zero(bits);
                list.index[count] = static_cast<std::uint16_t>(j);
                list.value[count++] = row[j];
            }
        };
        const Index whole = x.cols / lane_size * lane_size;
        if (count + x.cols > list.capacity) return false;
        for (Index begin = 0; begin < whole; begin += lane_size) add_lane(begin, nonzero(load(row + begin)));
        float rest[lane_size] = {};
        std::copy_n(row + whole, x.cols - whole, rest);
        add_lane(whole, nonzero(load(rest)));
        list.ends[r + 1] = static_cast<std::uint32_t>(count);
    }
    return true;
}

}  // namespace

void add_transposed(const float* panel, Index m, Index size, Index columns, float* sum, Index stride) {
    for (Index first = 0; first < m; first += tile)
        for (Index c = 0; c < columns; ++c)
            for (Index j = first; j < std::min(m, first + tile); ++j) sum[c * stride + j] += panel[j * size + c];
}

void pack_transposed(int threads, Matrix<const float> w, float* panels) {
    pack_transposed(threads, w, panels_of(padded(w.rows)), panels);
}

void pack_transposed(int threads, Matrix<const float> w, Index parts, float* panels) {
    const Index n = w.rows, m = w.cols, width = padded(n);
    constexpr Index piece = 8;  // of a row of W: with a large stride, rows evict each other from the cache
#pragma omp parallel for num_threads(threads) if (threads > 1 && n * m >= 65536)
    for (Index part = 0; part < parts; ++part) {
        const Columns columns(width, part, parts);
        float* to = panels + columns.begin * m;
        const Index whole = std::min(columns.size, n - columns.begin);
        for (Index first = 0; first < m; first += piece)
            for (Index c = 0; c < columns.size; ++c)
                for (Index j = first; j < std::min(m, first + piece); ++j)
                    to[j * columns.size + c] = c < whole ? w.data[(columns.begin + c) * w.stride + j] : 0.0f;
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
                    gather<lanes, true>(x, 0, r, panels + columns.begin * x.columns, false,
                                        whole < columns.size ? last : to);
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
        const bool copy = x->blocks() > 1 || whole < columns.size;  // else every row of G is read once
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

bool CpuBackend::list_sparse(Matrix<const float> x, Index columns, SparseParts& parts) {
    if (x.rows < least_rows || columns < least_columns || x.cols < lane_size || x.cols > 65536) return false;
    parts.count = std::clamp<Index>(x.rows / least_rows, 1, most_parts);
    const auto begin = [&](Index part) { return x.rows * part / parts.count; };
    const auto room = [&](Index rows) {
        return static_cast<Index>(dense_rate * static_cast<double>(rows * x.cols)) + x.cols;
    };
    const Index most = room(x.rows / parts.count + 1) + 1;  // entries of a part
    auto* ends = reinterpret_cast<std::uint32_t*>(scratch(3, (x.rows + parts.count) / 2 + 1));
    auto* values = reinterpret_cast<float*>(scratch(4, parts.count * most * 3 / 4 + 1));
    auto* indices = reinterpret_cast<std::uint16_t*>(values + parts.count * most);
    std::atomic<bool> sparse = true;
#pragma omp parallel for num_threads(threads_) if (threads_ > 1) schedule(static)
    for (Index part = 0; part < parts.count; ++part) {
        const Index first = begin(part), rows = begin(part + 1) - first;
        SparseRows& list = parts.part[part];
        list = {rows, x.cols, x.cols, room(rows), ends + first + part, indices + part * most, values + part * most};
        if (!list_entries({x.data + first * x.stride, rows, x.cols, x.stride}, list)) sparse = false;
    }
    return sparse;
}

// C [rows, n] = X W'. Returns false if X is not mostly zeros.
bool CpuBackend::sparse_product(Matrix<const float> x, Matrix<const float> w, Matrix<float> c) {
    SparseParts parts;
    if (!list_sparse(x, w.rows, parts)) return false;
    float* panels = reinterpret_cast<float*>(scratch(5, panels_size(w.cols, w.rows) / 2 + 1));
    pack_transposed(threads_, w, panels);
#pragma omp parallel for num_threads(threads_) if (threads_ > 1) schedule(static)
    for (Index part = 0; part < parts.count; ++part) {
        const Index first = x.rows * part / parts.count;
        gather_rows(parts.part[part], panels, w.rows,
                    {c.data + first * c.stride, parts.part[part].rows, w.rows, c.stride});
    }
    return true;
}

// C [n, m] += G' X. Returns false if X is not mostly zeros.
bool CpuBackend::sparse_sums(Matrix<const float> g, Matrix<const float> x, Matrix<float> c) {
    SparseParts parts;
    if (!list_sparse(x, g.cols, parts)) return false;
    float* workspace = reinterpret_cast<float*>(scratch(5, scatter_workspace(threads_, x.cols) / 2 + 1));
    scatter_rows(threads_, parts.part, parts.count, g, workspace, c);
    return true;
}

// dw [N, N] += sum over rows of g s'; g [rows, N], bits of s [rows, words].
void CpuBackend::add_outer_spikes(Index rows, Index N, const float* g, const std::uint32_t* bits, SumMatrix dw) {
    const Index words = spike_words(N);
    double spikes = 0.0;
    count_spikes(1, rows * words, bits, 0, &spikes);
    if (spikes > dense_rate * static_cast<double>(rows * N)) {
        float* s = reinterpret_cast<float*>(scratch(1, rows * N / 2 + 1));
        unpack_spikes(rows, N, bits, s, N);
        return gemm(Transpose::yes, Transpose::no, {g, rows, N}, {s, rows, N}, dw, true);
    }
    SparseRows list{rows, N, spike_block, rows * spike_block, nullptr, nullptr, nullptr};
    list.ends = reinterpret_cast<std::uint32_t*>(scratch(3, list.blocks() * (rows + 1) / 2 + 1));
    list.index = reinterpret_cast<std::uint16_t*>(scratch(4, list.blocks() * list.capacity / 4 + 1));
#pragma omp parallel for num_threads(threads_) if (threads_ > 1) schedule(dynamic)
    for (Index c = 0; c < list.blocks(); ++c) list_spikes(list, c, bits, words);
    float* workspace = reinterpret_cast<float*>(scratch(5, scatter_workspace(threads_, N) / 2 + 1));
    scatter_rows(threads_, &list, 1, {g, rows, N}, workspace, {static_cast<float*>(dw.data), N, N, dw.stride});
}

}  // namespace spikefloss
