// The adjoint of a QR by the blocks that hold the basis Q and its adjoint A:
//
//   C = tril(M) + tril(M, -1)', M = diag(weight) - A'Q below the diagonal;  A <- (A + Q C) R^-T
#pragma once

#include "tangent_steps.cuh"

namespace spikefloss {

// The part of the block's shared memory that it uses.
struct AdjointSpace {
    double *factor, *small, *inverse;  // L = R' in the lower triangle; C; inverses of L's diagonal tiles

    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        return 8 * (2 * layout.factor_size() + layout.inverses_size());
    }
    __device__ AdjointSpace(const BasisLayout& layout, double* memory)
        : factor(memory), small(factor + layout.factor_size()), inverse(small + layout.factor_size()) {}
};

// L = R', padded with the identity.
__device__ inline void load_r(const BasisLayout& layout, const double* r, const AdjointSpace& space) {
    const int rows = layout.rows(), k = layout.k;
    for (int at = threadIdx.x; at < rows * rows; at += blockDim.x) {
        const int i = at / rows, j = at % rows;  // of R
        if (i <= j) space.factor[j * layout.factor_stride() + i] = j < k ? r[i * k + j] : i == j ? 1.0 : 0.0;
    }
}

// By the whole block: the inverses of R's diagonal tiles.
__device__ inline void invert_tiles(const BasisLayout& layout, const AdjointSpace& space) {
    const int stride = layout.factor_stride();
    for (int p = threadIdx.x / warp_size; p < layout.tiles(); p += static_cast<int>(blockDim.x) / warp_size) {
        double l[tile][tile], reciprocal[tile];
        load_lower(space.factor + p * tile * (stride + 1), stride, l);
#pragma unroll
        for (int j = 0; j < tile; ++j) reciprocal[j] = 1.0 / l[j][j];
        invert_lower(l, reciprocal, space.inverse + p * tile * BasisLayout::inverse_stride);
    }
}

// Element (row, column) of C, and that above the diagonal, from the weights of R (null: 0) and the sum of A'Q.
__device__ inline void set_small(const BasisLayout& layout, const AdjointSpace& space, const double* weight, int row,
                                 int column, double sum) {
    if (row < column) return;
    const double c = (weight && row == column && row < layout.k ? weight[row] : 0.0) - sum;
    space.small[row * layout.factor_stride() + column] = c;
    space.small[column * layout.factor_stride() + row] = c;
}

// By the whole block: A <- (A + Q C) R^-T. A warp takes 8 states.
__device__ inline void take_back_qr(const BasisLayout& layout, const AdjointSpace& space, const float* basis,
                                    float* adjoint_basis) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, warps = blockDim.x / warp_size;
    const int tiles = layout.tiles(), stride = layout.stride(), factor_stride = layout.factor_stride();
    for (int states = warp; states < layout.length() / tile; states += warps) {
        float* adjoint = adjoint_basis + lane % 4 * 2 * stride + states * tile + lane / 4;
        const float* q = basis + lane % 4 * stride + states * tile + lane / 4;
        double x[most_tiles][2];
#pragma unroll
        for (int p = 0; p < most_tiles; ++p)
            for (int e = 0; e < 2; ++e) x[p][e] = p < tiles ? adjoint[(p * tile + e) * stride] : 0.0;
        for (int m = 0; m < 2 * tiles; ++m) {
            const double q_m = q[4 * m * stride];
            const double* c = space.small + lane / 4 * factor_stride + 4 * m + lane % 4;  // C is symmetric
#pragma unroll
            for (int p = 0; p < most_tiles; ++p)
                if (p < tiles) multiply_add_tile(x[p], q_m, c[p * tile * factor_stride]);
        }
#pragma unroll
        for (int p = most_tiles - 1; p >= 0; --p) {
            if (p >= tiles) continue;
            const double* inverse = space.inverse + (p * tile + lane % 4) * BasisLayout::inverse_stride + lane / 4;
            double a[2], out[2] = {0.0, 0.0};
            to_operand(x[p], a);
            for (int half = 0; half < 2; ++half)
                multiply_add_tile(out, a[half], inverse[4 * half * BasisLayout::inverse_stride]);
            for (int e = 0; e < 2; ++e) adjoint[(p * tile + e) * stride] = static_cast<float>(out[e]);
            to_operand(out, a);
            const double* l = space.factor + (p * tile + lane % 4) * factor_stride + lane / 4;  // row p of L
#pragma unroll
            for (int m = 0; m < p; ++m)
                for (int half = 0; half < 2; ++half)
                    multiply_add_tile(x[m], -a[half], l[4 * half * factor_stride + m * tile]);
        }
    }
}

}  // namespace spikefloss
