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

// Floats that a line of the cache has.
inline constexpr Index line = 16;

// Entry e of target part.first + t, part.begin[t] <= e < part.end[t], has the source source[e] - part.first_column, and
// the weight values[e], or values[place[e]].
template <class Source>
struct Entries {
    Index targets, sources;
    std::span<const PatternRows> parts;
    const Source* source;
    const float* values;
    const std::uint32_t* place;

    // At least the number of entries.
    Index count() const {
        Index sum = 0;
        for (const PatternRows& part : parts) sum += part.end[part.rows - 1] - part.begin[0];
        return sum;
    }
    // Calls work(part, t, end) for the targets [t, end) among [begin, end) that a part has, both counted from its
    // first.
    template <class Work>
    void each_part(Index begin, Index end, Work&& work) const {
        auto part = std::partition_point(parts.begin(), parts.end(),
                                         [&](const PatternRows& p) { return p.first + p.rows <= begin; });
        for (; part != parts.end() && part->first < end; ++part)
            work(*part, std::max<Index>(begin - part->first, 0), std::min(end - part->first, part->rows));
    }
};

template <class Source>
Entries<Source> by_row(const Weights& w, const Source* column) {
    return {w.rows, w.cols, w.pattern->parts, column, w.values, nullptr};
}

// Calls work with the pointer that is not null.
template <class Work>
void with_indices(const EntryIndices& indices, Work&& work) {
    indices.narrow ? work(indices.narrow) : work(indices.wide);
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
        if (x.values) copy_transposed(x.values + x.before(first) + begin, x.stride, rows, size, panel, width);
        for (Index r = 0; x.bits && r < rows; ++r) {
            const Index row = x.before(first + r);
            for (Index j = 0; j < size; ++j)
                panel[j * width + r] =
                    static_cast<float>((x.bits[row + ((begin + j) >> 5)] >> ((begin + j) & 31)) & 1u);
        }
    }
}

}  // namespace spikefloss
