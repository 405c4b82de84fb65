// Entries of y' x of the CPU backend, for the gradient of sparse weights. y and x are transposed, so that an entry is a
// product of two vectors; of spikes it is a sum of y over the listed rows in which the source fired.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_csr.hpp"

#include <omp.h>

#include <bit>

namespace spikefloss {
namespace {

// Rows that are listed at once. Their numbers have 16 bits.
constexpr Index most_listed = 65535;

// {the sum of a[0], ..., of a[7]} for T, added to to[0 .. 8).
template <class T, class Out>
void add_vector_sums(const typename Vector<T>::Type* a, Out* to) {
    if constexpr (std::is_same_v<T, float>) {
        store(to, add(load(to), sums(a)));
    } else {
        for (int half = 0; half < 8; half += 4) {
            const WideLane sum = sums(a[half], a[half + 1], a[half + 2], a[half + 3]);
            if constexpr (std::is_same_v<Out, float>)
                store(to + half, add(load_wide(to + half), sum));
            else
                store(to + half, add(load(to + half), sum));
        }
    }
}

// Entries whose sums are taken together, and how far ahead the first lines of their rows of x are fetched: they lie
// anywhere. The processor sees the pattern of the lines after them.
constexpr Index entries_together = 8, rows_ahead = 2 * entries_together, lines_fetched = 2;

// data[e] += the product of y and row source[e] - first of x, over `width` elements, for entries [begin, end). There
// are sources before `last`.
template <class T, class Source, class Out>
[[gnu::noinline]] void add_products(const Source* source, Index first, Index begin, Index end, Index last,
                                    const float* y, const float* x, Index width, Out* data) {
    // Rows are addresses in numbers, because an entry ahead can be of another panel.
    const auto row_0 = reinterpret_cast<std::uintptr_t>(x) - static_cast<std::uintptr_t>(first * width) * sizeof(float);
    const auto row = [=](Index j) {
        const std::uintptr_t at = row_0 + static_cast<std::uintptr_t>(j * width) * sizeof(float);
        return reinterpret_cast<const float*>(at);  // NOLINT(performance-no-int-to-ptr): see above
    };
    const auto products = [&](const Source* of, const Source* ahead, Out* to) {
        const float* rows[entries_together];
#pragma GCC unroll 8
        for (int k = 0; k < entries_together; ++k) rows[k] = row(of[k]);
#pragma GCC unroll 8
        for (int k = 0; k < entries_together; ++k)
#pragma GCC unroll 2
            for (int l = 0; l < lines_fetched; ++l) __builtin_prefetch(row(ahead[k]) + l * line);
        typename Vector<T>::Type a[entries_together];
        for (auto& sum : a) sum = typename Vector<T>::Type{};
        for (Index l = 0; l < width; l += Vector<T>::size) {
            const auto factor = load_as<T>(y + l);
#pragma GCC unroll 8
            for (int k = 0; k < entries_together; ++k) a[k] = multiply_add(factor, load_as<T>(rows[k] + l), a[k]);
        }
        add_vector_sums<T>(a, to);
    };
    Index e = begin;
    for (; e + entries_together <= end; e += entries_together)
        products(source + e, source + std::min(e + rows_ahead, last - entries_together), data + e);
    if (e == end) return;
    // The last ones, with one of them in the free places.
    Source of[entries_together];
    Out to[entries_together] = {};
    for (Index k = 0; k < entries_together; ++k) of[k] = source[std::min(e + k, end - 1)];
    std::copy(data + e, data + end, to);
    products(of, of, to);
    std::copy(to, to + (end - e), data + e);
}

// Rows in which each source fires, in groups of four: source j has rows[begin[j] .. begin[j + 1]). The last group is
// filled with `count`, a row of zeros.
struct ListedRows {
    std::uint32_t *begin, *next;  // [sources + 1], [sources]
    std::uint16_t* rows;          // [most]

    static Index most(Index count, Index sources) { return (count + 3) / 4 * 4 * sources; }
};

// To be called by all threads.
void list_rows(const Activity& x, Index first, Index count, Index sources, const ListedRows& list) {
    const auto for_every_spike = [&](auto&& work) {
#pragma omp for schedule(static)
        for (Index word = 0; word < spike_words(sources); ++word)
            for (Index r = 0; r < count; ++r)
                for (std::uint32_t left = x.bits[x.before(first + r) + word]; left; left &= left - 1)
                    work(word * 32 + std::countr_zero(left), r);
    };
#pragma omp for schedule(static)
    for (Index j = 0; j < sources; ++j) list.next[j] = 0;
    for_every_spike([&](Index j, Index) { ++list.next[j]; });
#pragma omp single
    {
        list.begin[0] = 0;
        for (Index j = 0; j < sources; ++j) {
            list.begin[j + 1] = list.begin[j] + (list.next[j] + 3) / 4 * 4;
            list.next[j] = list.begin[j];
        }
    }
    for_every_spike([&](Index j, Index r) { list.rows[list.next[j]++] = static_cast<std::uint16_t>(r); });
#pragma omp for schedule(static)
    for (Index j = 0; j < sources; ++j)
        for (std::uint32_t at = list.next[j]; at < list.begin[j + 1]; ++at)
            list.rows[at] = static_cast<std::uint16_t>(count);
}

// How far ahead the rows of an entry's source are fetched: they lie anywhere.
constexpr Index entries_ahead = 8;

// data[e] += the sum of y over the rows in which the source of e fired, in four parts.
template <class T, class Source, class Out>
[[gnu::noinline]] void add_fired(const Source* source, Index first, Index begin, Index end, const float* y,
                                 const ListedRows& list, Out* data) {
    const auto rows_of = [&](Index e) { return list.rows + list.begin[source[e] - first]; };
    for (Index e = begin; e < end; ++e) {
        if (e + entries_ahead < end) __builtin_prefetch(rows_of(e + entries_ahead));
        const std::uint16_t *row = rows_of(e), *const last = list.rows + list.begin[source[e] - first + 1];
        if (row == last) continue;
        T sum[4] = {};
        for (; row < last; row += 4)
#pragma GCC unroll 4
            for (int part = 0; part < 4; ++part) sum[part] += T{y[row[part]]};
        data[e] = static_cast<Out>(static_cast<T>(data[e]) + ((sum[0] + sum[1]) + (sum[2] + sum[3])));
    }
}

}  // namespace

void CpuBackend::add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient,
                                  const SparsePattern& pattern) {
    const Weights w{pattern.rows, pattern.cols, nullptr, 0, &pattern};
    // Of y and x, the rows that are taken at once, and their number after they are transposed: a multiple of 8 but not
    // of 128, so that they do not evict each other from the cache.
    const Index at_once = x.bits ? std::min(y.rows, most_listed) : y.rows;
    Index width = (at_once + (x.bits ? 1 : 0) + lane_size - 1) / lane_size * lane_size;
    if (width % 128 == 0) width += lane_size;
    const Index y_bytes = Arena::bytes<float>(targets_at_once * width), listed = ListedRows::most(at_once, w.cols);
    const Index x_bytes = x.bits ? Arena::bytes<std::uint32_t>(w.cols + 1) + Arena::bytes<std::uint32_t>(w.cols) +
                                       Arena::bytes<std::uint16_t>(listed)
                                 : Arena::bytes<float>(width * w.cols);
    Arena arena(scratch<char>(threads_ * y_bytes + x_bytes + 64));
    if (counting()) return;
    auto* const y_parts = arena.take<char>(threads_ * y_bytes);
    ListedRows list{};
    float* panel = nullptr;
    if (x.bits) {
        list.begin = arena.take<std::uint32_t>(w.cols + 1);
        list.next = arena.take<std::uint32_t>(w.cols);
        list.rows = arena.take<std::uint16_t>(listed);
    } else {
        panel = arena.take<float>(width * w.cols);
    }
    const auto add = [&]<class T, class Out, class Source>(T, Out, const Source* column) {
        const Entries in = by_row(w, column);
        const double work = static_cast<double>(in.count()) * static_cast<double>(y.rows);
        auto* const data = static_cast<Out*>(gradient.data);
#pragma omp parallel num_threads(threads_) if (threads_ > 1 && work >= parallel_work)
        for (Index first = 0; first < y.rows; first += at_once) {
            const Index rows = std::min(at_once, y.rows - first);
            if (x.bits)
                list_rows(x, first, rows, in.sources, list);
            else
                transpose(x, first, rows, in.sources, width, panel);
            auto* const part = reinterpret_cast<float*>(y_parts + omp_get_thread_num() * y_bytes);
#pragma omp for schedule(dynamic)
            for (Index begin = 0; begin < in.targets; begin += targets_at_once) {
                const Index size = std::min(targets_at_once, in.targets - begin);
                if (rows < width) std::fill_n(part, size * width, 0.0f);
                copy_transposed(y.data + first * y.stride + begin, y.stride, rows, size, part, width);
                in.each_part(begin, begin + size, [&](const PatternRows& rows_of, Index t, Index end) {
                    for (; t < end; ++t) {
                        const float* const of_target = part + (rows_of.first - begin + t) * width;
                        if (x.bits)
                            add_fired<T>(in.source, rows_of.first_column, rows_of.begin[t], rows_of.end[t], of_target,
                                         list, data);
                        else
                            add_products<T>(in.source, rows_of.first_column, rows_of.begin[t], rows_of.end[t],
                                            rows_of.end[rows_of.rows - 1], of_target, panel, width, data);
                    }
                });
            }
        }
    };
    with_indices(pattern.column, [&](const auto* column) {
        with_sums(sums_, gradient.type, [&](auto sum, auto out) { add(sum, out, column); });
    });
}

}  // namespace spikefloss
