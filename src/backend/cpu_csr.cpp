// Products of the CPU backend with sparse weights. Every sum is one chain in the order of its sources:
//
//   by spikes    adds the columns of W of the sources that fired; each sequence by itself
//   by targets   x is transposed to panels [sources, W] of W of its rows, so that a synapse is one multiply-add of W
//                neighbours
//
// A silent source adds 0, so both give the same bits. The one that takes less time is chosen by the rate.
#include "backend/cpu_csr.hpp"

#include "backend/cpu_backend.hpp"

#include <bit>

namespace spikefloss {
namespace {

// The time of a synapse of a spike, in that of a synapse and eight rows by targets.
constexpr double spike_cost = 0.8;

// How far ahead entries are fetched: rows are too short for the processor to see a pattern.
constexpr Index entries_ahead = 512;

// The largest panel that stays in a second-level cache, in floats.
constexpr Index panel_floats = 1 << 17;

template <class Source>
Entries<Source> by_column(const Weights& w, const Source* row) {
    const float* const values = w.by_column ? w.by_column : w.values;
    return {w.cols, w.rows, {w.pattern->by_column, 1}, row, values, w.by_column ? nullptr : w.pattern->place};
}

template <class Work>
void with_flag(bool flag, Work&& work) {
    flag ? work(std::true_type{}) : work(std::false_type{});
}

template <class Out>
Out* row_of(SumMatrix out, Index row) {
    return static_cast<Out*>(out.data) + row * out.stride;
}

// ---- by targets -----------------------------------------------------------------------------------------------------

template <class T, bool single>
auto load_sum(const T* p) {
    if constexpr (single)
        return *p;
    else
        return load(p);
}
template <class T, class V>
void store_sum(T* p, V sum) {
    if constexpr (std::is_same_v<T, V>)
        *p = sum;
    else
        store(p, sum);
}

// sums[g, W] += the entries of target t + g of a part over the panel x [sources, W], for G targets.
template <class T, int W, int G, bool placed, class Source>
[[gnu::noinline]] void add_entries(const Entries<Source>& in, const PatternRows& part, Index t, const float* x,
                                   T* sums) {
    constexpr bool single = W == 1;
    constexpr int size = Vector<T, single>::size, lanes = W / size;
    typename Vector<T, single>::Type a[G][lanes];
    const float* const first_row = x - part.first_column * W;
    // One pointer for each array and target, so that they stay in registers. Inlined, they would not.
    const Source* source[G];
    const float* values[G];
    const std::uint32_t* place[G];
    Index count[G], common = part.end[t] - part.begin[t];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
        const Index begin = part.begin[t + g];
        source[g] = in.source + begin;
        values[g] = placed ? in.values : in.values + begin;
        place[g] = placed ? in.place + begin : nullptr;
        count[g] = part.end[t + g] - begin;
        common = std::min(common, count[g]);
        for (int l = 0; l < lanes; ++l) a[g][l] = load_sum<T, single>(sums + g * W + l * size);
    }
    const auto add_entry = [&](int g, Index c) {
        const float* const row = first_row + Index{source[g][c]} * W;
        const T w{values[g][placed ? static_cast<Index>(place[g][c]) : c]};
#pragma GCC unroll 8
        for (int l = 0; l < lanes; ++l)
            if constexpr (single)
                a[g][l] = multiply_add(w, T{*row}, a[g][l]);
            else
                a[g][l] = multiply_add(repeat(w), load_as<T>(row + l * size), a[g][l]);
    };
    for (Index begin = 0; begin < common; begin += line) {
#pragma GCC unroll 4
        for (int g = 0; g < G; ++g) {
            __builtin_prefetch(source[g] + begin + entries_ahead);
            if (!placed) __builtin_prefetch(values[g] + begin + entries_ahead);
        }
        for (Index c = begin, end = std::min(begin + line, common); c < end; ++c)
#pragma GCC unroll 4
            for (int g = 0; g < G; ++g) add_entry(g, c);
    }
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
        for (Index c = common; c < count[g]; ++c) add_entry(g, c);
        for (int l = 0; l < lanes; ++l) store_sum(sums + g * W + l * size, a[g][l]);
    }
}

// Rows first .. first + rows of out (+)= the sums of all targets over the panel. To be called by all threads.
template <class T, class Out, int W, bool placed, class Source>
void sum_targets(const Entries<Source>& in, const float* x, Index first, Index rows, SumMatrix out, bool accumulate) {
    constexpr int lanes = W / Vector<T, W == 1>::size, G = std::min(4, 8 / lanes);
    const bool chain = accumulate && std::is_same_v<T, Out>;
#pragma omp for schedule(dynamic)
    for (Index begin = 0; begin < in.targets; begin += targets_at_once) {
        const Index size = std::min(targets_at_once, in.targets - begin);
        T sums[targets_at_once * W] = {};
        Out* const to = row_of<Out>(out, first) + begin;
        if (chain) copy_transposed(to, out.stride, rows, size, sums, W);
        in.each_part(begin, begin + size, [&](const PatternRows& part, Index t, Index end) {
            T* const of_part = sums + (part.first - begin) * W;
            for (; t + G <= end; t += G) add_entries<T, W, G, placed>(in, part, t, x, of_part + t * W);
            for (; t < end; ++t) add_entries<T, W, 1, placed>(in, part, t, x, of_part + t * W);
        });
        if (!accumulate || chain)
            copy_transposed(sums, W, size, rows, to, out.stride);
        else
            for (Index r = 0; r < rows; ++r)
                for (Index t = 0; t < size; ++t) {
                    Out& element = to[r * out.stride + t];
                    element = static_cast<Out>(static_cast<T>(element) + sums[t * W + r]);
                }
    }
}

// The rows of the next panel, of `rows` that are left.
Index panel_width(Sums sums, Index rows, Index sources) {
    if (rows == 1) return 1;
    const Index most = std::max<Index>(panel_floats / std::max<Index>(1, sources), 2 * lane_size);
    Index width = sums == Sums::float32 ? 64 : 32;
    while (width > lane_size && (width > most || width > (rows + lane_size - 1) / lane_size * lane_size)) width /= 2;
    return width;
}

template <class Work>
void with_width(Index width, Work&& work) {
    switch (width) {
        case 1: return work(std::integral_constant<int, 1>{});
        case 8: return work(std::integral_constant<int, 8>{});
        case 16: return work(std::integral_constant<int, 16>{});
        case 32: return work(std::integral_constant<int, 32>{});
        default: return work(std::integral_constant<int, 64>{});
    }
}

Index panel_size(Sums sums, Index rows, Index sources) { return panel_width(sums, rows, sources) * sources; }

// out (+)= the sums of all targets over x.
template <class Source>
void project_by_targets(int threads, Sums sums, const Entries<Source>& in, const Activity& x, float* panel,
                        SumMatrix out, bool accumulate) {
    const double work = static_cast<double>(in.count()) * static_cast<double>(out.rows);
    with_sums(sums, out.type, [&]<class T, class Out>(T, Out) {
        with_flag(in.place != nullptr, [&](auto placed) {
#pragma omp parallel num_threads(threads) if (threads > 1 && work >= parallel_work)
            for (Index first = 0; first < out.rows;) {
                const Index width = panel_width(sums, out.rows - first, in.sources);
                const Index rows = std::min(width, out.rows - first);
                const bool as_it_is = out.rows == 1 && x.values;
                if (!as_it_is) transpose(x, first, rows, in.sources, width, panel);
                with_width(width, [&](auto W) {
                    if constexpr (std::is_same_v<T, float> || W <= 32)
                        sum_targets<T, Out, W, placed>(in, as_it_is ? x.values + x.before(0) : panel, first, rows, out,
                                                       accumulate);
                });
                first += rows;
            }
        });
    });
}

// ---- by spikes ------------------------------------------------------------------------------------------------------

Index fired(const Activity& x, Index rows, Index sources) {
    Index count = 0;
    for (Index r = 0; r < rows; ++r)
        for (const std::uint32_t *word = x.bits + x.before(r), *end = word + spike_words(sources); word < end; ++word)
            count += std::popcount(*word);
    return count;
}

// sums[t] += the weights of source j of the product to targets [begin, end). `in` is by source: its targets are the
// sources of the product, in one part.
template <class T, bool placed, class Source>
void add_source(const Entries<Source>& in, Index j, Index begin, Index end, T* sums) {
    Index e = in.parts[0].begin[j], last = in.parts[0].end[j];
    if (begin > 0 || end < in.sources) {
        Index below = 0, within = 0;
        for (Index at = e; at < last; ++at) {
            below += in.source[at] < begin;
            within += in.source[at] < end;
        }
        last = e + within;
        e += below;
    }
#pragma GCC unroll 4
    for (; e < last; ++e) sums[in.source[e]] += T{in.values[placed ? static_cast<Index>(in.place[e]) : e]};
}

// The same for all sources that fired, one row of bits. They are listed some at a time, so that the first entries of
// the next ones are on their way to the cache.
template <class T, bool placed, class Source>
void add_spikes(const Entries<Source>& in, const std::uint32_t* bits, Index begin, Index end, T* sums) {
    constexpr Index ahead = 4, most = 128, lines = 8;
    const PatternRows& sources = in.parts[0];
    Index list[most], count = 0;
    const auto fetch = [&](Index j) {
        const Index first = sources.begin[j], last = std::min(sources.end[j], first + lines * line);
        for (Index e = first; e < last; e += line) {
            __builtin_prefetch(in.source + e);
            __builtin_prefetch(placed ? static_cast<const void*>(in.place + e) : in.values + e);
        }
    };
    const auto add_listed = [&] {
        for (Index i = 0; i < std::min(ahead, count); ++i) fetch(list[i]);
        for (Index i = 0; i < count; ++i) {
            if (i + ahead < count) fetch(list[i + ahead]);
            add_source<T, placed>(in, list[i], begin, end, sums);
        }
        count = 0;
    };
    for (Index word = 0; word < spike_words(in.targets); ++word) {
        if (count > most - 32) add_listed();
        for (std::uint32_t left = bits[word]; left; left &= left - 1) {
            list[count] = word * 32 + std::countr_zero(left);
            __builtin_prefetch(sources.begin + list[count++]);
        }
    }
    add_listed();
}

template <class Source>
void project_by_spikes(int threads, Sums sums, const Entries<Source>& in, Index spikes, const Activity& x, double* wide,
                       SumMatrix out, bool accumulate) {
    const double work = static_cast<double>(in.count()) / static_cast<double>(std::max<Index>(1, in.targets)) *
                        static_cast<double>(spikes);
    const bool parallel = threads > 1 && work >= parallel_work;
    const Index parts = !parallel || out.rows >= 4 * threads ? 1 : threads, n = out.cols;
    with_sums(sums, out.type, [&]<class T, class Out>(T, Out) {
        with_flag(in.place != nullptr, [&](auto placed) {
#pragma omp parallel for num_threads(threads) if (parallel) schedule(dynamic)
            for (Index task = 0; task < out.rows * parts; ++task) {
                const Index r = task / parts, begin = n * (task % parts) / parts, end = n * (task % parts + 1) / parts;
                Out* const to = row_of<Out>(out, r);
                const std::uint32_t* const bits = x.bits + x.before(r);
                if constexpr (std::is_same_v<T, Out>) {
                    if (!accumulate) std::fill(to + begin, to + end, Out(0));
                    add_spikes<T, placed>(in, bits, begin, end, to);
                } else {
                    T* const sum = wide + r * n;
                    std::fill(sum + begin, sum + end, T(0));
                    add_spikes<T, placed>(in, bits, begin, end, sum);
                    for (Index t = begin; t < end; ++t)
                        to[t] = static_cast<Out>(accumulate ? static_cast<T>(to[t]) + sum[t] : sum[t]);
                }
            }
        });
    });
}

}  // namespace

void CpuBackend::project_sparse(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    const bool wide = x.bits && sums_ == Sums::float64 && out.type == Scalar::float32;
    const Index panel = panel_size(sums_, out.rows, w.cols) * static_cast<Index>(sizeof(float)),
                sums = wide ? out.rows * out.cols * static_cast<Index>(sizeof(double)) : 0;
    auto* const memory = scratch<char>(std::max(panel, sums));
    if (counting()) return;
    if (x.bits) {
        const Index spikes = fired(x, out.rows, w.cols), eights = (out.rows + lane_size - 1) / lane_size;
        if (spike_cost * static_cast<double>(spikes) <= static_cast<double>(eights * w.cols))
            return with_indices(w.pattern->row, [&](const auto* row) {
                project_by_spikes(threads_, sums_, by_column(w, row), spikes, x, reinterpret_cast<double*>(memory), out,
                                  accumulate);
            });
    }
    with_indices(w.pattern->column, [&](const auto* column) {
        project_by_targets(threads_, sums_, by_row(w, column), x, reinterpret_cast<float*>(memory), out, accumulate);
    });
}

void CpuBackend::project_sparse_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    auto* const panel = scratch<float>(panel_size(sums_, out.rows, w.rows));
    if (counting()) return;
    with_indices(w.pattern->row, [&](const auto* row) {
        project_by_targets(threads_, sums_, by_column(w, row), {.values = y.data, .stride = y.stride}, panel, out,
                           accumulate);
    });
}

}  // namespace spikefloss
