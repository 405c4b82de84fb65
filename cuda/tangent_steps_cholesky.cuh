// Cholesky factorisation of one k x k matrix by one block, G = L L', in panels of 8. One warp factors and inverts the
// diagonal tile in registers (a chain of 8 reciprocal roots) while the others finish the update of the previous panel.
// A panel has two barriers.
#pragma once

#include "tangent_steps.cuh"

#include <cfloat>

namespace spikefloss {

// The part of the block's shared memory that the factorisation uses.
struct FactorSpace {
    double *factor, *inverse,
        *diagonal;        // G [rows, factor_stride], then L in its lower triangle; inverses of L's diagonal tiles; R_jj
    int *failed, *again;  // column (from 1) of the first pivot not > 0, or 0; 1 if a second round is needed

    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        return 8 * (layout.factor_size() + layout.inverses_size() + layout.rows()) + 16;
    }
    __device__ FactorSpace(const BasisLayout& layout, double* memory)
        : factor(memory),
          inverse(factor + layout.factor_size()),
          diagonal(inverse + layout.inverses_size()),
          failed(reinterpret_cast<int*>(diagonal + layout.rows())),
          again(failed + 1) {}
};

// By one warp: turns diagonal tile p of G into that of L and inverts it. Records a pivot that is not finite and > 0.
__device__ inline void factor_tile(const BasisLayout& layout, const FactorSpace& space, int p) {
    const int stride = layout.factor_stride(), lane = threadIdx.x % warp_size;
    double* at = space.factor + p * tile * stride + p * tile;
    double l[tile][tile], reciprocal[tile];
    load_lower(at, stride, l);
    int failed = tile;
#pragma unroll
    for (int j = 0; j < tile; ++j) {
        const double pivot = l[j][j];
        if (!(pivot > 0.0 && pivot <= DBL_MAX) && failed == tile) failed = j;
        reciprocal[j] = rsqrt(pivot);
        l[j][j] = pivot * reciprocal[j];
#pragma unroll
        for (int i = j + 1; i < tile; ++i) l[i][j] *= reciprocal[j];
#pragma unroll
        for (int i = j + 1; i < tile; ++i)
#pragma unroll
            for (int m = j + 1; m <= i; ++m) l[i][m] = fma(-l[i][j], l[m][j], l[i][m]);
    }
    invert_lower(l, reciprocal, space.inverse + p * tile * BasisLayout::inverse_stride);
    __syncwarp();
    if (lane == 0) {
        if (failed < tile && *space.failed == 0) *space.failed = p * tile + failed + 1;
#pragma unroll
        for (int i = 0; i < tile; ++i) {
            space.diagonal[p * tile + i] = l[i][i];
#pragma unroll
            for (int j = 0; j <= i; ++j) at[i * stride + j] = l[i][j];
        }
    }
}

// By one warp: tile (i, p) of G becomes that of L, G_ip L_pp^-T.
__device__ inline void panel_tile(const BasisLayout& layout, const FactorSpace& space, int i, int p) {
    const int lane = threadIdx.x % warp_size, stride = layout.factor_stride();
    double* at = space.factor + (i * tile + lane / 4) * stride + p * tile;
    const double* inverse = space.inverse + (p * tile + lane / 4) * BasisLayout::inverse_stride + lane % 4;
    const double a[2] = {at[lane % 4], at[lane % 4 + 4]};
    double c[2] = {0.0, 0.0};
    for (int half = 0; half < 2; ++half) multiply_add_tile(c, a[half], inverse[4 * half]);
    __syncwarp();
    for (int e = 0; e < 2; ++e) at[lane % 4 * 2 + e] = c[e];
}

// By one warp: G_ij -= L_ip L_jp'.
__device__ inline void update_tile(const BasisLayout& layout, const FactorSpace& space, int i, int j, int p) {
    const int lane = threadIdx.x % warp_size, stride = layout.factor_stride();
    const double* l_i = space.factor + (i * tile + lane / 4) * stride + p * tile + lane % 4;
    const double* l_j = space.factor + (j * tile + lane / 4) * stride + p * tile + lane % 4;
    double* at = space.factor + (i * tile + lane / 4) * stride + j * tile + lane % 4 * 2;
    double c[2] = {at[0], at[1]};
    for (int half = 0; half < 2; ++half) multiply_add_tile(c, -l_i[4 * half], l_j[4 * half]);
    for (int e = 0; e < 2; ++e) at[e] = c[e];
}

// By the whole block: G becomes L. Warp 0 factors the next diagonal tile while the others update the rest. Ends with a
// barrier.
__device__ inline void factor_gram(const BasisLayout& layout, const FactorSpace& space) {
    const int warp = threadIdx.x / warp_size, others = blockDim.x / warp_size - 1, tiles = layout.tiles();
    if (warp == 0) factor_tile(layout, space, 0);
    __syncthreads();
    for (int p = 0; p + 1 < tiles; ++p) {
        for (int i = p + 1 + warp; i < tiles; i += others + 1) panel_tile(layout, space, i, p);
        __syncthreads();
        if (warp == 0) {
            update_tile(layout, space, p + 1, p + 1, p);
            __syncwarp();
            factor_tile(layout, space, p + 1);
        } else {
            int item = 0;
            for (int i = p + 2; i < tiles; ++i)
                for (int j = p + 1; j <= i; ++j)
                    if (item++ % others == warp - 1) update_tile(layout, space, i, j, p);
        }
        __syncthreads();
    }
}

// By the whole block: basis <- basis L^-T. A warp takes 8 states and keeps their finished part of Q as operands.
__device__ inline void divide_by_factor(const BasisLayout& layout, const FactorSpace& space, float* basis) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, warps = blockDim.x / warp_size;
    const int tiles = layout.tiles(), stride = layout.stride(), factor_stride = layout.factor_stride();
    for (int states = warp; states < layout.length() / tile; states += warps) {
        float* column = basis + lane % 4 * 2 * stride + states * tile + lane / 4;
        double q[2 * most_tiles];
#pragma unroll
        for (int p = 0; p < most_tiles; ++p) {
            if (p >= tiles) continue;
            float* at = column + p * tile * stride;
            double c[2] = {at[0], at[stride]};
            const double* l = space.factor + (p * tile + lane / 4) * factor_stride + lane % 4;
#pragma unroll
            for (int m = 0; m < 2 * p; ++m) multiply_add_tile(c, -q[m], l[4 * m]);
            const double* inverse = space.inverse + (p * tile + lane / 4) * BasisLayout::inverse_stride + lane % 4;
            double a[2], out[2] = {0.0, 0.0};
            to_operand(c, a);
            for (int half = 0; half < 2; ++half) multiply_add_tile(out, a[half], inverse[4 * half]);
            for (int e = 0; e < 2; ++e) at[e * stride] = static_cast<float>(out[e]);
            to_operand(out, q + 2 * p);
        }
    }
}

// By warp 0, after the diagonal is written. Round 0: is another round needed? Round 1: the first lost column, if any.
__device__ inline void judge(const BasisLayout& layout, const FactorSpace& space, int round) {
    double low = DBL_MAX, high = 0.0;
    int lost = layout.k;
    for (int j = threadIdx.x % warp_size; j < layout.k; j += warp_size) {
        const double r_j = space.diagonal[j];
        low = fmin(low, r_j);
        high = fmax(high, r_j);
        if (r_j < qr_lost_rank && j < lost) lost = j;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        low = fmin(low, __shfl_xor_sync(all_lanes, low, offset));
        high = fmax(high, __shfl_xor_sync(all_lanes, high, offset));
        const int other = __shfl_xor_sync(all_lanes, lost, offset);
        lost = other < lost ? other : lost;
    }
    if (threadIdx.x > 0) return;
    *space.again = round == 0 && high > qr_second_round_ratio * low;
    if (round > 0 && lost < layout.k) *space.failed = lost + 1;
}

}  // namespace spikefloss
