#include "digits.cuh"

#include "check.hpp"

namespace spikefloss {
namespace {

constexpr int block = 256;
constexpr int tile = 32;                 // side of the part of a matrix that a block splits at a time
constexpr Index elements_of_warp = 256;  // whose magnitudes one warp compares

__device__ inline float element_of(const float* x, const std::uint32_t* column, Index j) {
    return column ? scaled(x[j], column[j], exponent_of(column[j])) : x[j];
}

__device__ inline std::uint32_t magnitude_of(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }

// magnitude is 0 at the start. The order of the comparisons does not matter.
__global__ void magnitudes_kernel(const float* x, Index rows, Index cols, Index stride, const std::uint32_t* column,
                                  std::uint32_t* magnitude) {
    const Index pieces = (cols + elements_of_warp - 1) / elements_of_warp, lane = threadIdx.x % warp_size;
    for (Index at = first_element() / warp_size; at < rows * pieces; at += element_stride() / warp_size) {
        const Index row = at / pieces, first = at % pieces * elements_of_warp;
        const Index end = first + elements_of_warp < cols ? first + elements_of_warp : cols;
        std::uint32_t most = 0;
        for (Index j = first + lane; j < end; j += warp_size)
            most = max(most, magnitude_of(element_of(x + row * stride, column, j)));
        for (int offset = 16; offset > 0; offset /= 2) most = max(most, __shfl_xor_sync(all_lanes, most, offset));
        if (lane == 0) atomicMax(magnitude + row, most);
    }
}

struct SplitArrays {
    const float* x;
    Index rows, cols, stride;
    DigitRows scales;
    bool turned;
    int count;
    std::int8_t* digits;
};

// Tiles pass through shared memory, so that turned digits are stored in whole words, too.
__global__ void split_digits_kernel(const SplitArrays a) {
    int* const q = dynamic_shared<int>();  // [tile, tile + 1]
    const Index out_rows = digit_stride(a.turned ? a.cols : a.rows),
                out_cols = digit_stride(a.turned ? a.rows : a.cols);
    const Index across = (a.cols + tile - 1) / tile, tiles = across * ((a.rows + tile - 1) / tile);
    const int thread = static_cast<int>(threadIdx.x);
    for (Index at = blockIdx.x; at < tiles; at += gridDim.x) {
        const Index first_row = at / across * tile, first_col = at % across * tile;
        for (int r = thread / tile; r < tile; r += block / tile) {
            const Index row = first_row + r, j = first_col + thread % tile;
            int whole = 0;
            if (row < a.rows && j < a.cols) {
                const std::uint32_t most = a.scales.magnitude[row];
                const float x = element_of(a.x + row * a.stride, a.scales.column, j);
                if (most < bits_of_infinity)
                    whole = static_cast<int>(lrintf(scalbnf(x, bits_of(a.count) - exponent_of(most))));
            }
            q[r * (tile + 1) + thread % tile] = whole;
        }
        __syncthreads();
        // Four digits of a row of the output.
        const int out = thread / (tile / 4), four = thread % (tile / 4) * 4;
        const Index row = (a.turned ? first_col : first_row) + out, col = (a.turned ? first_row : first_col) + four;
        if (row < out_rows && col < out_cols) {
            int rest[4];
            for (int k = 0; k < 4; ++k)
                rest[k] = a.turned ? q[(four + k) * (tile + 1) + out] : q[out * (tile + 1) + four + k];
            for (int digit = a.count - 1; digit >= 0; --digit) {
                std::uint32_t word = 0;
                for (int k = 0; k < 4; ++k) {
                    const int d = ((rest[k] + 128) & 255) - 128;
                    rest[k] = (rest[k] - d) / 256;
                    word |= (static_cast<std::uint32_t>(d) & 255u) << (8 * k);
                }
                *reinterpret_cast<std::uint32_t*>(a.digits + (digit * out_rows + row) * out_cols + col) = word;
            }
        }
        __syncthreads();
    }
}

}  // namespace

void row_magnitudes(cudaStream_t stream, Matrix<const float> x, const std::uint32_t* column, std::uint32_t* magnitude) {
    check(cudaMemsetAsync(magnitude, 0, static_cast<std::size_t>(x.rows) * sizeof(std::uint32_t), stream),
          "cudaMemsetAsync");
    const Index warps = x.rows * ((x.cols + elements_of_warp - 1) / elements_of_warp);
    launch({.grid = grid_for(warps * warp_size, block), .block = dim3(block), .stream = stream}, magnitudes_kernel,
           x.data, x.rows, x.cols, x.stride, column, magnitude);
}

void split_digits(cudaStream_t stream, Matrix<const float> x, const DigitRows& scales, bool turned, int count,
                  std::int8_t* digits) {
    const Index tiles = ((x.rows + tile - 1) / tile) * ((x.cols + tile - 1) / tile);
    launch(
        {.grid = grid_for(tiles, 1), .block = dim3(block), .stream = stream, .shared = sizeof(int) * tile * (tile + 1)},
        split_digits_kernel, SplitArrays{x.data, x.rows, x.cols, x.stride, scales, turned, count, digits});
}

void digit_product(cublasHandle_t blas, Index m, Index n, Index inner, const std::int8_t* a, const std::int8_t* b,
                   std::int32_t* sums) {
    const std::int32_t one = 1, zero = 0;
    check(
        cublasGemmEx(blas, CUBLAS_OP_T, CUBLAS_OP_N, static_cast<int>(m), static_cast<int>(n), static_cast<int>(inner),
                     &one, a, CUDA_R_8I, static_cast<int>(inner), b, CUDA_R_8I, static_cast<int>(inner), &zero, sums,
                     CUDA_R_32I, static_cast<int>(m), CUBLAS_COMPUTE_32I, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx of int8");
}

}  // namespace spikefloss
