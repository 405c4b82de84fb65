// Readout filter and losses of the CUDA backend. The filter has one thread per sequence and readout, which loops over
// time.
#include "cuda_backend.hpp"

#include "kernel.cuh"

#include <algorithm>

namespace spikefloss {
namespace {

constexpr int block = 64;  // few threads, so that they spread over the multiprocessors
constexpr int ahead = 8;   // steps whose inputs a thread loads at once, before it computes them
constexpr int loss_block = 256;
constexpr Index most_losses = 1024;  // blocks of element_loss_kernel

__global__ void readout_filter_kernel(Index T, Index b, Index O, const float* kappa, const float* bias, const float* z,
                                      float* y) {
    const Index row = b * O;
    for (Index at = first_element(); at < row; at += element_stride()) {
        const float k = kappa[at % O], offset = bias[at % O];
        float before = 0.0f;
        for (Index first = 0; first < T; first += ahead) {
            const int steps = static_cast<int>(T - first < ahead ? T - first : ahead);
            float input[ahead];
#pragma unroll
            for (int i = 0; i < ahead; ++i) input[i] = i < steps ? z[(first + i) * row + at] : 0.0f;
#pragma unroll
            for (int i = 0; i < ahead; ++i)
                if (i < steps) {
                    before = fmaf(k, before, (1.0f - k) * (input[i] + offset));
                    y[(first + i) * row + at] = before;
                }
        }
    }
}

// d_kappa[at]: the sum over time of this sequence and readout.
__global__ void readout_filter_backward_kernel(Index T, Index b, Index O, const float* kappa, const float* y,
                                               const float* dy, float* dz, double* d_kappa) {
    const Index row = b * O;
    for (Index at = first_element(); at < row; at += element_stride()) {
        const float k = kappa[at % O];
        float dr = 0.0f;
        double sum = 0.0;
        for (Index last = T; last > 0; last -= ahead) {
            const int steps = static_cast<int>(last < ahead ? last : ahead);
            float output[ahead + 1], back[ahead];
#pragma unroll
            for (int i = 0; i <= ahead; ++i) {
                const Index t = last - 1 - i;
                output[i] = t >= 0 ? y[t * row + at] : 0.0f;
                if (i < ahead) back[i] = t >= 0 ? dy[t * row + at] : 0.0f;
            }
#pragma unroll
            for (int i = 0; i < ahead; ++i)
                if (i < steps) {
                    const float input = (output[i] - k * output[i + 1]) / (1.0f - k);  // z[t] + bias
                    dr = fmaf(k, dr, back[i]);
                    sum += static_cast<double>(dr) * (output[i + 1] - input);
                    dz[(last - 1 - i) * row + at] = (1.0f - k) * dr;
                }
        }
        d_kappa[at] = sum;
    }
}

// sum[o] += the sum over b of parts[b, O].
template <class T>
__global__ void add_sequences_kernel(Index b, Index O, const double* parts, T* sum) {
    for (Index o = first_element(); o < O; o += element_stride()) {
        double total = 0.0;
        for (Index s = 0; s < b; ++s) total += parts[s * O + o];
        sum[o] += static_cast<T>(total);
    }
}

// partial[block] = loss and number of correct signs over the block's elements.
__global__ void element_loss_kernel(LossKind kind, Index rows, Index O, const float* y, const float* target,
                                    const float* mask, float weight, float* dy, double* partial) {
    double loss = 0.0, correct = 0.0;
    for (Index i = first_element(); i < rows * O; i += element_stride()) {
        if (mask[i / O] == 0.0f) {
            dy[i] = 0.0f;
            continue;
        }
        if (kind == LossKind::mean_squared_error) {
            const double error = static_cast<double>(y[i]) - target[i];
            loss += error * error;
            dy[i] = weight * static_cast<float>(2.0 * error);
            continue;
        }
        // log(1 + exp(-|y|)) + max(y, 0) - y target: no overflow for any logit.
        const double logit = y[i], q = exp(-fabs(logit));
        loss += log1p(q) + (logit < 0.0 ? 0.0 : logit) - logit * target[i];
        correct += (y[i] > 0.0f) == (target[i] > 0.5f) ? 1.0 : 0.0;
        const double sigmoid = logit >= 0.0 ? 1.0 / (1.0 + q) : q / (1.0 + q);
        dy[i] = weight * static_cast<float>(sigmoid - target[i]);
    }
    double* shared = dynamic_shared<double>();
    loss = block_sum(loss, shared);
    __syncthreads();
    correct = block_sum(correct, shared);
    if (threadIdx.x == 0) {
        partial[2 * blockIdx.x] = loss;
        partial[2 * blockIdx.x + 1] = correct;
    }
}

// result[0, 1] = the sums over partial[count, 2], in order.
__global__ void add_losses_kernel(Index count, const double* partial, double* result) {
    double sum = 0.0;
    for (Index i = 0; i < count; ++i) sum += partial[2 * i + threadIdx.x];
    result[threadIdx.x] = sum;
}

// Whether the maximum moves from `best` to `y`; once it is not a number it stays so.
__device__ bool is_larger(double y, double best) { return !(y <= best) && best == best; }

// One block per sequence. logit and chosen [b, O] are scratch: a logit is a sum of y over the steps with mask 1,
// divided by `steps`, or the y of one chosen step. partial [b, 2]: the loss, and 1 if the largest logit is the label's.
__global__ void softmax_cross_entropy_kernel(LossKind kind, Index T, Index b, Index O, const float* y,
                                             const std::int32_t* label, const float* mask, float weight, float* dy,
                                             std::int32_t* named, double* logit, Index* chosen, double* partial) {
    const bool sums = kind == LossKind::cross_entropy_mean || kind == LossKind::cross_entropy_sum;
    double* log_sum = dynamic_shared<double>();
    for (Index s = blockIdx.x; s < b; s += gridDim.x) {
        double* mine = logit + s * O;
        double steps = 0.0;
        for (Index t = 0; t < T; ++t) steps += mask[t * b + s];
        if (kind == LossKind::cross_entropy_sum) steps = 1.0;
        for (Index o = threadIdx.x; o < O; o += blockDim.x) {
            double sum = 0.0;
            Index at = -1;
            for (Index t = 0; t < T; ++t) {
                const float marked = mask[t * b + s], here = y[(t * b + s) * O + o];
                if (sums) {
                    sum += marked * here;
                } else if (marked != 0.0f && (at < 0 || kind == LossKind::cross_entropy_last || is_larger(here, sum))) {
                    sum = here;
                    at = t;
                }
            }
            mine[o] = sums ? sum / steps : sum;
            chosen[s * O + o] = at;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            Index largest = 0;
            for (Index o = 1; o < O; ++o)
                if (mine[largest] < mine[o]) largest = o;
            double sum = 0.0;
            for (Index o = 0; o < O; ++o) sum += exp(mine[o] - mine[largest]);
            *log_sum = mine[largest] + log(sum);
            partial[2 * s] = *log_sum - mine[label[s]];
            named[s] = static_cast<std::int32_t>(largest);
            partial[2 * s + 1] = largest == label[s] ? 1.0 : 0.0;
        }
        __syncthreads();
        for (Index at = threadIdx.x; at < T * O; at += blockDim.x) {
            const Index t = at / O, o = at % O;
            const double share = exp(mine[o] - *log_sum) - (o == label[s] ? 1.0 : 0.0);
            const double part = sums ? share * mask[t * b + s] / steps : (t == chosen[s * O + o] ? share : 0.0);
            dy[(t * b + s) * O + o] = weight * static_cast<float>(part);
        }
        __syncthreads();
    }
}

}  // namespace

void CudaBackend::readout_filter(Index T, Index b, Index O, const float* kappa, const float* bias, const float* z,
                                 float* y) {
    launch({grid_for(b * O, block), block, stream_}, readout_filter_kernel, T, b, O, kappa, bias, z, y);
}

void CudaBackend::readout_filter_backward(Index T, Index b, Index O, const float* kappa, const float* y,
                                          const float* dy, float* dz, SumMatrix d_kappa) {
    double* const parts = scratch<double>(b * O);
    if (counting()) return;
    launch({grid_for(b * O, block), block, stream_}, readout_filter_backward_kernel, T, b, O, kappa, y, dy, dz, parts);
    const Launch how{grid_for(O, block), block, stream_};
    if (d_kappa.type == Scalar::float32)
        launch(how, add_sequences_kernel<float>, b, O, parts, static_cast<float*>(d_kappa.data));
    else
        launch(how, add_sequences_kernel<double>, b, O, parts, static_cast<double*>(d_kappa.data));
}

void CudaBackend::element_loss(LossKind kind, Index T, Index b, Index O, const float* y, const float* target,
                               const float* mask, float weight, float* dy, double* result) {
    const Index blocks = std::min(most_losses, (T * b * O + loss_block - 1) / loss_block);
    double* const partial = scratch<double>(2 * blocks);
    if (counting()) return;
    launch({dim3(static_cast<unsigned>(blocks)), loss_block, stream_, 33 * sizeof(double)}, element_loss_kernel, kind,
           T * b, O, y, target, mask, weight, dy, partial);
    launch({dim3(1), dim3(2), stream_}, add_losses_kernel, blocks, partial, result);
}

void CudaBackend::softmax_cross_entropy(LossKind kind, Index T, Index b, Index O, const float* y,
                                        const std::int32_t* label, const float* mask, float weight, float* dy,
                                        std::int32_t* named, double* result) {
    static_assert(sizeof(Index) == sizeof(double));
    double* const memory = scratch<double>(2 * b * O + 2 * b);
    if (counting()) return;
    double* partial = memory + b * O;
    auto* chosen = reinterpret_cast<Index*>(partial + 2 * b);
    launch({grid_for(b, 1), 128, stream_, sizeof(double)}, softmax_cross_entropy_kernel, kind, T, b, O, y, label, mask,
           weight, dy, named, memory, chosen, partial);
    launch({dim3(1), dim3(2), stream_}, add_losses_kernel, b, partial, result);
}

}  // namespace spikefloss
