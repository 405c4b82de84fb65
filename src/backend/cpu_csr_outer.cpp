// Entries of y' x of the CPU backend, for the gradient of sparse weights. y and x are transposed, so that an entry is a
// product of two vectors; of spikes it is a sum of y over the listed rows in which the source fired.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_csr.hpp"

#include <omp.h>

#include <bit>

namespace spikefloss {
namespace {

// Rows that are listed at once. Their numbers have 16 bits.
constexpr Index most_listed = 65536;

// {the sum of a[0], ..., of a[7]} for T, added to to[0 .. 8).
template <class T, class Out>
void add_vector_sums(const VectorOf<T>* a, Out* to) {
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

// data[e] += the product of y and row source[e] of x, over `width` elements, for entries [begin, end).
template <class T, class Out>
void add_products(const Entries& in, Index begin, Index end, const float* y, const float* x, Index width, Out* data) {
    for (Index e = begin; e < end; e += 8) {
        const Index size = std::min<Index>(8, end - e);
        const float* row[8];
        for (Index k = 0; k < 8; ++k) row[k] = x + (in.source[e + std::min(k, size - 1)] - in.first) * width;
        VectorOf<T> a[8];
        for (auto& sum : a) sum = VectorOf<T>{};
        for (Index l = 0; l < width; l += vector_size<T>) {
            const auto factor = load_as<T>(y + l);
#pragma GCC unroll 8
            for (int k = 0; k < 8; ++k) a[k] = multiply_add(factor, load_as<T>(row[k] + l), a[k]);
        }
        if (size == 8) {
            add_vector_sums<T>(a, data + e);
        } else {
            Out rest[8] = {};
            std::copy_n(data + e, size, rest);
            add_vector_sums<T>(a, rest);
            std::copy_n(rest, size, data + e);
        }
    }
}

// data[e] += the sum of y over the rows in which the source of e fired.
template <class T, class Out>
void add_fired(const Entries& in, Index begin, Index end, const float* y, const std::uint32_t* ends,
               const std::uint16_t* rows, Out* data) {
    for (Index e = begin; e < end; ++e) {
        const std::uint32_t* const at = ends + (in.source[e] - in.first);
        if (at[0] == at[1]) continue;
        T sum = static_cast<T>(data[e]);
        for (std::uint32_t l = at[0]; l < at[1]; ++l) sum += T{y[rows[l]]};
        data[e] = static_cast<Out>(sum);
    }
}

// The rows in which each source fires: source j has rows[ends[j] .. ends[j + 1]). To be called by all threads.
void list_rows(const Activity& x, Index first, Index count, Index sources, std::uint32_t* ends, std::uint16_t* rows) {
    const auto for_every_spike = [&](auto&& work) {
#pragma omp for schedule(static)
        for (Index word = 0; word < spike_words(sources); ++word)
            for (Index r = 0; r < count; ++r)
                for (std::uint32_t left = x.bits[x.before(first + r) + word]; left; left &= left - 1)
                    work(word * 32 + std::countr_zero(left), r);
    };
#pragma omp for schedule(static)
    for (Index j = 0; j <= sources + 1; ++j) ends[j] = 0;
    for_every_spike([&](Index j, Index) { ++ends[j + 2]; });
#pragma omp single
    for (Index j = 0; j < sources; ++j) ends[j + 2] += ends[j + 1];
    for_every_spike([&](Index j, Index r) { rows[ends[j + 1]++] = static_cast<std::uint16_t>(r); });
}

}  // namespace

void CpuBackend::add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient,
                                  const SparsePattern& pattern) {
    const Entries in = by_row({pattern.rows, pattern.cols, nullptr, 0, &pattern});
    // Of y and x, the rows that are taken at once; in multiples of 8.
    const Index at_once = x.bits ? std::min(y.rows, most_listed) : y.rows;
    const Index width = (at_once + lane_size - 1) / lane_size * lane_size;
    const Index y_bytes = Arena::bytes<float>(targets_at_once * width);
    Arena arena(scratch<char>(
        threads_ * y_bytes +
        (x.bits ? Arena::bytes<std::uint32_t>(in.sources + 2) + Arena::bytes<std::uint16_t>(at_once * in.sources)
                : Arena::bytes<float>(width * in.sources)) +
        64));
    if (counting()) return;
    auto* const y_parts = arena.take<char>(threads_ * y_bytes);
    auto* const ends = x.bits ? arena.take<std::uint32_t>(in.sources + 2) : nullptr;
    auto* const listed = x.bits ? arena.take<std::uint16_t>(at_once * in.sources) : nullptr;
    auto* const panel = x.bits ? nullptr : arena.take<float>(width * in.sources);
    const double work = static_cast<double>(in.count()) * static_cast<double>(y.rows);
    with_sums(sums_, gradient.type, [&]<class T, class Out>(T, Out) {
        auto* const data = static_cast<Out*>(gradient.data);
#pragma omp parallel num_threads(threads_) if (threads_ > 1 && work >= parallel_work)
        for (Index first = 0; first < y.rows; first += at_once) {
            const Index rows = std::min(at_once, y.rows - first);
            if (x.bits)
                list_rows(x, first, rows, in.sources, ends, listed);
            else
                transpose(x, first, rows, in.sources, width, panel);
            auto* const part = reinterpret_cast<float*>(y_parts + omp_get_thread_num() * y_bytes);
#pragma omp for schedule(dynamic)
            for (Index begin = 0; begin < in.targets; begin += targets_at_once) {
                const Index size = std::min(targets_at_once, in.targets - begin);
                for (Index r = 0; r < width; ++r)
                    for (Index t = 0; t < size; ++t)
                        part[t * width + r] = r < rows ? y.data[(first + r) * y.stride + begin + t] : 0.0f;
                for (Index t = 0; t < size; ++t)
                    if (x.bits)
                        add_fired<T>(in, in.begin[begin + t], in.end[begin + t], part + t * width, ends, listed, data);
                    else
                        add_products<T>(in, in.begin[begin + t], in.end[begin + t], part + t * width, panel, width,
                                        data);
            }
        }
    });
}

}  // namespace spikefloss
