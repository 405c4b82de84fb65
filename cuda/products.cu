// Products of the CUDA backend by cuBLAS. A row-major matrix read as column-major is its transpose. So the row-major
// C = A B is the column-major C' = B' A': the same product with A and B exchanged, without a copy. Spikes are expanded
// to floats, or to bfloat16 where that saves time (bf16_parts.hpp). With Sums::float64 the factors are widened and the
// product is computed in double, as on the CPU.
#include "bf16_parts.hpp"
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <limits>

namespace spikefloss {
namespace {

constexpr int block = 256;

// Largest number of elements of spikes that are expanded to floats or doubles at once.
constexpr Index most_expanded = Index(1) << 24;

// Largest number of scratch elements for the bfloat16 parts of y and the spikes together.
constexpr Index most_parts = Index(1) << 27;

// Below this many neurons, y' s by parts would take longer than one float product.
constexpr Index least_split = 512;

// to[copy][row, j] = element j of row first + row of x.
template <class T>
__global__ void expand_kernel(const Activity x, Index first, Index rows, Index cols, int copies, T* to) {
    for (Index at = first_element(); at < rows * cols; at += element_stride()) {
        const Index row = x.before(first + at / cols), j = at % cols;
        const float value = x.bits ? static_cast<float>((x.bits[row + (j >> 5)] >> (j & 31)) & 1u) : x.values[row + j];
        for (int copy = 0; copy < copies; ++copy) to[copy * rows * cols + at] = static_cast<T>(value);
    }
}

// c (+)= sum, rounded once.
__global__ void narrow_kernel(const double* sum, Index rows, Index cols, Index stride, bool accumulate, float* c) {
    for (Index at = first_element(); at < rows * cols; at += element_stride()) {
        float& out = c[at / cols * stride + at % cols];
        out = static_cast<float>(accumulate ? out + sum[at] : sum[at]);
    }
}

// c = 0, for an inner length of 0.
template <class T>
__global__ void clear_kernel(Index rows, Index cols, Index stride, T* c) {
    for (Index at = first_element(); at < rows * cols; at += element_stride()) c[at / cols * stride + at % cols] = T(0);
}

// Sizes of cuBLAS are int, and a leading dimension must be at least 1.
int size(Index n) {
    if (n > std::numeric_limits<int>::max())
        check(CUBLAS_STATUS_INVALID_VALUE, "a product with a side of 2^31 or more");
    return static_cast<int>(n);
}
int leading(Index stride) { return stride > 0 ? size(stride) : 1; }

// A number of elements that keeps what follows at a multiple of 256 bytes.
Index aligned(Index count) { return (count + 127) / 128 * 128; }

cublasComputeType_t compute_type(Precision precision) {
    switch (precision) {
        case Precision::tf32: return CUBLAS_COMPUTE_32F_FAST_TF32;
        case Precision::bf16: return CUBLAS_COMPUTE_32F_FAST_16BF;
        default: return CUBLAS_COMPUTE_32F;  // with cuBLAS's default math mode: every product and sum is a float
    }
}

// The rows that are taken at once, of `rows` rows of x with `cols` columns.
Index rows_at_once(const Activity& x, Index rows, Index cols) {
    return std::max<Index>(1, x.bits ? std::min(rows, most_expanded / std::max<Index>(1, cols)) : rows);
}

Matrix<const float> rows_of(Matrix<const float> y, Index first, Index rows) {
    return {y.data + first * y.stride, rows, y.cols, y.stride};
}

}  // namespace

// Elements of scratch for the factor as a matrix of T: 0 if it is one. Arrays begin at multiples of 256 bytes.
template <class T>
Index CudaBackend::room(const Factor& factor) {
    return std::is_same_v<T, float> && !factor.x.bits ? 0 : aligned(factor.rows * factor.cols);
}

// The factor as a matrix of T; expanded or widened, in `to`, unless it is one.
template <class T>
Matrix<const T> CudaBackend::dense(const Factor& factor, T* to) {
    const auto& [x, first, rows, cols, turned] = factor;
    if constexpr (std::is_same_v<T, float>)
        if (!x.bits) return {x.values + x.before(first), rows, cols, x.stride};
    launch({grid_for(rows * cols, block), block, stream_}, expand_kernel<T>, x, first, rows, cols, 1, to);
    return {to, rows, cols};
}

// out (+)= A B.
void CudaBackend::product(const Factor& a, const Factor& b, SumMatrix out, bool accumulate) {
    const Index m = out.rows, n = out.cols, inner = a.turned ? a.rows : a.cols;
    if (m == 0 || n == 0) return;
    const Launch elements{grid_for(m * n, block), block, stream_};
    if (inner == 0) {
        if (accumulate || counting()) return;
        if (out.type == Scalar::float32)
            return launch(elements, clear_kernel<float>, m, n, out.stride, static_cast<float*>(out.data));
        return launch(elements, clear_kernel<double>, m, n, out.stride, static_cast<double*>(out.data));
    }
    const auto flag = [](const Factor& factor) { return factor.turned ? CUBLAS_OP_T : CUBLAS_OP_N; };
    const bool round = out.type == Scalar::float32 && sums_ == Sums::float64;
    if (out.type == Scalar::float32 && !round) {
        float* const memory = scratch<float>(room<float>(a) + room<float>(b));
        if (counting()) return;
        const auto x = dense<float>(a, memory), y = dense<float>(b, memory + room<float>(a));
        const float one = 1.0f, beta = accumulate ? 1.0f : 0.0f;
        check(cublasGemmEx(blas_, flag(b), flag(a), size(n), size(m), size(inner), &one, y.data, CUDA_R_32F,
                           leading(y.stride), x.data, CUDA_R_32F, leading(x.stride), &beta, out.data, CUDA_R_32F,
                           leading(out.stride), compute_type(precision_), CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx");
        return;
    }
    const Index factors = room<double>(a) + room<double>(b);
    double* const memory = scratch<double>(factors + (round ? m * n : 0));
    if (counting()) return;
    const auto x = dense<double>(a, memory), y = dense<double>(b, memory + room<double>(a));
    double* const sum = round ? memory + factors : static_cast<double*>(out.data);
    const double one = 1.0, beta = accumulate && !round ? 1.0 : 0.0;
    check(cublasDgemm(blas_, flag(b), flag(a), size(n), size(m), size(inner), &one, y.data, leading(y.stride), x.data,
                      leading(x.stride), &beta, sum, leading(round ? n : out.stride)),
          "cublasDgemm");
    if (round) launch(elements, narrow_kernel, sum, m, n, out.stride, accumulate, static_cast<float*>(out.data));
}

void CudaBackend::project(const Weights& w, const Activity& x, SumMatrix out, bool accumulate) {
    if (w.pattern) return project_sparse(w, x, out, accumulate);
    const Index at_once = rows_at_once(x, out.rows, w.cols);
    for (Index first = 0; first < out.rows; first += at_once) {
        const Index rows = std::min(at_once, out.rows - first);
        char* const to = static_cast<char*>(out.data) + first * out.stride * static_cast<Index>(size_of(out.type));
        product({x, first, rows, w.cols, false}, {{.values = w.values, .stride = w.stride}, 0, w.rows, w.cols, true},
                {to, out.type, rows, out.cols, out.stride}, accumulate);
    }
}

void CudaBackend::project_transposed(const Weights& w, Matrix<const float> y, SumMatrix out, bool accumulate) {
    if (w.pattern) return project_sparse_transposed(w, y, out, accumulate);
    product({{.values = y.data, .stride = y.stride}, 0, y.rows, y.cols, false},
            {{.values = w.values, .stride = w.stride}, 0, w.rows, w.cols, false}, out, accumulate);
}

void CudaBackend::add_outer(Matrix<const float> y, const Activity& x, SumMatrix gradient,
                            const SparsePattern* pattern) {
    if (pattern) return add_outer_sparse(y, x, gradient, *pattern);
    if (x.bits && sums_ == Sums::float32 && y.cols >= least_split && gradient.cols >= least_split)
        return add_outer_parts(y, x, gradient);
    const Index at_once = rows_at_once(x, y.rows, gradient.cols);
    for (Index first = 0; first < y.rows; first += at_once) {
        const Index rows = std::min(at_once, y.rows - first);
        product({{.values = y.data, .stride = y.stride}, first, rows, y.cols, true},
                {x, first, rows, gradient.cols, false}, gradient, true);
    }
}

// The bfloat16 parts of y one below the other, and the spikes as often, so that one product sums over rows and parts.
void CudaBackend::add_outer_parts(Matrix<const float> y, const Activity& spikes, SumMatrix gradient) {
    const int parts = parts_of(precision_);
    const Index n = y.cols, m = gradient.cols;
    const Index most_rows = std::max<Index>(1, std::min(longest_sum, most_parts / (n + m)) / parts / 8 * 8);
    const Index pieces = (y.rows + most_rows - 1) / most_rows;
    const Index at_once = std::min(y.rows, ((y.rows + pieces - 1) / std::max<Index>(1, pieces) + 7) / 8 * 8);
    const Index y_size = aligned(parts * at_once * n);
    auto* const y_parts = scratch<__nv_bfloat16>(y_size + parts * at_once * m);  // [parts, rows, n]
    if (counting()) return;
    auto* const s = y_parts + y_size;  // [parts, rows, m]
    for (Index first = 0; first < y.rows; first += at_once) {
        const Index rows = std::min(at_once, y.rows - first);
        split(stream_, rows_of(y, first, rows), parts, n, rows * n, y_parts);
        launch({grid_for(rows * m, block), block, stream_}, expand_kernel<__nv_bfloat16>, spikes, first, rows, m, parts,
               s);
        // gradient [n, m] += y' s: column-major gradient' [m, n] += s [m, parts rows] y' [parts rows, n].
        bf16_product(blas_, CUBLAS_OP_N, CUBLAS_OP_T, m, n, parts * rows, s, m, y_parts, n, true,
                     static_cast<float*>(gradient.data), gradient.stride);
    }
}

}  // namespace spikefloss
