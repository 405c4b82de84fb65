// Whole tangent passes of networks too large for one block: the step operations of all steps, queued without a host
// wait and recorded as one graph. Only the factorisation differs from the loop. The device checks it and records where
// it failed or needs a second round. The caller sets the number of rounds.
#include "cuda_backend.hpp"
#include "kernel.cuh"
#include "tangent_steps_cholesky.cuh"

namespace spikefloss {
namespace {

constexpr int factor_threads = 256;

// One block per sequence. G becomes R, log_r the logarithms of its diagonal; the second round adds to log_r. Records
// the first step of a sequence that failed, or that needs a second round which the pass does not make.
__global__ void tangent_steps_factor_kernel(BasisLayout layout, int round, bool last_round, Index step, double* g,
                                            double* log_r, std::int32_t* failure) {
    const FactorSpace space(layout, dynamic_shared<double>());
    const int k = layout.k, rows = layout.rows(), stride = layout.factor_stride();
    const Index s = blockIdx.x;
    double* g_s = g + s * k * k;
    if (threadIdx.x == 0) *space.failed = 0;
    for (int at = threadIdx.x; at < rows * rows; at += blockDim.x) {
        const int i = at / rows, j = at % rows;
        if (j <= i) space.factor[i * stride + j] = i < k ? g_s[i * k + j] : i == j ? 1.0 : 0.0;
    }
    __syncthreads();
    factor_gram(layout, space);
    const int failed = *space.failed;
    __syncthreads();
    if (threadIdx.x < warp_size) judge(layout, space, round);
    __syncthreads();
    for (int at = threadIdx.x; at < k * k; at += blockDim.x) {
        const int i = at / k, j = at % k;
        g_s[at] = i <= j ? space.factor[j * stride + i] : 0.0;
    }
    for (int j = threadIdx.x; j < k; j += blockDim.x) {
        const double log_j = log(space.diagonal[j]);
        log_r[s * k + j] = round == 0 ? log_j : log_r[s * k + j] + log_j;
    }
    if (threadIdx.x > 0 || failure[2 * s] != 0) return;
    const int column = failed ? failed : *space.failed;
    if (column == 0 && !(last_round && *space.again)) return;
    failure[2 * s] = static_cast<std::int32_t>(step);
    failure[2 * s + 1] = column;
}

GraphKey key_of(char kind, const NeuronModel& model, const NeuronVectors& neurons, const BasisShape& shape,
                const float* w_rec) {
    GraphKey key;
    key << kind << model.threshold << model.reset << model.surrogate << model.sharpness << neurons.alpha << neurons.beta
        << shape.b << shape.k << shape.n << shape.current << w_rec;
    return key;
}

}  // namespace

void CudaBackend::tangent_stepwise(const NeuronModel& model, const NeuronVectors& neurons, const BasisShape& shape,
                                   const float* w_rec, const TangentSteps& pass) {
    const Index b = shape.b, k = shape.k, N = shape.n, D = shape.D(), rows = shape.rows();
    float* x = scratch<float>(0, rows * N);
    float* product = scratch<float>(1, rows * N);
    double* second = scratch<double>(2, b * k * k);
    const BasisLayout layout(shape);
    const Launch factor{.grid = dim3(static_cast<unsigned>(b)),
                        .block = dim3(factor_threads),
                        .stream = stream_,
                        .shared = static_cast<std::size_t>(FactorSpace::bytes(layout))};
    const auto factorise = [&](Index t, float* a, double* r, double* log_r) {
        for (int round = 0; round < pass.rounds; ++round) {
            double* r_round = round == 0 ? r : second;
            gram(shape, a, a, r_round);
            launch(factor, tangent_steps_factor_kernel, layout, round, pass.rounds == 1, t, r_round, log_r,
                   pass.failure);
            divide_by_r(b, k, D, r_round, a);
            if (round > 0) multiply_r(b, k, second, r);
        }
    };
    GraphKey key = key_of('t', model, neurons, shape, w_rec);
    key << pass.steps << pass.qr_interval << pass.rounds << pass.reset << pass.u << pass.q << pass.q_stride << pass.r
        << pass.r_stride << pass.log_r << pass.failure;
    graphs().run(stream_, key, [&] {
        zero(pass.failure, static_cast<std::size_t>(2 * b) * sizeof(std::int32_t));
        for (Index t = 0; t < pass.steps; ++t) {
            const float* u = pass.u + t * b * N;
            float *q = pass.q + t * pass.q_stride, *p = q + pass.q_stride;
            tangent_input(model, shape, u, q, x);
            project({N, N, w_rec, N}, {.values = x, .stride = N}, Matrix<float>(product, rows, N), false);
            tangent_step(model, pass.reset, neurons, shape, u, product, q, p);
            if ((t + 1) % pass.qr_interval != 0) continue;
            const Index qr = (t + 1) / pass.qr_interval - 1;
            factorise(t + 1, p, pass.r + qr * pass.r_stride, pass.log_r + qr * rows);
        }
    });
}

void CudaBackend::tangent_stepwise_backward(const NeuronModel& model, const NeuronVectors& neurons,
                                            const BasisShape& shape, const float* w_rec,
                                            const TangentStepsBackward& pass) {
    const Index b = shape.b, k = shape.k, N = shape.n, rows = shape.rows();
    float* g = scratch<float>(0, rows * N);
    float* product = scratch<float>(1, rows * N);
    double* small = scratch<double>(2, b * k * k);
    double* no_weight = scratch<double>(3, rows);
    const auto qr_back = [&](Index end) {
        const Index qr = end / pass.qr_interval - 1;
        const float* q = pass.q + end * pass.q_stride;
        gram(shape, pass.a, q, small);
        qr_backward(b, k, shape.D(), q, pass.r + qr * rows * k, qr >= pass.first_counted ? pass.weight : no_weight,
                    small, pass.a);
    };
    GraphKey key = key_of('b', model, neurons, shape, w_rec);
    key << pass.steps << pass.qr_interval << pass.reset << pass.u << pass.q << pass.q_stride << pass.r << pass.weight
        << pass.first_counted << pass.a << pass.d_w_rec.data << pass.d_w_rec.stride << pass.e;
    graphs().run(stream_, key, [&] {
        zero(no_weight, static_cast<std::size_t>(rows) * sizeof(double));
        for (Index t = pass.steps; t-- > 0;) {
            const float *u = pass.u + t * b * N, *q = pass.q + t * pass.q_stride;
            if ((t + 1) % pass.qr_interval == 0) qr_back(t + 1);
            tangent_step_backward(model, pass.reset, neurons, shape, u, pass.a, g, nullptr);
            tangent_input(model, shape, u, q, product);  // x, until W' g overwrites it
            add_outer({g, rows, N}, {.values = product, .stride = N}, pass.d_w_rec);
            project_transposed({N, N, w_rec, N}, {g, rows, N}, Matrix<float>(product, rows, N), false);
            tangent_input_backward(model, neurons, shape, u, q, product, g, pass.a, pass.e + t * b * N);
        }
    });
}

}  // namespace spikefloss
