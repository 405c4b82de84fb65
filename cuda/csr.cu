// Products of the CUDA backend with sparse weights. Every sum is one chain of fused multiply-adds in ascending order,
// as on the CPU, so that both give the same bits and no run differs from another. A factor is transposed first, so that
// neighbouring threads, which have the same target and neighbouring rows, read neighbouring elements.
#include "cuda_backend.hpp"
#include "kernel.cuh"

namespace spikefloss {
namespace {

constexpr int block = 256;

// Largest number of elements of a factor that are transposed at once.
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

__device__ inline float element_of(const Activity& x, Index row, Index j) {
    const Index at = x.before(row);
    return x.bits ? static_cast<float>((x.bits[at + (j >> 5)] >> (j & 31)) & 1u) : x.values[at + j];
}

// to[j, r] = element j of row first + r of x.
__global__ void transpose_kernel(const Activity x, Index first, Index rows, Index cols, float* to) {
    for (Index at = first_element(); at < rows * cols; at += element_stride())
        to[at] = element_of(x, first + at % rows, at / rows);
}

// out[first + r, t] (+)= sum over the entries of target t of value x[source, r], in T; x [sources, rows].
template <class T>
__global__ void chains_kernel(const Entries entries, const float* x, Index first, Index rows, const SumMatrix out,
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
                sum = fused(static_cast<T>(value), static_cast<T>(x[source * rows + r]), sum);
            }
        }
        if (wide)
            *wide = sum;
        else
            *narrow = static_cast<float>(accumulate && !chain ? *narrow + sum : sum);
    }
}

// gradient[e] += sum over rows of y[r, i] x[r, j] for every entry e = (i, j), in T: one warp per row i of a part.
template <class T>
__global__ void add_entries_kernel(const PatternRows* parts, Index part_count, const EntryIndices column,
                                   const float* y, Index rows, Index stride, const Activity x,
                                   const SumMatrix gradient) {
    const Index lane = threadIdx.x % warp_size;
    for (Index p = 0; p < part_count; ++p) {
        const PatternRows& part = parts[p];
        for (Index i = first_element() / warp_size; i < part.rows; i += element_stride() / warp_size)
            for (Index e = part.begin[i] + lane; e < part.end[i]; e += warp_size) {
                const Index j = column[e] - part.first_column;
                float* const narrow =
                    gradient.type == Scalar::float32 ? static_cast<float*>(gradient.data) + e : nullptr;
                double* const wide = narrow ? nullptr : static_cast<double*>(gradient.data) + e;
                T sum = narrow ? static_cast<T>(*narrow) : static_cast<T>(*wide);
                for (Index r = 0; r < rows; ++r)
                    sum =
                        fused(static_cast<T>(y[r * stride + part.first + i]), static_cast<T>(element_of(x, r, j)), sum);
                if (wide)
                    *wide = sum;
                else
                    *narrow = static_cast<float>(sum);
            }
    }
}

// Rows of a factor that are transposed at once.
Index rows_at_once(Index rows, Index sources) {
    return std::min(rows, std::max<Index>(1, most_transposed / std::max<Index>(1, sources)));
}

// out (+)= the sums of `entries` over x [out.rows, sources]; `transposed` has room for rows_at_once rows.
template <class T>
void chains(cudaStream_t stream, const Entries& entries, Index sources, const Activity& x, float* transposed,
            SumMatrix out, bool accumulate) {
    const Index at_once = rows_at_once(out.rows, sources);
    for (Index first = 0; first < out.rows; first += at_once) {
        const Index rows = std::min(at_once, out.rows - first);
        launch({grid_for(rows * sources, block), block, stream}, transpose_kernel, x, first, rows, sources, transposed);
        launch({grid_for(rows * out.cols, block), block, stream}, chains_kernel<T>, entries, transposed, first, rows,
               out, accumulate);
    }
}

}  // namespace

void CudaBackend::project_sparse(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    float* const transposed = scratch<float>(rows_at_once(out.rows, w.cols) * w.cols);
    if (counting()) return;
    const SparsePattern& p = *w.pattern;
    const Entries entries{p.parts.data(), static_cast<Index>(p.parts.size()), p.column, w.values, nullptr};
    (sums_ == Sums::float32 ? chains<float> : chains<double>)(stream_, entries, w.cols, x, transposed, out, accumulate);
}

void CudaBackend::project_sparse_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    float* const transposed = scratch<float>(rows_at_once(out.rows, w.rows) * w.rows);
    if (counting()) return;
    const SparsePattern& p = *w.pattern;
    const Entries entries{p.by_column, 1, p.row, w.by_column ? w.by_column : w.values, w.by_column ? nullptr : p.place};
    (sums_ == Sums::float32 ? chains<float> : chains<double>)(stream_, entries, w.rows,
                                                              {.values = y.data, .stride = y.stride}, transposed, out,
                                                              accumulate);
}

void CudaBackend::add_outer_sparse(Matrix<const float> y, const Activity& x, SumMatrix gradient,
                                   const SparsePattern& pattern) {
    if (counting()) return;
    const Launch warps{grid_for(pattern.rows * warp_size, block), block, stream_};
    launch(warps, sums_ == Sums::float32 ? add_entries_kernel<float> : add_entries_kernel<double>, pattern.parts.data(),
           static_cast<Index>(pattern.parts.size()), pattern.column, y.data, y.rows, y.stride, x, gradient);
}

}  // namespace spikefloss
