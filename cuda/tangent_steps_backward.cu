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
#include "tangent_steps_adjoint.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

struct Workspace : AdjointSpace {
    float *w, *basis, *adjoint, *g;  // [columns, columns]; Q and A [rows, stride]; [rows, input_stride]
    float *psi, *reset, *alpha, *beta;

    SPIKEFLOSS_HD static Index bytes(const BasisLayout& layout) {
        const Index floats =
            layout.weights_size() + 2 * layout.basis_size() + layout.input_size() + 6 * layout.columns();
        return AdjointSpace::bytes(layout) + 4 * floats;
    }
    __device__ Workspace(const BasisLayout& layout, double* memory)
        : AdjointSpace(layout, memory),
          w(reinterpret_cast<float*>(memory + AdjointSpace::bytes(layout) / 8)),
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
        load_r(layout, pass.r + ((end / pass.qr_interval - 1) * b + s) * k * k, space);
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
            const double* weight = counted ? pass.weight + s * k : nullptr;
            invert_tiles(layout, space);
            lower_gram(layout, space.adjoint, space.basis,
                       [&](int row, int column, double sum) { set_small(layout, space, weight, row, column, sum); });
            __syncthreads();
            take_back_qr(layout, space, space.basis, space.adjoint);
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
