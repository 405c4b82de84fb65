// A round of the Cholesky QR of the tangent bases in one kernel, and its adjoint in another: for bases that one block
// cannot hold (tangent_steps.cu). The blocks of a cluster hold the basis of one sequence, [k, D], in their shared
// memory. Each has a slice of the columns. It sums the Gram matrix of its slice; then every block adds these sums of
// all blocks, in order, and factorises the result. So all have the same R, without a second exchange.
//
// Estimate for N = 1024, k = 32, b = 16 (D = 2048, eight blocks a sequence) in microseconds: loads 1, Gram 1.5, sums of
// the other blocks 1.5 with two meetings, Cholesky 2.5, substitution 1, stores 1: 9 with the launch; the adjoint 10.
// The separate operations (qr.cu) are 8 and 10 kernels and take about 80 (not measured).
#include "cuda_backend.hpp"
#include "tangent_steps_adjoint.cuh"
#include "tangent_steps_cholesky.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int threads = 256;
constexpr int most_blocks = 8;  // of a cluster; every device with clusters supports this size

// The columns of a block: those of a layout of one part.
struct Slice {
    BasisLayout layout;
    Index D;
    int width;  // columns of a block, but the last ones may have fewer

    Slice(const BasisShape& shape, int blocks)
        : layout({shape.b, shape.k, (shape.D() + blocks - 1) / blocks, false}),
          D(shape.D()),
          width(static_cast<int>((shape.D() + blocks - 1) / blocks)) {}
};

// Copies of this block's columns of a basis [k, D] of one sequence. The padding becomes zero.
__device__ void load_slice(const Slice& slice, const float* from, float* to) {
    const BasisLayout& layout = slice.layout;
    const Index first = static_cast<Index>(cluster_rank()) * slice.width;
    const int length = layout.length();
    for (int at = threadIdx.x; at < layout.rows() * length; at += blockDim.x) {
        const int row = at / length, d = at % length;
        to[row * layout.stride() + d] =
            row < layout.k && d < slice.width && first + d < slice.D ? from[row * slice.D + first + d] : 0.0f;
    }
}
__device__ void store_slice(const Slice& slice, const float* from, float* to) {
    const Index first = static_cast<Index>(cluster_rank()) * slice.width;
    for (int at = threadIdx.x; at < slice.layout.k * slice.width; at += blockDim.x) {
        const int row = at / slice.width, d = at % slice.width;
        if (first + d < slice.D) to[row * slice.D + first + d] = from[row * slice.layout.stride() + d];
    }
}

__device__ void meet(int blocks) {
    if (blocks > 1)
        cluster_barrier();
    else
        __syncthreads();
}

// By all blocks: the lower triangle of x y' over all columns. `partial` [rows, factor_stride] is that of this block's.
// It may be written again, and the block may end, after another meeting.
template <class Finish>
__device__ void gram_of_all(const Slice& slice, const float* x, const float* y, int blocks, double* partial,
                            Finish finish) {
    const BasisLayout& layout = slice.layout;
    const int stride = layout.factor_stride(), rows = layout.rows();
    lower_gram(layout, x, y, [&](int row, int column, double sum) { partial[row * stride + column] = sum; });
    meet(blocks);
    for (int at = threadIdx.x; at < rows * rows; at += blockDim.x) {
        const int row = at / rows, column = at % rows;
        if (column > row) continue;
        double sum = 0.0;
        for (int block = 0; block < blocks; ++block)
            sum += cluster_peer(partial, static_cast<unsigned>(block))[row * stride + column];
        finish(row, column, sum);
    }
    __syncthreads();
}

struct FactoriseSpace : FactorSpace {
    double* partial;  // [rows, factor_stride]
    float* basis;     // [rows, stride]
    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        return FactorSpace::bytes(layout) + 8 * layout.factor_size() + 4 * layout.basis_size();
    }
    __device__ FactoriseSpace(const BasisLayout& layout, double* memory)
        : FactorSpace(layout, memory),
          partial(memory + FactorSpace::bytes(layout) / 8),
          basis(reinterpret_cast<float*>(partial + layout.factor_size())) {}
};

// R, ln R_jj and the findings of one sequence, by one block; as judge_kernel of qr.cu in its first and only round.
__device__ void tell(const BasisLayout& layout, const FactorSpace& space, Index step, double* r, double* log_r,
                     std::int32_t* failure, double* strain) {
    const int k = layout.k, stride = layout.factor_stride();
    for (int at = threadIdx.x; at < k * k; at += blockDim.x)
        r[at] = at / k <= at % k ? space.factor[at % k * stride + at / k] : 0.0;
    if (threadIdx.x >= warp_size) return;
    double most = 0.0, low = DBL_MAX, high = 0.0;
    int lost = k;  // the first vector that is not finite
    for (int j = threadIdx.x; j < k; j += warp_size) {
        double length = 0.0;  // |A_j|^2
        for (int i = 0; i <= j; ++i) length = fma(space.factor[j * stride + i], space.factor[j * stride + i], length);
        const double r_j = space.diagonal[j], log_j = log(r_j);
        log_r[j] = log_j;
        most = fmax(most, fmax(0.5 * log(length) - log_j, fabs(log_j) / 8.0));
        low = fmin(low, r_j);
        high = fmax(high, r_j);
        if (!(fabs(r_j) <= DBL_MAX) && j < lost) lost = j;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        most = fmax(most, __shfl_xor_sync(all_lanes, most, offset));
        low = fmin(low, __shfl_xor_sync(all_lanes, low, offset));
        high = fmax(high, __shfl_xor_sync(all_lanes, high, offset));
        const int other = __shfl_xor_sync(all_lanes, lost, offset);
        lost = other < lost ? other : lost;
    }
    if (threadIdx.x > 0) return;
    *strain = fmax(*strain, most);
    const int failed = *space.failed ? *space.failed : lost < k ? lost + 1 : 0;
    const bool doubt = high > qr_second_round_ratio * low;
    if (failure[0] != 0 || (failed == 0 && !doubt)) return;  // an earlier failure stays
    failure[0] = static_cast<std::int32_t>(step);
    failure[1] = failed;
}

__global__ void __launch_bounds__(threads)
    factorise_kernel(const Slice slice, const int blocks, const Index step, float* x, double* r, double* log_r,
                     const QrFindings findings) {
    const BasisLayout& layout = slice.layout;
    const FactoriseSpace space(layout, dynamic_shared<double>());
    const int k = layout.k, stride = layout.factor_stride();
    const Index s = blockIdx.x / static_cast<unsigned>(blocks);
    float* const x_s = x + s * k * slice.D;
    if (threadIdx.x == 0) *space.failed = 0;
    load_slice(slice, x_s, space.basis);
    __syncthreads();
    double* const factor = space.factor;
    gram_of_all(slice, space.basis, space.basis, blocks, space.partial, [&](int row, int column, double sum) {
        factor[row * stride + column] = row == column && row >= k ? 1.0 : sum;
    });
    factor_gram(layout, space);
    if (cluster_rank() == 0)
        tell(layout, space, step, r + s * k * k, log_r + s * k, findings.failure + 2 * s, findings.strain + s);
    divide_by_factor(layout, space, space.basis);
    __syncthreads();
    store_slice(slice, space.basis, x_s);
    meet(blocks);  // the others have read `partial`
}

struct TakeBackSpace : AdjointSpace {
    double* partial;         // [rows, factor_stride]
    float *basis, *adjoint;  // [rows, stride]
    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        return AdjointSpace::bytes(layout) + 8 * layout.factor_size() + 8 * layout.basis_size();
    }
    __device__ TakeBackSpace(const BasisLayout& layout, double* memory)
        : AdjointSpace(layout, memory),
          partial(memory + AdjointSpace::bytes(layout) / 8),
          basis(reinterpret_cast<float*>(partial + layout.factor_size())),
          adjoint(basis + layout.basis_size()) {}
};

__global__ void __launch_bounds__(threads)
    factorise_backward_kernel(const Slice slice, const int blocks, const float* q, const double* r,
                              const double* weight, float* qb) {
    const BasisLayout& layout = slice.layout;
    const TakeBackSpace space(layout, dynamic_shared<double>());
    const Index s = blockIdx.x / static_cast<unsigned>(blocks), k = layout.k;
    load_slice(slice, q + s * k * slice.D, space.basis);
    load_slice(slice, qb + s * k * slice.D, space.adjoint);
    load_r(layout, r + s * k * k, space);
    __syncthreads();
    invert_tiles(layout, space);
    gram_of_all(slice, space.adjoint, space.basis, blocks, space.partial,
                [&](int row, int column, double sum) { set_small(layout, space, weight + s * k, row, column, sum); });
    take_back_qr(layout, space, space.basis, space.adjoint);
    __syncthreads();
    store_slice(slice, space.adjoint, qb + s * k * slice.D);
    meet(blocks);
}

// Blocks of a cluster: as many as there are multiprocessors for, but enough for the basis. 0: it does not fit, or the
// operations are taken one by one, as always with float64 sums.
template <class Space>
int blocks_for(const CudaBackend& backend, const BasisShape& shape) {
    const Device& device = backend.device();
    if (backend.leaves_out("clusters") || backend.sums() != Sums::float32) return 0;
    if (shape.size() == 0 || shape.k > most_block_vectors) return 0;
    const auto fits = [&](int blocks) {
        const Slice slice(shape, blocks);
        return shape.D() / blocks <= (1 << 20) &&
               Space::bytes(slice.layout) <= static_cast<Index>(device.shared_per_block);
    };
    const int most = device.clusters() ? most_blocks : 1;
    int blocks = most;
    while (blocks > 1 && (shape.b * blocks > device.multiprocessors || shape.D() / blocks < 2 * tile) &&
           fits(blocks / 2))
        blocks /= 2;
    return fits(blocks) ? blocks : 0;
}

template <class Space>
Launch clusters(const BasisShape& shape, const Slice& slice, int blocks, cudaStream_t stream) {
    return {.grid = dim3(static_cast<unsigned>(shape.b * blocks)),
            .block = dim3(threads),
            .stream = stream,
            .shared = static_cast<std::size_t>(Space::bytes(slice.layout)),
            .cluster = static_cast<unsigned>(blocks)};
}

}  // namespace

void CudaBackend::factorise_basis(const BasisShape& shape, Index step, float* x, double* g, double* r, double* log_r,
                                  const QrFindings& findings) {
    const int blocks = blocks_for<FactoriseSpace>(*this, shape);
    if (blocks == 0) return Backend::factorise_basis(shape, step, x, g, r, log_r, findings);
    if (counting()) return;
    const Slice slice(shape, blocks);
    launch(clusters<FactoriseSpace>(shape, slice, blocks, stream_), factorise_kernel, slice, blocks, step, x, r, log_r,
           findings);
}

void CudaBackend::factorise_basis_backward(const BasisShape& shape, const float* q, const double* r,
                                           const double* weight, double* g, float* qb) {
    const int blocks = blocks_for<TakeBackSpace>(*this, shape);
    if (blocks == 0) return Backend::factorise_basis_backward(shape, q, r, weight, g, qb);
    if (counting()) return;
    const Slice slice(shape, blocks);
    launch(clusters<TakeBackSpace>(shape, slice, blocks, stream_), factorise_backward_kernel, slice, blocks, q, r,
           weight, qb);
}

}  // namespace spikefloss
