// Code of the tangent passes that take one block per sequence: the layout of a basis in shared memory and the dense
// algebra on it. A basis has k rows, the tangents. A row has the current part [N] (if the state has one) and the
// membrane part [N], each padded with zeros to a multiple of 8. Zero rows pad k to a multiple of 8. Sums of the QR are
// in double, by the 8 x 8 x 4 products of the tensor cores. Sums of the recurrence are in float.
#pragma once

#include "kernel.cuh"
#include "neuron/host_device.hpp"

namespace spikefloss {

// Above this W does not fit the shared memory of any block. Below it, indices of W fit an int.
inline constexpr Index most_block_neurons = 1024;

// More vectors than this take the other path, because a thread holds its part of a row of the basis in registers.
inline constexpr int most_tiles = 8, tile = 8;
inline constexpr int most_block_vectors = most_tiles * tile;

// Strides in shared memory are 4 (mod 8) elements, so that the 8 x 4 operands of a product hit different banks.
struct BasisLayout {
    int k, N;
    bool has_current;

    explicit BasisLayout(const BasisShape& shape)
        : k(static_cast<int>(shape.k)), N(static_cast<int>(shape.n)), has_current(shape.current) {}
    SPIKEFLOSS_HD int floats() const { return has_current ? 2 * N : N; }  // of a row in global memory
    SPIKEFLOSS_HD int tiles() const { return (k + tile - 1) / tile; }
    SPIKEFLOSS_HD int rows() const { return tiles() * tile; }
    SPIKEFLOSS_HD int columns() const { return (N + tile - 1) / tile * tile; }  // of one part
    SPIKEFLOSS_HD int length() const { return (has_current ? 2 : 1) * columns(); }
    SPIKEFLOSS_HD int membrane() const { return has_current ? columns() : 0; }  // where that part begins
    SPIKEFLOSS_HD int stride() const { return length() + 4; }                   // floats from row to row
    SPIKEFLOSS_HD int input_stride() const { return columns() + 4; }            // of [k, N] operands of the recurrence
    SPIKEFLOSS_HD int factor_stride() const { return rows() + 4; }              // doubles from row to row of k x k
    SPIKEFLOSS_HD int basis_size() const { return rows() * stride(); }
    SPIKEFLOSS_HD int input_size() const { return rows() * input_stride(); }
    SPIKEFLOSS_HD int factor_size() const { return rows() * factor_stride(); }
    SPIKEFLOSS_HD int weights_size() const { return columns() * columns(); }
    SPIKEFLOSS_HD int inverses_size() const { return tiles() * tile * inverse_stride; }
    static constexpr int inverse_stride = 12;
};

// Turns a tile from the layout of a result into the left operands of the two products over its columns.
__device__ inline void to_operand(const double (&c)[2], double* a) {
    const int lane = threadIdx.x % warp_size;
    for (int half = 0; half < 2; ++half) {
        const int source = lane / 4 * 4 + 2 * half + lane % 4 / 2;
        const double even = __shfl_sync(all_lanes, c[0], source), odd = __shfl_sync(all_lanes, c[1], source);
        a[half] = lane % 2 ? odd : even;
    }
}

// m = the tiles of x y' on and below the diagonal. Calls finish(row, column, m(row, column)). A warp takes two tiles at
// once.
template <class Finish>
__device__ void lower_gram(const BasisLayout& layout, const float* x, const float* y, Finish finish) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, warps = blockDim.x / warp_size;
    const int stride = layout.stride(), length = layout.length(), offset = lane / 4 * stride + lane % 4;
    int item = 0;
    for (int i = 0; i < layout.tiles(); ++i)
        for (int j = 0; j <= i; j += 2, ++item) {
            if (item % warps != warp) continue;
            double first[2] = {0.0, 0.0}, second[2] = {0.0, 0.0};
            const float* a = x + i * tile * stride + offset;
            const float* b = y + j * tile * stride + offset;
            const float* b_next = b + (j < i ? tile * stride : 0);
#pragma unroll 4
            for (int d = 0; d < length; d += 4) {
                const double a_d = a[d];
                multiply_add_tile(first, a_d, b[d]);
                multiply_add_tile(second, a_d, b_next[d]);
            }
            const int row = i * tile + lane / 4, column = j * tile + lane % 4 * 2;
            for (int e = 0; e < 2; ++e) {
                finish(row, column + e, first[e]);
                if (j < i) finish(row, column + tile + e, second[e]);
            }
        }
}

// Sums over i of x[row, i] m[i, column] for rows 0..rows-1. x has an even number of rows; inner and columns are
// multiples of 4. Calls finish(row, column, sums of columns column..column+3). A thread takes 2 x 4 sums.
template <class Finish>
__device__ void product(int rows, int inner, int columns, const float* x, int x_stride, const float* m, Finish finish) {
    const int groups = columns / 4, items = (rows + 1) / 2 * groups;
    for (int item = threadIdx.x; item < items; item += blockDim.x) {
        const int row = item / groups * 2, column = item % groups * 4;
        const float *x_0 = x + row * x_stride, *x_1 = x_0 + x_stride;
        float4 sum_0 = {0.0f, 0.0f, 0.0f, 0.0f}, sum_1 = sum_0;
        const auto add = [&](float a_0, float a_1, int i) {
            const float4 m_i = *reinterpret_cast<const float4*>(m + i * columns + column);
            sum_0 = {fmaf(a_0, m_i.x, sum_0.x), fmaf(a_0, m_i.y, sum_0.y), fmaf(a_0, m_i.z, sum_0.z),
                     fmaf(a_0, m_i.w, sum_0.w)};
            sum_1 = {fmaf(a_1, m_i.x, sum_1.x), fmaf(a_1, m_i.y, sum_1.y), fmaf(a_1, m_i.z, sum_1.z),
                     fmaf(a_1, m_i.w, sum_1.w)};
        };
        for (int i = 0; i < inner; i += 4) {
            const float4 a_0 = *reinterpret_cast<const float4*>(x_0 + i);
            const float4 a_1 = *reinterpret_cast<const float4*>(x_1 + i);
            add(a_0.x, a_1.x, i);
            add(a_0.y, a_1.y, i + 1);
            add(a_0.z, a_1.z, i + 2);
            add(a_0.w, a_1.w, i + 3);
        }
        finish(row, column, sum_0);
        if (row + 1 < rows) finish(row + 1, column, sum_1);
    }
}

// By one warp: `inverse` (rows inverse_stride apart) of the lower triangular 8 x 8 matrix l. A lane takes one column.
__device__ inline void invert_lower(const double (&l)[tile][tile], const double (&reciprocal)[tile], double* inverse) {
    const int lane = threadIdx.x % warp_size, column = lane % tile;
    double x[tile];
#pragma unroll
    for (int i = 0; i < tile; ++i) {
        double sum = i == column ? 1.0 : 0.0;
#pragma unroll
        for (int m = 0; m < i; ++m) sum = fma(-l[i][m], x[m], sum);
        x[i] = sum * reciprocal[i];
        if (lane < tile) inverse[i * BasisLayout::inverse_stride + column] = x[i];
    }
}

// By one warp: every lane loads the lower triangle of an 8 x 8 matrix in shared memory.
__device__ inline void load_lower(const double* from, int stride, double (&l)[tile][tile]) {
#pragma unroll
    for (int i = 0; i < tile; ++i)
#pragma unroll
        for (int j = 0; j <= i; ++j) l[i][j] = from[i * stride + j];
}

// Loads weights [N, N] to shared memory as [columns, columns], padded with zeros. turned: element (i, j) is w[j, i].
__device__ inline void load_weights(const BasisLayout& layout, const float* w, bool turned, float* to) {
    const int columns = layout.columns(), N = layout.N;
    for (int at = threadIdx.x; at < columns * columns; at += blockDim.x) {
        const int i = at / columns, j = at % columns;
        to[turned ? j * columns + i : at] = i < N && j < N ? w[static_cast<Index>(i) * N + j] : 0.0f;
    }
}

// Copies of one sequence's basis between global memory, [k, D], and shared memory. The padding becomes zero.
__device__ inline void load_basis(const BasisLayout& layout, const float* from, float* to) {
    const int length = layout.length(), floats = layout.floats();
    for (int at = threadIdx.x; at < layout.rows() * length; at += blockDim.x) {
        const int row = at / length, d = at % length, j = d < layout.membrane() ? d : d - layout.membrane();
        const int part = d < layout.membrane() ? 0 : floats - layout.N;
        to[row * layout.stride() + d] = row < layout.k && j < layout.N ? from[row * floats + part + j] : 0.0f;
    }
}
__device__ inline void store_basis(const BasisLayout& layout, const float* from, float* to) {
    const int N = layout.N, floats = layout.floats();
    for (int at = threadIdx.x; at < layout.k * floats; at += blockDim.x) {
        const int row = at / floats, d = at % floats;
        const int place = d < floats - N ? d : d - (floats - N) + layout.membrane();
        to[at] = from[row * layout.stride() + place];
    }
}

// psi(u - theta) and the reset factor of one sequence's neurons. psi of the padding is 0.
__device__ inline void load_factors(const BasisLayout& layout, const NeuronModel& model, JacobianReset reset,
                                    const float* u, float* psi, float* factor) {
    for (int j = threadIdx.x; j < layout.columns(); j += blockDim.x) {
        const float u_j = j < layout.N ? u[j] : 0.0f;
        psi[j] = j < layout.N ? surrogate_psi(model.surrogate, u_j - model.threshold, model.sharpness) : 0.0f;
        factor[j] = reset == JacobianReset::detached ? reset_factor(model.reset, spike(u_j, model.threshold)) : 1.0f;
    }
}

// alpha and beta, padded with zeros.
__device__ inline void load_constants(const BasisLayout& layout, const NeuronVectors& neurons, float* alpha,
                                      float* beta) {
    for (int j = threadIdx.x; j < layout.columns(); j += blockDim.x) {
        alpha[j] = j < layout.N ? neurons.alpha[j] : 0.0f;
        beta[j] = j < layout.N ? neurons.beta[j] : 0.0f;
    }
}

}  // namespace spikefloss
