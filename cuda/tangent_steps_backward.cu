// The adjoint of the tangent pass, one block per sequence. For t = steps-1..0, with A the adjoint of the basis:
//
//   after a QR: C = tril(M) + tril(M, -1)', M = diag(weight) - A'Q below the diagonal;  A <- (A + Q C) R^-T
//   A_u *= (1 - s);  g = A_i + (1-beta) A_u;  back = W_rec' g;  A_i = alpha g;  A_u = beta A_u + psi back
//
// The block stores g and back of every step in global memory. The whole device then computes what the steps do not
// need: e += psi' sum of back Q_u, and dW_rec += sum of g x' with x = psi Q_u, as one product over all steps.
//
// Only the lower triangle of M is used. It needs only the diagonal of R, and only the tiles of A'Q in that triangle.
// R^-T is a substitution over panels of 8, from the last to the first. Each warp takes its own 8 states.
//
// Estimate for the authors' setting (N = 64, k = 50, D = 128, one QR a step) in cycles of one H100 SM: Gram 3000,
// Q C 4000, substitution 3000, product 2100, step, loads and 5 barriers 1500: 13600 cycles, 7.8 us a step at 1.75 GHz;
// 4 ms for 500 steps, and less than 0.2 ms for e and dW_rec (not measured). It takes 148 of 227 KB.
#include "tangent_steps.hpp"

#include "tangent_steps.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

struct Workspace {
    double *factor, *small, *inverse;  // L = R' in the lower triangle; C; inverses of L's diagonal tiles
    float *w, *basis, *adjoint, *g;    // [columns, columns]; Q and A [rows, stride]; [rows, input_stride]
    float *psi, *reset, *alpha, *beta;

    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        const Index doubles = 2 * layout.factor_size() + layout.inverses_size();
        const Index floats =
            layout.weights_size() + 2 * layout.basis_size() + layout.input_size() + 6 * layout.columns();
        return 8 * doubles + 4 * floats;
    }
    __device__ Workspace(const BasisLayout& layout, double* memory)
        : factor(memory),
          small(factor + layout.factor_size()),
          inverse(small + layout.factor_size()),
          w(reinterpret_cast<float*>(inverse + layout.inverses_size())),
          basis(w + layout.weights_size()),
          adjoint(basis + layout.basis_size()),
          g(adjoint + layout.basis_size()),
          psi(g + layout.input_size()),
          reset(psi + 2 * layout.columns()),
          alpha(reset + 2 * layout.columns()),
          beta(alpha + layout.columns()) {}
};

// The part of the pass that one launch takes: steps begin..end-1, its g and back [end - begin, b, k, N].
struct Chunk {
    Index begin, end;
    float *g, *back;
};

// L = R', padded with the identity.
__device__ void load_r(const BasisLayout& layout, const double* r, double* factor) {
    const int rows = layout.rows(), k = layout.k;
    for (int at = threadIdx.x; at < rows * rows; at += blockDim.x) {
        const int i = at / rows, j = at % rows;  // of R
        if (i <= j) factor[j * layout.factor_stride() + i] = j < k ? r[i * k + j] : i == j ? 1.0 : 0.0;
    }
}

// By the whole block: C from A, Q and the weights of R, and the inverses of R's diagonal tiles.
__device__ void small_algebra(const BasisLayout& layout, const Workspace& space, const double* weight) {
    const int stride = layout.factor_stride(), k = layout.k;
    for (int p = threadIdx.x / warp_size; p < layout.tiles(); p += static_cast<int>(blockDim.x) / warp_size) {
        double l[tile][tile], reciprocal[tile];
        load_lower(space.factor + p * tile * (stride + 1), stride, l);
#pragma unroll
        for (int j = 0; j < tile; ++j) reciprocal[j] = 1.0 / l[j][j];
        invert_lower(l, reciprocal, space.inverse + p * tile * BasisLayout::inverse_stride);
    }
    double* small = space.small;
    lower_gram(layout, space.adjoint, space.basis, [&](int row, int column, double sum) {
        if (row < column) return;
        const double c = (weight && row == column && row < k ? weight[row] : 0.0) - sum;
        small[row * stride + column] = c;
        small[column * stride + row] = c;
    });
}

// By the whole block: A <- (A + Q C) R^-T. A warp takes 8 states.
__device__ void apply(const BasisLayout& layout, const Workspace& space) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size, warps = blockDim.x / warp_size;
    const int tiles = layout.tiles(), stride = layout.stride(), factor_stride = layout.factor_stride();
    for (int states = warp; states < layout.length() / tile; states += warps) {
        float* adjoint = space.adjoint + lane % 4 * 2 * stride + states * tile + lane / 4;
        const float* q = space.basis + lane % 4 * stride + states * tile + lane / 4;
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

__global__ void __launch_bounds__(tangent_block_threads)
    tangent_steps_backward_kernel(BasisLayout layout, TangentBackwardCall pass, Chunk chunk) {
    const Workspace space(layout, dynamic_shared<double>());
    const int k = layout.k, N = layout.N, columns = layout.columns(), stride = layout.stride();
    const int input_stride = layout.input_stride();
    const Index s = blockIdx.x, b = gridDim.x, first = s * k * layout.floats();
    // Loads Q and R of the QR just before step `end`, if there is one.
    const auto load_qr = [&](Index end) {
        if (end == 0 || end % pass.qr_interval != 0) return;
        load_basis(layout, pass.q + end * pass.q_stride + first, space.basis);
        load_r(layout, pass.r + ((end / pass.qr_interval - 1) * b + s) * k * k, space.factor);
    };
    load_weights(layout, pass.w_rec, false, space.w);
    load_basis(layout, pass.a + first, space.adjoint);
    load_constants(layout, pass.neurons, space.alpha, space.beta);
    load_factors(layout, pass.model, pass.reset, pass.u + ((chunk.end - 1) * b + s) * N,
                 space.psi + (chunk.end - 1) % 2 * columns, space.reset + (chunk.end - 1) % 2 * columns);
    load_qr(chunk.end);
    __syncthreads();
    for (Index t = chunk.end; t-- > chunk.begin;) {
        const float *psi = space.psi + t % 2 * columns, *reset = space.reset + t % 2 * columns;
        if ((t + 1) % pass.qr_interval == 0) {
            const bool counted = (t + 1) / pass.qr_interval - 1 >= pass.first_counted;
            small_algebra(layout, space, counted ? pass.weight + s * k : nullptr);
            __syncthreads();
            apply(layout, space);
            __syncthreads();
        }
        const Index out = ((t - chunk.begin) * b + s) * k * N;
        for (int at = threadIdx.x; at < layout.rows() * columns; at += blockDim.x) {
            const int row = at / columns, j = at % columns;
            float *a_i = space.adjoint + row * stride + j, *a_u = a_i + layout.membrane();
            const float membrane = *a_u * factor_after(pass.model.reset_delay, reset[j]);
            const float g = fmaf(1.0f - space.beta[j], membrane, layout.has_current ? *a_i : 0.0f);
            *a_u = membrane;
            space.g[row * input_stride + j] = g;
            if (row < k && j < N) chunk.g[out + row * N + j] = g;
        }
        if (t > chunk.begin) load_qr(t);
        __syncthreads();
        const Index next = (t + 1) % 2 * columns;
        if (t > chunk.begin)
            load_factors(layout, pass.model, pass.reset, pass.u + ((t - 1) * b + s) * N, space.psi + next,
                         space.reset + next);
        product(k, columns, columns, space.g, input_stride, space.w, [&](int row, int column, float4 sum) {
            const float back[4] = {sum.x, sum.y, sum.z, sum.w};
            for (int e = 0; e < 4; ++e) {
                const int j = column + e;
                float *a_i = space.adjoint + row * stride + j, *a_u = a_i + layout.membrane();
                if (layout.has_current) *a_i = space.alpha[j] * space.g[row * input_stride + j];
                const float q = factor_before(pass.model.reset_delay, reset[j]);
                *a_u = fmaf(space.beta[j], q * *a_u, psi[j] * back[e]);
                if (j < N) chunk.back[out + row * N + j] = back[e];
            }
        });
        __syncthreads();
    }
    store_basis(layout, space.adjoint, pass.a + first);
}

// One thread per neuron, sequence and step: e += psi' sum over k of back Q_u, and back becomes x = psi Q_u. u, e and Q
// begin at the chunk's first step.
__global__ void tangent_inputs_kernel(NeuronModel model, BasisShape shape, Index count, const float* u, const float* q0,
                                      Index q_stride, float* back, float* e) {
    const Index b = shape.b, k = shape.k, N = shape.n, D = shape.D();
    for (Index at = first_element(); at < count; at += element_stride()) {
        const Index j = at % N, sequence = at / N, s = sequence % b, t = sequence / b;
        const float v = u[at] - model.threshold, psi = surrogate_psi(model.surrogate, v, model.sharpness);
        const float* q = q0 + t * q_stride + s * k * D + shape.membrane() + j;
        float* back_k = back + sequence * k * N + j;
        float sum = 0.0f;
        for (Index row = 0; row < k; ++row) {
            const float q_row = q[row * D];
            sum = fmaf(back_k[row * N], q_row, sum);
            back_k[row * N] = psi * q_row;
        }
        e[at] = fmaf(surrogate_derivative(model.surrogate, v, model.sharpness), sum, e[at]);
    }
}

}  // namespace

bool tangent_adjoints_fit_block(CudaBackend& backend, const TangentPlan& plan) {
    const BasisShape& shape = plan.basis;
    return backend.sums() == Sums::float32 && shape.size() > 0 && shape.k <= most_block_vectors &&
           shape.n <= most_block_neurons &&
           Workspace::bytes(BasisLayout(shape)) <= static_cast<Index>(backend.device().shared_per_block);
}

BlockTangentBackward::BlockTangentBackward(CudaBackend& backend, const TangentPlan& plan, Memory& memory)
    : backend_(backend),
      shape_(plan.basis),
      chunk_(std::clamp<Index>(backend.chunk_rows(shape_.rows() * shape_.n), 1, std::max<Index>(1, plan.steps))),
      g_(memory, chunk_ * shape_.rows() * shape_.n),
      back_(memory, chunk_ * shape_.rows() * shape_.n) {}

void BlockTangentBackward::run(const TangentBackwardCall& call) {
    const BasisLayout layout(shape_);
    const Index b = shape_.b, N = shape_.n;
    const Launch how{.grid = dim3(static_cast<unsigned>(b)),
                     .block = dim3(tangent_block_threads),
                     .stream = backend_.stream(),
                     .shared = static_cast<std::size_t>(Workspace::bytes(layout))};
    for (Index end = call.steps; end > 0; end -= chunk_) {
        const Index begin = std::max<Index>(0, end - chunk_), rows = (end - begin) * shape_.rows();
        if (!backend_.counting()) {
            launch(how, tangent_steps_backward_kernel, layout, call, Chunk{begin, end, g_.data(), back_.data()});
            launch({grid_for((end - begin) * b * N, 128), dim3(128), backend_.stream()}, tangent_inputs_kernel,
                   call.model, shape_, (end - begin) * b * N, call.u + begin * b * N, call.q + begin * call.q_stride,
                   call.q_stride, back_.data(), call.e + begin * b * N);
        }
        backend_.add_outer({g_.data(), rows, N}, {.values = back_.data(), .stride = N}, call.d_w_rec);
    }
}

}  // namespace spikefloss
