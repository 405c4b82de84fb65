// Products of the CUDA backend with sparse weights. Every sum is one chain of fused multiply-adds in ascending order,
// as on the CPU, so that both give the same bits and no run differs from another. A factor is transposed first, so that
// neighbouring threads, which have the same target and neighbouring rows, read neighbouring elements. Spikes stay bits:
// a word has those of one source in 32 rows.
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int block = 256;
constexpr Index word_bits = 32;

// Largest number of floats or words that are transposed at once.
constexpr Index most_transposed = Index(1) << 24;

// The entries of all targets: each has a source and a weight.
struct Entries {
    const PatternRows* parts;
    Index part_count;
    EntryIndices source;
    const float* values;
    const std::uint32_t* place;  // of an entry in values; null: the entry itself
};

__device__ inline float fused(float a, float b, float c) { return fmaf(a, b, c); }
__device__ inline double fused(double a, double b, double c) { return fma(a, b, c); }

// A transposed factor: of floats [sources, rows], or of spikes [sources, words]. for_each calls f(row, element) for the
// rows of a source in ascending order; spikes that are 0 are left out.
struct FloatColumns {
    const float* x;
    Index rows;
    __device__ float at(Index source, Index row) const { return x[source * rows + row]; }
    template <class F>
    __device__ void for_each(Index source, F f) const {
        for (Index row = 0; row < rows; ++row) f(row, at(source, row));
    }
};
struct SpikeColumns {
    const std::uint32_t* bits;
    Index words;
    __device__ float at(Index source, Index row) const {
        return static_cast<float>((bits[source * words + row / word_bits] >> (row % word_bits)) & 1u);
    }
    template <class F>
    __device__ void for_each(Index source, F f) const {
        for (Index word = 0; word < words; ++word)
            for (std::uint32_t rest = bits[source * words + word]; rest; rest &= rest - 1)
                f(word * word_bits + __ffs(static_cast<int>(rest)) - 1, 1.0f);
    }
};

// to[j, r] = element j of row first + r of x.
__global__ void transpose_kernel(const float* x, Index stride, Index rows, Index cols, float* to) {
    for (Index at = first_element(); at < rows * cols; at += element_stride())
        to[at] = x[at % rows * stride + at / rows];
}

// to[j, word]: the spikes of source j in 32 rows. A warp takes 32 rows and 32 sources.
__global__ void transpose_spikes_kernel(const Activity x, Index first, Index rows, Index cols, std::uint32_t* to) {
    const Index words = (rows + word_bits - 1) / word_bits, lane = threadIdx.x % warp_size;
    const Index across = spike_words(cols);
    for (Index at = first_element() / warp_size; at < words * across; at += element_stride() / warp_size) {
        const Index row = at / across * word_bits + lane, word = at % across, source = word * word_bits + lane;
        const std::uint32_t mine = row < rows ? x.bits[x.before(first + row) + word] : 0u;
        std::uint32_t kept = 0;
        for (int j = 0; j < word_bits; ++j) {
            const std::uint32_t of_source = __ballot_sync(all_lanes, mine >> j & 1u);
            if (lane == j) kept = of_source;
        }
        if (source < cols) to[source * words + at / across] = kept;
    }
}

// out[first + r, t] (+)= sum over the entries of target t of value x[source, r], in T.
template <class T, class Columns>
__global__ void chains_kernel(const Entries entries, const Columns x, Index first, Index rows, const SumMatrix out,
                              bool accumulate) {
    for (Index at = first_element(); at < out.cols * rows; at += element_stride()) {
        const Index t = at / rows, r = at % rows, to = (first + r) * out.stride + t;
        float* const narrow = out.type == Scalar::float32 ? static_cast<float*>(out.data) + to : nullptr;
        double* const wide = narrow ? nullptr : static_cast<double*>(out.data) + to;
        const bool chain = accumulate && (sizeof(T) == sizeof(float) || wide);
        T sum = !chain ? T(0) : narrow ? static_cast<T>(*narrow) : static_cast<T>(*wide);
        for (Index p = 0; p < entries.part_count; ++p) {
            const PatternRows& part = entries.parts[p];
            if (t < part.first || t >= part.first + part.rows) continue;
            for (Index e = part.begin[t - part.first], end = part.end[t - part.first]; e < end; ++e) {
                const float value = entries.values[entries.place ? static_cast<Index>(entries.place[e]) : e];
                const Index source = entries.source[e] - part.first_column;
                sum = fused(static_cast<T>(value), static_cast<T>(x.at(source, r)), sum);
            }
        }
        if (wide)
            *wide = sum;
        else
            *narrow = static_cast<float>(accumulate && !chain ? *narrow + sum : sum);
    }
}

// gradient[e] += sum over rows of y[i, r] x[j, r] for every entry e = (i, j), in T: one warp per row i of a part.
// y [targets, rows] is transposed, too. The lanes of a warp read the same elements of y.
template <class T, class Columns>
__global__ void add_entries_kernel(const PatternRows* parts, Index part_count, const EntryIndices column,
                                   const float* y, Index rows, const Columns x, const SumMatrix gradient) {
    const Index lane = threadIdx.x % warp_size;
    for (Index p = 0; p < part_count; ++p) {
        const PatternRows& part = parts[p];
        for (Index i = first_element() / warp_size; i < part.rows; i += element_stride() / warp_size) {
            const float* const y_i = y + (part.first + i) * rows;
            for (Index e = part.begin[i] + lane; e < part.end[i]; e += warp_size) {
                float* const narrow =
                    gradient.type == Scalar::float32 ? static_cast<float*>(gradient.data) + e : nullptr;
                double* const wide = narrow ? nullptr : static_cast<double*>(gradient.data) + e;
                T sum = narrow ? static_cast<T>(*narrow) : static_cast<T>(*wide);
                x.for_each(column[e] - part.first_column, [&](Index r, float element) {
                    sum = fused(static_cast<T>(y_i[r]), static_cast<T>(element), sum);
                });
                if (wide)
                    *wide = sum;
                else
                    *narrow = static_cast<float>(sum);
            }
        }
    }
}

// Floats or words of a column of x of `rows` rows.
Index column_length(const Activity& x, Index rows) { return x.bits ? (rows + word_bits - 1) / word_bits : rows; }

// Rows that are taken at once if each has this many floats or words. With bits, a multiple of 32 but for the last.
Index rows_at_once(const Activity& x, Index rows, Index sources, Index targets) {
    const Index of_row = targets + (x.bits ? (sources + word_bits - 1) / word_bits : sources);
    const Index most = most_transposed / std::max<Index>(1, of_row);
    return std::min(rows, x.bits ? std::max(word_bits, most / word_bits * word_bits) : std::max<Index>(1, most));
}

// `columns`: room for sources * column_length(x, rows) floats.
void transpose(cudaStream_t stream, const Activity& x, Index first, Index rows, Index sources, float* columns) {
    const Index elements = sources * (x.bits ? column_length(x, rows) : rows);
    const Launch how{grid_for(elements, block), block, stream};
    if (x.bits)
        launch(how, transpose_spikes_kernel, x, first, rows, sources, reinterpret_cast<std::uint32_t*>(columns));
    else
        launch(how, transpose_kernel, x.values + x.before(first), x.stride, rows, sources, columns);
}

// work(columns) with the transposed x as the columns that its kind has.
template <class Work>
void with_columns(const Activity& x, const float* columns, Index rows, Work&& work) {
    if (x.bits)
        work(SpikeColumns{reinterpret_cast<const std::uint32_t*>(columns), column_length(x, rows)});
    else
        work(FloatColumns{columns, rows});
}

// out (+)= the sums of `entries` over x [out.rows, sources]; `transposed` has room for rows_at_once rows.
template <class T>
void chains(cudaStream_t stream, const Entries& entries, Index sources, const Activity& x, float* transposed,
            SumMatrix out, bool accumulate) {
    const Index at_once = rows_at_once(x, out.rows, sources, 0);
    for (Index first = 0; first < out.rows; first += at_once) {
        const Index rows = std::min(at_once, out.rows - first);
        transpose(stream, x, first, rows, sources, transposed);
        with_columns(x, transposed, rows, [&](const auto& columns) {
            launch({grid_for(rows * out.cols, block), block, stream}, chains_kernel<T, std::decay_t<decltype(columns)>>,
                   entries, columns, first, rows, out, accumulate);
        });
    }
}

}  // namespace

void CudaBackend::project_sparse(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    float* const transposed = scratch<float>(column_length(x, rows_at_once(x, out.rows, w.cols, 0)) * w.cols);
    if (counting()) return;
    const SparsePattern& p = *w.pattern;
    const Entries entries{p.parts.data(), static_cast<Index>(p.parts.size()), p.column, w.values, nullptr};
    (sums_ == Sums::float32 ? chains<float> : chains<double>)(stream_, entries, w.cols, x, transposed, out, accumulate);
}

void CudaBackend::project_sparse_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    const Activity x{.values = y.data, .stride = y.stride};
    float* const transposed = scratch<float>(rows_at_once(x, out.rows, w.rows, 0) * w.rows);
    if (counting()) return;
    const SparsePattern& p = *w.pattern;
    const Entries entries{p.by_column, 1, p.row, w.by_column ? w.by_column : w.values, w.by_column ? nullptr : p.place};
    (sums_ == Sums::float32 ? chains<float> : chains<double>)(stream_, entries, w.rows, x, transposed, out, accumulate);
}

void CudaBackend::add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient,
                                   const SparsePattern& pattern) {
    const Index at_once = rows_at_once(x, y.rows, pattern.cols, y.cols);
    float* const turned_y = scratch<float>(at_once * y.cols + column_length(x, at_once) * pattern.cols);
    if (counting()) return;
    float* const turned_x = turned_y + at_once * y.cols;
    for (Index first = 0; first < y.rows; first += at_once) {
        const Index rows = std::min(at_once, y.rows - first);
        transpose(stream_, {.values = y.data, .stride = y.stride}, first, rows, y.cols, turned_y);
        transpose(stream_, x, first, rows, pattern.cols, turned_x);
        with_columns(x, turned_x, rows, [&](const auto& columns) {
            using Columns = std::decay_t<decltype(columns)>;
            launch({grid_for(pattern.rows * warp_size, block), block, stream_},
                   sums_ == Sums::float32 ? add_entries_kernel<float, Columns> : add_entries_kernel<double, Columns>,
                   pattern.parts.data(), static_cast<Index>(pattern.parts.size()), pattern.column,
                   static_cast<const float*>(turned_y), rows, columns, gradient);
        });
    }
}

}  // namespace spikefloss
