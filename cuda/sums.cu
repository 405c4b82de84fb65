// Sums and element-wise operations of the CUDA backend. The order of every sum depends only on the shape.
#include "cuda_backend.hpp"

#include "kernel.cuh"
#include "pieces.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int block = 256;
constexpr std::size_t block_sum_bytes = 33 * sizeof(double);

// column_sums_kernel: the smallest number of rows that one thread sums, and the largest number of parts.
constexpr Index least_rows = 16, most_parts = 1024;

// partial[part, col] = the sum over rows [rows part / parts, rows (part + 1) / parts) of a, in double: one thread each.
__global__ void column_sums_kernel(const float* a, Index rows, Index cols, Index stride, Index parts, double* partial) {
    for (Index at = first_element(); at < parts * cols; at += element_stride()) {
        const Index part = at / cols, col = at % cols;
        double sum = 0.0;
        for (Index row = rows * part / parts; row < rows * (part + 1) / parts; ++row) sum += a[row * stride + col];
        partial[at] = sum;
    }
}

// c[col] += the sum over parts.
template <class T>
__global__ void add_parts_kernel(const double* partial, Index parts, Index cols, T* c) {
    for (Index col = first_element(); col < cols; col += element_stride()) {
        double sum = 0.0;
        for (Index part = 0; part < parts; ++part) sum += partial[part * cols + col];
        c[col] = static_cast<T>(c[col] + sum);
    }
}

__global__ void round_kernel(const double* in, float* out, Index count) {
    for (Index i = first_element(); i < count; i += element_stride()) out[i] = static_cast<float>(in[i]);
}

// sum_squares: the elements that a block sums.
constexpr int piece = 8192;

// partial[piece] = the sum of squares of each piece.
__global__ void sum_squares_kernel(const __grid_constant__ Pieces<Squares> all, double* partial) {
    double* const shared = dynamic_shared<double>();
    for (int at = static_cast<int>(blockIdx.x); at < all.pieces(); at += static_cast<int>(gridDim.x)) {
        const auto part = all.at(at, piece);
        double sum = 0.0;
        for (Index e = part.begin + threadIdx.x; e < part.end; e += blockDim.x) {
            const double x = part.array.x[part.place(e)];
            sum += x * x;
        }
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) partial[at] = sum;
        __syncthreads();
    }
}

// Adds the pieces of each array to its sum, in turn: one block, because several arrays can have the same sum.
__global__ void add_squares_kernel(const __grid_constant__ Pieces<Squares> all, const double* partial) {
    double* const shared = dynamic_shared<double>();
    for (int a = 0; a < all.count; ++a) {
        double sum = 0.0;
        for (int at = all.first[a] + static_cast<int>(threadIdx.x); at < all.first[a + 1];
             at += static_cast<int>(blockDim.x))
            sum += partial[at];
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) *all.arrays[a].sum += sum;
        __syncthreads();
    }
}

// One block per row.
__global__ void row_sum_squares_kernel(Index rows, Index n, const float* a, const float* b, const float* c,
                                       double* out) {
    double* partial = dynamic_shared<double>();
    for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
        double sum = 0.0;
        for (Index i = row * n + threadIdx.x; i < (row + 1) * n; i += blockDim.x) {
            sum += static_cast<double>(a[i]) * a[i];
            if (b) sum += static_cast<double>(b[i]) * b[i];
            if (c) sum += static_cast<double>(c[i]) * c[i];
        }
        sum = block_sum(sum, partial);
        if (threadIdx.x == 0) out[row] = sum;
        __syncthreads();
    }
}

__global__ void cap_rows_kernel(Index rows, Index n, const double* squares, const float* limit, float* a, float* b,
                                float* c) {
    for (Index row = blockIdx.x; row < rows; row += gridDim.x) {
        const double norm = sqrt(squares[row]);
        if (norm <= *limit) continue;
        const float factor = static_cast<float>(*limit / norm);
        for (Index i = row * n + threadIdx.x; i < (row + 1) * n; i += blockDim.x) {
            a[i] *= factor;
            if (b) b[i] *= factor;
            if (c) c[i] *= factor;
        }
    }
}

__global__ void repeat_row_kernel(Index rows, Index n, const float* row, float* out, const std::uint32_t* place) {
    for (Index at = first_element(); at < rows * n; at += element_stride())
        out[at] = row[place ? static_cast<Index>(place[at % n]) : at % n];
}

// One block per row, up to the largest grid.
dim3 grid_of_rows(Index rows) { return grid_for(rows, 1); }

}  // namespace

void CudaBackend::add_column_sums(Matrix<const float> a, SumMatrix c) {
    const Index parts = std::clamp<Index>(a.rows / least_rows, 1, most_parts);
    double* const partial = scratch<double>(parts * a.cols);
    if (counting()) return;
    launch({grid_for(parts * a.cols, block), block, stream_}, column_sums_kernel, a.data, a.rows, a.cols, a.stride,
           parts, partial);
    const Launch how{grid_for(a.cols, 64), 64, stream_};
    if (c.type == Scalar::float32)
        launch(how, add_parts_kernel<float>, partial, parts, a.cols, static_cast<float*>(c.data));
    else
        launch(how, add_parts_kernel<double>, partial, parts, a.cols, static_cast<double*>(c.data));
}

void CudaBackend::round_sums(const void* in, float* out, Index count) {
    if (sums_ == Sums::float64)
        launch({grid_for(count, block), block, stream_}, round_kernel, static_cast<const double*>(in), out, count);
    else if (in != out)
        copy(out, in, static_cast<std::size_t>(count) * sizeof(float));
}

void CudaBackend::sum_squares(std::span<const Squares> all) {
    each_launch(all, piece, [&](const Pieces<Squares>& some) {
        double* const partial = scratch<double>(some.pieces());
        if (counting()) return;
        launch({grid_for(some.pieces(), 1), block, stream_, block_sum_bytes}, sum_squares_kernel, some, partial);
        launch({dim3(1), block, stream_, block_sum_bytes}, add_squares_kernel, some, partial);
    });
}

void CudaBackend::row_sum_squares(Index rows, Index n, const float* a, const float* b, const float* c, double* out) {
    launch({grid_of_rows(rows), 128, stream_, block_sum_bytes}, row_sum_squares_kernel, rows, n, a, b, c, out);
}

void CudaBackend::cap_rows(Index rows, Index n, const double* squares, const float* limit, float* a, float* b,
                           float* c) {
    launch({grid_of_rows(rows), 128, stream_}, cap_rows_kernel, rows, n, squares, limit, a, b, c);
}

void CudaBackend::repeat_row(Index rows, Index n, const float* row, float* out, const std::uint32_t* place) {
    launch({grid_for(rows * n, block), block, stream_}, repeat_row_kernel, rows, n, row, out, place);
}

}  // namespace spikefloss
