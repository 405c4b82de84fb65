// The tangent pass, one block per sequence. One launch takes all steps, with W_rec and the basis in shared memory.
//
//   P = tangent step of Q (see lyapunov/tangent_pass.hpp);  G = P'P in double;  G = L L';  Q = P L^-T, R = L'
//
// A second round of the last three follows if the largest R_jj is too many times the smallest, as in lyapunov/qr.cpp.
// If the factorisation of a sequence fails, its block records the step and stops. The host then repeats the pass in
// steps.
//
// L is not inverted as a whole. P L^-T is a substitution over panels of 8 columns. Each warp takes its own 8 states, so
// no barrier is needed. Networks too large for the shared memory of a block take the loop.
//
// Estimate for the authors' setting (N = 64, k = 50, D = 128, one QR a step) in cycles of one H100 SM: product 2100
// (2 x 4 sums a thread, bound by shared memory), Gram 3000 (16 warps, one pair of tiles each; bound by the widening of
// floats, 16 a cycle), Cholesky 7 panels x 1100 = 7700 (latency of one warp), substitution 3000, step, stores and 20
// barriers 1000: 17000 cycles, 9.5 us a step at 1.75 GHz; 5 ms for 500 steps (not measured). It takes 96 of 227 KB.
#include "tangent_steps.hpp"

#include "tangent_steps.cuh"
#include "tangent_steps_cholesky.cuh"

namespace spikefloss {
namespace {

// The block's shared memory. All sizes are multiples of 16 bytes.
struct Workspace : FactorSpace {
    double *total, *length, *strain;    // [rows]: R_jj, the product of both rounds; |A_j|^2; strain (QrFindings)
    float *w, *basis, *x;               // W' [columns, columns]; [rows, stride]; [rows, input_stride]
    float *psi, *reset, *alpha, *beta;  // [2][columns] twice; [columns]

    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        const Index floats = layout.weights_size() + layout.basis_size() + layout.input_size() + 6 * layout.columns();
        return FactorSpace::bytes(layout) + 3 * 8 * layout.rows() + 4 * floats;
    }
    __device__ Workspace(const BasisLayout& layout, double* memory)
        : FactorSpace(layout, memory),
          total(memory + FactorSpace::bytes(layout) / 8),
          length(total + layout.rows()),
          strain(length + layout.rows()),
          w(reinterpret_cast<float*>(strain + layout.rows())),
          basis(w + layout.weights_size()),
          x(basis + layout.basis_size()),
          psi(x + layout.input_size()),
          reset(psi + 2 * layout.columns()),
          alpha(reset + 2 * layout.columns()),
          beta(alpha + layout.columns()) {}
};

// By the whole block: R = L' in the first round, L' R in the second, row-major in global memory, and its diagonal.
__device__ void store_r(const BasisLayout& layout, const Workspace& space, int round, double* r) {
    const int k = layout.k, stride = layout.factor_stride();
    for (int j = threadIdx.x; j < k; j += blockDim.x)
        space.total[j] = round == 0 ? space.diagonal[j] : space.diagonal[j] * space.total[j];
    if (round == 0) {
        for (int at = threadIdx.x; at < k * k; at += blockDim.x) {
            const int i = at / k, j = at % k;
            r[at] = i <= j ? space.factor[j * stride + i] : 0.0;
        }
        return;
    }
    for (int j = threadIdx.x; j < k; j += blockDim.x)  // row i needs only rows i, i + 1, ... of R
        for (int i = 0; i <= j; ++i) {
            double sum = 0.0;
            for (int l = i; l <= j; ++l) sum = fma(space.factor[l * stride + i], r[l * k + j], sum);
            r[i * k + j] = sum;
        }
}

// By the whole block: basis = Q R in place. Returns 0, or the column (from 1) at which it failed. All threads return
// the same, after a barrier.
__device__ int factorise(const BasisLayout& layout, const Workspace& space, double* r, double* log_r) {
    for (int round = 0; round < 2; ++round) {
        if (threadIdx.x == 0) *space.failed = 0;
        double* factor = space.factor;
        const int k = layout.k, stride = layout.factor_stride();
        lower_gram(layout, space.basis, space.basis, [&](int row, int column, double sum) {
            factor[row * stride + column] = row == column && row >= k ? 1.0 : sum;
        });
        __syncthreads();
        factor_gram(layout, space);
        if (*space.failed) return *space.failed;
        for (int j = threadIdx.x; round == 0 && j < k; j += blockDim.x) {
            double length = 0.0;
            for (int i = 0; i <= j; ++i) length = fma(factor[j * stride + i], factor[j * stride + i], length);
            space.length[j] = length;
        }
        __syncthreads();  // judge may overwrite what was just read
        if (threadIdx.x < warp_size) judge(layout, space, round);
        store_r(layout, space, round, r);
        divide_by_factor(layout, space, space.basis);
        __syncthreads();
        if (*space.failed) return *space.failed;
        if (!*space.again) break;
        __syncthreads();
    }
    for (int j = threadIdx.x; j < layout.k; j += blockDim.x) {
        const double log_j = log(space.total[j]);
        log_r[j] = log_j;
        space.strain[j] = fmax(space.strain[j], fmax(0.5 * log(space.length[j]) - log_j, fabs(log_j) / 8.0));
    }
    return 0;
}

__global__ void __launch_bounds__(tangent_block_threads)
    tangent_steps_kernel(BasisLayout layout, TangentForwardCall pass) {
    const Workspace space(layout, dynamic_shared<double>());
    const int k = layout.k, N = layout.N, columns = layout.columns(), stride = layout.stride();
    const Index s = blockIdx.x, b = gridDim.x;
    const auto basis_at = [&](Index t) { return pass.q + s * k * layout.floats() + t * pass.q_stride; };
    load_weights(layout, pass.w_rec, true, space.w);
    load_basis(layout, basis_at(0), space.basis);
    load_constants(layout, pass.neurons, space.alpha, space.beta);
    load_factors(layout, pass.model, pass.reset, pass.u + s * N, space.psi, space.reset);
    for (int j = threadIdx.x; j < k; j += blockDim.x) space.strain[j] = 0.0;
    __syncthreads();
    for (Index t = 0; t < pass.steps; ++t) {
        const float *psi = space.psi + t % 2 * columns, *reset = space.reset + t % 2 * columns;
        for (int at = threadIdx.x; at < layout.rows() * columns; at += blockDim.x) {
            const int row = at / columns, j = at % columns;
            space.x[row * layout.input_stride() + j] = psi[j] * space.basis[row * stride + layout.membrane() + j];
        }
        if (t > 0 && pass.q_stride) store_basis(layout, space.basis, basis_at(t));
        __syncthreads();
        const Index next = (t + 1) % 2 * columns;
        if (t + 1 < pass.steps)
            load_factors(layout, pass.model, pass.reset, pass.u + ((t + 1) * b + s) * N, space.psi + next,
                         space.reset + next);
        product(k, columns, columns, space.x, layout.input_stride(), space.w, [&](int row, int column, float4 sum) {
            const float wx[4] = {sum.x, sum.y, sum.z, sum.w};
            for (int e = 0; e < 4; ++e) {
                const int j = column + e;
                float *q_i = space.basis + row * stride + j, *q_u = q_i + layout.membrane();
                const float beta = space.beta[j];
                const float current = layout.has_current ? fmaf(space.alpha[j], *q_i, wx[e]) : wx[e];
                const float membrane = tangent_membrane(pass.model.reset_delay, reset[j], beta, *q_u, current);
                if (layout.has_current) *q_i = current;
                *q_u = membrane;
            }
        });
        __syncthreads();
        if ((t + 1) % pass.qr_interval != 0) continue;
        const Index qr = (t + 1) / pass.qr_interval - 1;
        const int failed =
            factorise(layout, space, pass.r + qr * pass.r_stride + s * k * k, pass.log_r + (qr * b + s) * k);
        if (failed) {
            if (threadIdx.x == 0) {
                pass.findings.failure[2 * s] = static_cast<std::int32_t>(pass.first + t + 1);
                pass.findings.failure[2 * s + 1] = failed;
            }
            return;
        }
    }
    store_basis(layout, space.basis, basis_at(pass.steps));
    __syncthreads();
    if (threadIdx.x > 0) return;
    double strain = pass.findings.strain[s];
    for (int j = 0; j < k; ++j) strain = fmax(strain, space.strain[j]);
    pass.findings.strain[s] = strain;
}

}  // namespace

bool tangents_fit_block(CudaBackend& backend, const TangentPlan& plan) {
    const BasisShape& shape = plan.basis;
    return backend.sums() == Sums::float32 && shape.size() > 0 && shape.k <= most_block_vectors &&
           shape.n <= most_block_neurons &&
           Workspace::bytes(BasisLayout(shape)) <= static_cast<Index>(backend.device().shared_per_block);
}

BlockTangentForward::BlockTangentForward(CudaBackend& backend, const TangentPlan& plan, Memory&)
    : backend_(backend), shape_(plan.basis) {}

void BlockTangentForward::run(const TangentForwardCall& call) {
    if (backend_.counting()) return;
    const BasisLayout layout(shape_);
    const Launch how{.grid = dim3(static_cast<unsigned>(shape_.b)),
                     .block = dim3(tangent_block_threads),
                     .stream = backend_.stream(),
                     .shared = static_cast<std::size_t>(Workspace::bytes(layout))};
    launch(how, tangent_steps_kernel, layout, call);
}

}  // namespace spikefloss
