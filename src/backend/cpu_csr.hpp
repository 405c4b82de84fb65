// Common code of the CPU backend's products with sparse weights: lists of entries, sums in floats or doubles, panels.
#pragma once

#include "backend/backend.hpp"
#include "backend/lane.hpp"

#include <algorithm>
#include <type_traits>

namespace spikefloss {

// Below this many multiply-adds one thread computes a product.
inline constexpr double parallel_work = 3e4;

// Targets and sources that a thread takes at a time.
inline constexpr Index targets_at_once = 32, sources_at_once = 64;

// Entry e of target t, begin[t] <= e < end[t], has the source source[e] - first, and the weight values[e], or
// values[place[e]].
struct Entries {
    Index targets, sources;
    const Index *begin, *end;
    const std::int32_t* source;
    Index first;
    const float* values;
    const std::uint32_t* place;

    template <bool placed>
    float value(Index e) const {
        return values[placed ? static_cast<Index>(place[e]) : e];
    }
    // At least the number of entries.
    Index count() const { return targets ? end[targets - 1] - begin[0] : 0; }
};

inline Entries by_row(const Weights& w) {
    const SparsePattern& p = *w.pattern;
    return {p.rows, p.cols, p.row_begin, p.row_end, p.column, p.first_column, w.values, nullptr};
}

// Vectors of T, and a vector of floats as one. A vector can be a single T.
template <class T, bool single = false>
struct Vector {
    using Type = T;
    static constexpr int size = 1;
};
template <>
struct Vector<double, false> {
    using Type = WideLane;
    static constexpr int size = wide_lane_size;
};
template <>
struct Vector<float, false> {
    using Type = Lane;
    static constexpr int size = lane_size;
};

template <class T, bool single = false>
auto load_as(const float* p) {
    if constexpr (single)
        return T{*p};
    else if constexpr (std::is_same_v<T, float>)
        return load(p);
    else
        return load_wide(p);
}

template <class Work>
void with_sums(Sums sums, Scalar out, Work&& work) {
    if (out == Scalar::float64)
        work(double{}, double{});
    else if (sums == Sums::float64)
        work(double{}, float{});
    else
        work(float{}, float{});
}

// to[j * width + r] = element j of row first + r of x, of which there are `rows`; 0 for the rest of `width`. To be
// called by all threads.
inline void transpose(const Activity& x, Index first, Index rows, Index cols, Index width, float* to) {
#pragma omp for schedule(static)
    for (Index begin = 0; begin < cols; begin += sources_at_once) {
        const Index size = std::min(sources_at_once, cols - begin);
        float* const panel = to + begin * width;
        if (rows < width) std::fill_n(panel, size * width, 0.0f);
        for (Index r = 0; r < rows; ++r) {
            const Index row = x.before(first + r);
            if (x.bits)
                for (Index j = 0; j < size; ++j)
                    panel[j * width + r] =
                        static_cast<float>((x.bits[row + ((begin + j) >> 5)] >> ((begin + j) & 31)) & 1u);
            else
                for (Index j = 0; j < size; ++j) panel[j * width + r] = x.values[row + begin + j];
        }
    }
}

}  // namespace spikefloss
