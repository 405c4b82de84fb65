// Products of the CPU backend: x W', y W and y' x. Spikes, and inputs that are mostly zeros, are listed and only these
// entries are visited (cpu_sparse.cpp). Products with a narrow factor (readouts, a few inputs) are computed here, and
// all others by BLAS. With Sums::float64 the factors are widened and the product is computed in double. Products of two
// floats are then exact, and the rounded sum does not depend on the order of its terms, except for ties in about 1e-9
// of the cases. For this reason runs agree on all grids.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_packed.hpp"

#include <cblas.h>

#include <algorithm>

namespace spikefloss {
namespace {

// A product of more than parallel_products is split: the largest number of parts, and the smallest number of rows or
// columns of a part.
constexpr Index most_parts = 8, least_part = 32;

// Rows of the wide factor of y' x that are taken at a time, so that they stay in the first-level cache; and rows whose
// sum is then added, so that long sums lose few digits.
constexpr Index outer_block = 32, outer_slab = 256;

// From this many elements all threads expand bits.
constexpr Index parallel_elements = 1 << 15;

void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, const float* a, Index lda, const float* b,
          Index ldb, float beta, float* c, Index ldc) {
    cblas_sgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0f, a,
                static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

void blas(CBLAS_TRANSPOSE ta, CBLAS_TRANSPOSE tb, Index m, Index n, Index k, const double* a, Index lda,
          const double* b, Index ldb, double beta, double* c, Index ldc) {
    cblas_dgemm(CblasRowMajor, ta, tb, static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0, a,
                static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
}

// C (+)= A B, where a turned factor is stored as its transpose. The longer side of C is split into parts for the
// threads. The parts depend only on the shape, so that the result does not depend on the number of threads.
template <class T>
void split_product(int threads, Matrix<const T> a, bool turned_a, Matrix<const T> b, bool turned_b, SumMatrix out,
                   bool accumulate) {
    const Index m = out.rows, n = out.cols, k = turned_a ? a.rows : a.cols;
    T* const c = static_cast<T*>(out.data);
    if (m == 0 || n == 0) return;
    if (k == 0) {
        if (!accumulate)
            for (Index i = 0; i < m; ++i) std::fill_n(c + i * out.stride, n, T(0));
        return;
    }
    const double work = static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k);
    const bool by_rows = m >= n;
    const Index side = by_rows ? m : n;
    const Index parts = work < parallel_products ? 1 : std::clamp<Index>(side / least_part, 1, most_parts);
    const auto flag = [](bool turned) { return turned ? CblasTrans : CblasNoTrans; };
#pragma omp parallel for num_threads(threads) if (parts > 1) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        const Index begin = side * part / parts, size = side * (part + 1) / parts - begin;
        const T* const a_part = by_rows ? a.data + (turned_a ? begin : begin * a.stride) : a.data;
        const T* const b_part = by_rows ? b.data : b.data + (turned_b ? begin * b.stride : begin);
        blas(flag(turned_a), flag(turned_b), by_rows ? size : m, by_rows ? n : size, k, a_part, a.stride, b_part,
             b.stride, accumulate ? T(1) : T(0), c + (by_rows ? begin * out.stride : begin), out.stride);
    }
}

// out (+)= a W, with a [out.rows, inner] and W [inner, out.cols]. last: the columns of W after its whole tiles, as a
// tile that is padded with zeros.
void multiply_rows(int threads, Index inner, Matrix<const float> a, RightFactor w, RightFactor last, Matrix<float> out,
                   bool accumulate) {
    const Index whole = out.cols / tile * tile, rest = out.cols - whole;
#pragma omp parallel for num_threads(threads_for_product(threads, out.rows, out.cols, inner))
    for (Index top = 0; top < out.rows; top += row_block) {
        const Index rows = std::min(row_block, out.rows - top);
        const LeftFactor left{a.data + top * a.stride, a.stride, 1};
        float* const to = out.data + top * out.stride;
        multiply(rows, whole, inner, left, w, to, out.stride, accumulate);
        if (rest == 0) continue;
        float sums[row_block * tile];
        for (Index r = 0; accumulate && r < rows; ++r) std::copy_n(to + r * out.stride + whole, rest, sums + r * tile);
        multiply(rows, tile, inner, left, last, sums, tile, accumulate);
        for (Index r = 0; r < rows; ++r) std::copy_n(sums + r * tile, rest, to + r * out.stride + whole);
    }
}

// out (+)= Y W for W of few rows.
void multiply_few(int threads, Matrix<const float> y, const Weights& w, Matrix<float> out, bool accumulate) {
    const Index whole = out.cols / tile * tile, rest = out.cols - whole;
    float last[narrow * tile] = {};
    for (Index j = 0; j < w.rows; ++j) std::copy_n(w.values + j * w.stride + whole, rest, last + j * tile);
    multiply_rows(threads, w.rows, y, {w.values, w.stride}, {last, tile}, out, accumulate);
}

// out (+)= X W' for W [n, m] with a narrow side. turned: room for W', [m, padded(n)].
void project_narrow(int threads, Matrix<const float> x, const Weights& w, float* turned, Matrix<float> out,
                    bool accumulate) {
    const Index n = w.rows, m = w.cols, width = padded(n), whole = n / tile * tile;
    for (Index j = 0; j < m; ++j) std::fill_n(turned + j * width + whole, width - whole, 0.0f);
    copy_transposed(w.values, w.stride, n, m, turned, width);
    if (n > narrow) return multiply_rows(threads, m, x, {turned, width}, {turned + whole, width}, out, accumulate);
#pragma omp parallel for num_threads(threads_for_product(threads, out.rows, n, m))
    for (Index top = 0; top < out.rows; top += row_block) {
        const Index rows = std::min(row_block, out.rows - top);
        float sums[row_block * narrow];
        float* const to = out.data + top * out.stride;
        for (Index r = 0; accumulate && r < rows; ++r) std::copy_n(to + r * out.stride, n, sums + r * width);
        multiply(rows, width, m, {x.data + top * x.stride, x.stride, 1}, {turned, width}, sums, width, accumulate);
        for (Index r = 0; r < rows; ++r) std::copy_n(sums + r * width, n, to + r * out.stride);
    }
}

// sum += y' x for a narrow y; turned: sum += x' y. part: room for [y.cols, padded(x.cols)].
void add_outer_narrow(int threads, Matrix<const float> y, Matrix<const float> x, float* part, bool turned,
                      Matrix<float> sum) {
    const Index width = padded(x.cols), tiles = width / tile;
    const int team = threads_for_product(threads, x.rows, x.cols, y.cols);
#pragma omp parallel for num_threads(team) schedule(static)
    for (int member = 0; member < team; ++member) {
        const Index begin = tiles * member / team * tile, end = std::min(x.cols, tiles * (member + 1) / team * tile);
        const Index whole = (end - begin) / tile * tile, rest = end - begin - whole;
        float last[outer_block * tile] = {};  // the columns after the whole tiles
        for (Index top = 0; top < x.rows; top += outer_block) {
            const Index rows = std::min(outer_block, x.rows - top);
            const LeftFactor left{y.data + top * y.stride, 1, y.stride};
            const float* const from = x.data + top * x.stride + begin;
            const bool add = top % outer_slab > 0;
            multiply(y.cols, whole, rows, left, {from, x.stride}, part + begin, width, add);
            for (Index r = 0; rest > 0 && r < rows; ++r)
                std::copy_n(from + r * x.stride + whole, rest, last + r * tile);
            if (rest > 0) multiply(y.cols, tile, rows, left, {last, tile}, part + begin + whole, width, add);
            if (top + rows < x.rows && (top + rows) % outer_slab > 0) continue;
            for (Index i = 0; i < y.cols; ++i)
                for (Index j = begin; j < end; ++j)
                    sum.data[turned ? j * sum.stride + i : i * sum.stride + j] += part[i * width + j];
        }
    }
}

}  // namespace

void pack_panels(int threads, Matrix<const float> w, float* panels) {
    const Index m = w.rows, n = w.cols;
#pragma omp parallel for num_threads(threads) if (threads > 1 && m * n >= 65536)
    for (Index begin = 0; begin < n; begin += tile) {
        const Index width = std::min(tile, n - begin);
        float* to = panels + begin * m;
        for (Index j = 0; j < m; ++j, to += tile) {
            const float* const row = w.data + j * w.stride + begin;
            for (Index c = 0; c < tile; c += lane_size) {
                if (c + lane_size <= width) {
                    store(to + c, load(row + c));
                    continue;
                }
                for (Index k = c; k < c + lane_size; ++k) to[k] = k < width ? row[k] : 0.0f;
            }
        }
    }
}

bool find_filled(int threads, const float* panels, Index count, Index m, std::uint8_t* filled) {
    const Index blocks = filled_blocks(m);
    bool some_empty = false;
#pragma omp parallel for num_threads(threads) reduction(|| : some_empty) if (threads > 1 && count * m >= 4096)
    for (Index panel = 0; panel < count; ++panel)
        for (Index block = 0; block < blocks; ++block) {
            const float* const from = panels + (panel * m + block * filled_block) * tile;
            const Index size = std::min(filled_block, m - block * filled_block) * tile;
            bool any = false;
            for (Index i = 0; i < size && !any; ++i) any = from[i] != 0.0f;
            filled[panel * blocks + block] = any;
            some_empty = some_empty || !any;
        }
    return some_empty;
}

// Scratch for a factor as a matrix of T: 0 if it is one.
template <class T>
Index CpuBackend::dense_bytes(const Factor& factor) {
    const bool is_one = std::is_same_v<T, float> ? !factor.x.bits : factor.widened != nullptr;
    return is_one ? 0 : Arena::bytes<T>(factor.rows * factor.cols);
}

// The factor as a matrix of T; expanded or widened, in `arena`, unless it is one.
template <class T>
Matrix<const T> CpuBackend::dense(const Factor& factor, Arena& arena) {
    const Activity& x = factor.x;
    const Index rows = factor.rows, cols = factor.cols;
    if (dense_bytes<T>(factor) == 0) {
        if constexpr (std::is_same_v<T, float>) return {x.values, rows, cols, x.stride};
        if constexpr (std::is_same_v<T, double>) return {factor.widened, rows, cols};
    }
    T* const to = arena.take<T>(rows * cols);
    const auto expand = [&](Index r) {
        const std::uint32_t* const words = x.bits + x.before(r);
        for (Index j = 0; j < cols; ++j) to[r * cols + j] = static_cast<T>((words[j >> 5] >> (j & 31)) & 1u);
    };
    if (x.bits && rows * cols > parallel_elements) {
#pragma omp parallel for num_threads(threads_)
        for (Index r = 0; r < rows; ++r) expand(r);
    } else {
        for (Index r = 0; x.bits && r < rows; ++r) expand(r);
        for (Index r = 0; !x.bits && r < rows; ++r)
            for (Index j = 0; j < cols; ++j) to[r * cols + j] = static_cast<T>(x.values[r * x.stride + j]);
    }
    return {to, rows, cols};
}

Arena CpuBackend::product_scratch(const Factor& a, const Factor& b, SumMatrix out, Index lists) {
    const auto bytes = [&]<class T>(T) { return dense_bytes<T>(a) + dense_bytes<T>(b); };
    const Index sum = out.type == Scalar::float32 ? Arena::bytes<double>(out.rows * out.cols) : 0;
    return Arena(scratch<char>(std::max(sums_ == Sums::float32 ? bytes(0.0f) : bytes(0.0) + sum, lists)));
}

// out (+)= A B.
void CpuBackend::product(Arena arena, const Factor& a, const Factor& b, SumMatrix out, bool accumulate) {
    if (sums_ == Sums::float32) {
        const auto x = dense<float>(a, arena), y = dense<float>(b, arena);
        return split_product(threads_, x, a.turned, y, b.turned, out, accumulate);
    }
    const auto x = dense<double>(a, arena), y = dense<double>(b, arena);
    const bool round = out.type == Scalar::float32;
    double* const sum = round ? arena.take<double>(out.rows * out.cols) : nullptr;
    split_product(threads_, x, a.turned, y, b.turned,
                  round ? SumMatrix{sum, Scalar::float64, out.rows, out.cols, out.cols} : out, accumulate && !round);
    for (Index i = 0; round && i < out.rows; ++i)
        for (Index j = 0; j < out.cols; ++j) {
            float& to = static_cast<float*>(out.data)[i * out.stride + j];
            to = static_cast<float>(accumulate ? to + sum[i * out.cols + j] : sum[i * out.cols + j]);
        }
}

CpuBackend::Factor CpuBackend::weights_factor(const Weights& w, bool turned) const {
    const bool widened = sums_ == Sums::float64 && w.packed;
    return {{.values = w.values, .stride = w.stride},
            w.rows,
            w.cols,
            turned,
            widened ? reinterpret_cast<const double*>(w.packed) : nullptr};
}

void CpuBackend::project(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    if (w.pattern) return project_sparse(w, x, out, accumulate);
    const Factor a{x, out.rows, w.cols, false}, b = weights_factor(w, true);
    const bool packed = sums_ == Sums::float32 && w.packed;
    const bool listed = sums_ == Sums::float32 && !accumulate && (x.bits || x.sparse) && w.rows >= least_columns;
    const bool few = sums_ == Sums::float32 && x.values && std::min(w.rows, w.cols) <= narrow;
    const Index turned = w.cols * padded(w.rows);
    Arena arena =
        product_scratch(a, b, out,
                        std::max({packed && x.bits ? gather_packed_bytes(out.rows, w.cols) : 0,
                                  listed ? project_bytes(threads_, x, w) : 0, few ? Arena::bytes<float>(turned) : 0}));
    if (counting()) return;
    const Matrix<float> to(static_cast<float*>(out.data), out.rows, out.cols, out.stride);
    const int team = threads_for_product(threads_, out.rows, w.rows, w.cols);
    if (packed && x.values)
        return multiply_packed(team, {x.values, out.rows, w.cols, x.stride}, w.packed, to, accumulate);
    if (packed && gather_packed(team, panels_of(padded(w.rows), threads_), x, w, arena, to, accumulate)) return;
    if (listed && project_listed(team, x, w, arena, to)) return;
    if (few)
        project_narrow(threads_, {x.values, out.rows, w.cols, x.stride}, w, arena.take<float>(turned), to, accumulate);
    else
        product(arena, a, b, out, accumulate);
}

void CpuBackend::project_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    if (w.pattern) return project_sparse_transposed(w, y, out, accumulate);
    const Factor a{{.values = y.data, .stride = y.stride}, y.rows, y.cols, false}, b = weights_factor(w, false);
    const Arena arena = product_scratch(a, b, out, 0);
    if (counting()) return;
    if (sums_ == Sums::float32 && w.packed)
        multiply_packed(threads_for_product(threads_, y.rows, w.rows, w.cols), y, w.packed,
                        {static_cast<float*>(out.data), out.rows, out.cols, out.stride}, accumulate);
    else if (sums_ == Sums::float32 && w.rows <= narrow)
        multiply_few(threads_, y, w, {static_cast<float*>(out.data), out.rows, out.cols, out.stride}, accumulate);
    else
        product(arena, a, b, out, accumulate);
}

void CpuBackend::add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient, const SparsePattern* pattern) {
    if (pattern) return add_outer_sparse(y, x, gradient, *pattern);
    add_outer(y, x, gradient, y.cols >= least_columns && y.rows >= (x.bits ? least_spike_rows : least_rows));
}

// lists: try them first.
void CpuBackend::add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient, bool lists) {
    const Factor a{{.values = y.data, .stride = y.stride}, y.rows, y.cols, true}, b{x, y.rows, gradient.cols, false};
    const bool listed = lists && sums_ == Sums::float32 && (x.bits || x.sparse);
    const bool few = sums_ == Sums::float32 && x.values && std::min(y.cols, gradient.cols) <= narrow;
    const bool turned = y.cols > narrow;  // x is the narrow factor
    const Index part = few ? (turned ? gradient.cols * padded(y.cols) : y.cols * padded(gradient.cols)) : 0;
    Arena arena = product_scratch(
        a, b, gradient,
        std::max(listed ? outer_bytes(threads_, x, y.rows, gradient.cols) : 0, Arena::bytes<float>(part)));
    if (counting()) return;
    const Matrix<float> to(static_cast<float*>(gradient.data), gradient.rows, gradient.cols, gradient.stride);
    const int team = threads_for_product(threads_, y.rows, y.cols, gradient.cols);
    if (listed && add_outer_listed(team, y, x, arena, to)) return;
    if (!few) return product(arena, a, b, gradient, true);
    const Matrix<const float> values(x.values, y.rows, gradient.cols, x.stride);
    add_outer_narrow(threads_, turned ? values : y, turned ? y : values, arena.take<float>(part), turned, to);
}

}  // namespace spikefloss
