// Whole passes of networks whose W_rec does not fit into shared memory: one product and one kernel per step, all queued
// at once.
//
// Spikes are 0 or 1, which is exact in bfloat16. A float is exactly the sum of three bfloat16 numbers; each is the
// rounded rest after the ones before. The three parts of W are stored side by side, [N, 3N], and the spikes three
// times, [b, 3N]. Then one bfloat16 product with float sums has the products of a float product. It runs on the tensor
// cores, at a third of their rate:
//
//   W s = W1 s + W2 s + W3 s            dW = sum of (g1 + g2 + g3) s'
//
// But tensor cores truncate their float sums: a sum of k terms of one sign is too small by about k / 16 times 2^-25,
// where rounded sums have errors of both signs. So at most longest_sum terms are summed on the tensor cores; these sums
// are added with rounding. The relative error is then up to about 1e-5 (longest_sum 4096), and 1e-6 for float sums.
//
// precision tf32 keeps two parts (16 bits of the mantissa, at least as many as TF32), bf16 keeps one.
#include "cuda_backend.hpp"
#include "kernel.cuh"

#include <cuda_bf16.h>

#include <algorithm>

namespace spikefloss {
namespace {

// Largest number of scratch elements for the parts of g and the spikes together.
constexpr Index most_parts = Index(1) << 27;

// Largest number of terms of a sum on the tensor cores.
constexpr Index longest_sum = 4096;

// Below this many neurons, dW by parts would take longer than one float product.
constexpr Index least_split = 512;

int parts_of(Precision precision) { return precision == Precision::fp32 ? 3 : precision == Precision::tf32 ? 2 : 1; }

// out[part][...]: the bfloat16 parts of x [rows, n], `row_stride` elements from row to row and `part_stride` from part
// to part.
__global__ void split_kernel(Index rows, Index n, const float* x, int parts, Index row_stride, Index part_stride,
                             __nv_bfloat16* out) {
    for (Index at = first_element(); at < rows * n; at += element_stride()) {
        float rest = x[at];
        const Index to = at / n * row_stride + at % n;
        for (int part = 0; part < parts; ++part) {
            const __nv_bfloat16 rounded = __float2bfloat16_rn(rest);
            out[to + part * part_stride] = rounded;
            rest -= __bfloat162float(rounded);
        }
    }
}

// out[part, row, j] = bit j of the row, for every part.
__global__ void spikes_to_bf16_kernel(Index rows, Index n, const std::uint32_t* bits, int parts, __nv_bfloat16* out) {
    const Index words = (n + 31) / 32;
    for (Index at = first_element(); at < rows * n; at += element_stride()) {
        const Index row = at / n, j = at % n;
        const auto bit = __float2bfloat16_rn(static_cast<float>((bits[row * words + j / 32] >> (j % 32)) & 1u));
        for (int part = 0; part < parts; ++part) out[part * rows * n + at] = bit;
    }
}

struct StepArrays {
    NeuronModel model;
    NeuronVectors neurons;
    Index b, N;
    const float *input, *product, *i, *u;  // of this step; product null: no step, only the spikes of u
    float *i_next, *u_next;
    std::uint32_t* bits;    // of the next step, [b, words]
    __nv_bfloat16* spikes;  // of the next step, [b, parts, N]
    int parts;
};

// The neuron step, and the new spikes as bits and as bfloat16. One warp per word.
__global__ void neuron_step_to_spikes_kernel(const StepArrays a) {
    const Index words = (a.N + 31) / 32, lane = threadIdx.x % warp_size;
    for (Index at = first_element() / warp_size; at < a.b * words; at += element_stride() / warp_size) {
        const Index s = at / words, j = at % words * 32 + lane, here = s * a.N + j;
        float u = 0.0f;
        if (j < a.N && a.product) {
            const float total = (a.input[here] + a.product[here]) + a.neurons.bias[j];
            const float current = next_current(a.neurons.alpha[j], a.i[here], total);
            const float before = a.u[here], v = leaky(a.neurons.beta[j], before, current);
            u = after_reset(a.model.reset, v, spike(before, a.model.threshold), a.model.threshold);
            a.i_next[here] = current;
            a.u_next[here] = u;
        } else if (j < a.N) {
            u = a.u[here];
        }
        const bool fires = j < a.N && u > a.model.threshold;
        const std::uint32_t word = __ballot_sync(all_lanes, fires);
        if (lane == 0) a.bits[at] = word;
        if (j < a.N)
            for (int part = 0; part < a.parts; ++part)
                a.spikes[(s * a.parts + part) * a.N + j] = __float2bfloat16_rn(fires ? 1.0f : 0.0f);
    }
}

// du += psi(u - theta) back (if back is not null), then du += the gradients of u from the readout and the tangents.
__global__ void inject_kernel(NeuronModel model, Index count, const float* u, const float* back, Readout readout,
                              const float* from_readout, const float* extra, float* du) {
    for (Index at = first_element(); at < count; at += element_stride()) {
        float x = du[at];
        const bool through = back || (from_readout && readout == Readout::spikes);
        const float psi = through ? surrogate_psi(model.surrogate, u[at] - model.threshold, model.sharpness) : 0.0f;
        if (back) x = fmaf(psi, back[at], x);
        if (from_readout) x = readout == Readout::membrane ? x + from_readout[at] : fmaf(psi, from_readout[at], x);
        if (extra) x += extra[at];
        du[at] = x;
    }
}

// Column-major C [m, n] (+)= op(A) op(B) of bfloat16 matrices with float sums, longest_sum terms at a time.
void bf16_product(cublasHandle_t blas, cublasOperation_t op_a, cublasOperation_t op_b, Index m, Index n, Index k,
                  const __nv_bfloat16* a, Index lda, const __nv_bfloat16* b, Index ldb, bool accumulate, float* c,
                  Index ldc) {
    const float one = 1.0f, zero = 0.0f;
    for (Index first = 0; first < k; first += longest_sum) {
        const __nv_bfloat16* const a_part = a + (op_a == CUBLAS_OP_N ? first * lda : first);
        const __nv_bfloat16* const b_part = b + (op_b == CUBLAS_OP_N ? first : first * ldb);
        check(cublasGemmEx(blas, op_a, op_b, static_cast<int>(m), static_cast<int>(n),
                           static_cast<int>(std::min(longest_sum, k - first)), &one, a_part, CUDA_R_16BF,
                           static_cast<int>(lda), b_part, CUDA_R_16BF, static_cast<int>(ldb),
                           accumulate || first > 0 ? &one : &zero, c, CUDA_R_32F, static_cast<int>(ldc),
                           CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx");
    }
}

Launch elements(Index count, cudaStream_t stream) {
    return {.grid = grid_for(count, 256), .block = dim3(256), .stream = stream};
}

}  // namespace

void CudaBackend::forward_stepwise(const NeuronModel& model, const NeuronVectors& neurons, Index steps, Index b,
                                   Index N, const float* w_rec, const float* input, float* i, Index i_stride, float* u,
                                   std::uint32_t* bits) {
    const int parts = parts_of(precision_);
    const Index row = b * N, words = spike_words(N), wide = parts * N;
    auto* w = scratch<__nv_bfloat16>(1, N * wide);       // [N, parts, N]
    auto* spikes = scratch<__nv_bfloat16>(2, b * wide);  // [b, parts, N]
    auto* product = scratch<float>(3, row);              // [b, N]
    const auto step_kernel = [&](Index t, const float* product_or_null) {
        const Index before = t == 0 ? 0 : t - 1;
        const StepArrays arrays{model,
                                neurons,
                                b,
                                N,
                                input + before * row,
                                product_or_null,
                                i + before * i_stride,
                                u + before * row,
                                i + t * i_stride,
                                u + t * row,
                                bits + t * b * words,
                                spikes,
                                parts};
        launch(elements(b * words * warp_size, stream_), neuron_step_to_spikes_kernel, arrays);
    };
    GraphKey key;
    key << 'f' << model.threshold << model.reset << neurons.alpha << neurons.beta << neurons.bias << steps << b << N
        << w_rec << input << i << i_stride << u << bits;
    graphs().run(stream_, key, [&] {
        launch(elements(N * N, stream_), split_kernel, N, N, w_rec, parts, wide, N, w);
        step_kernel(0, nullptr);  // only the spikes of u[0]
        for (Index t = 1; t <= steps; ++t) {
            // product [b, N] = spikes [b, parts N] w' [parts N, N]; row-major is column-major transposed.
            bf16_product(blas_, CUBLAS_OP_T, CUBLAS_OP_N, N, b, wide, w, wide, spikes, wide, false, product, N);
            step_kernel(t, product);
        }
    });
}

void CudaBackend::backward_stepwise(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                    const float* w_rec, const StepsBackward& pass) {
    const Index row = b * N;
    auto* back = scratch<float>(1, row);
    auto* squares = scratch<double>(2, b);
    const auto inject = [&](Index t) {
        launch(elements(row, stream_), inject_kernel, model, row, pass.u + t * row,
               static_cast<const float*>(t < pass.steps ? back : nullptr), pass.readout,
               pass.from_readout && t > 0 ? pass.from_readout + (t - 1) * row : nullptr,
               pass.extra && t > 0 ? pass.extra + t * row : nullptr, pass.du);
    };
    GraphKey key;
    key << 'b' << model.threshold << model.reset << model.surrogate << model.sharpness << neurons.alpha << neurons.beta
        << b << N << w_rec << pass.steps << pass.u << pass.from_readout << pass.readout << pass.extra << pass.squares
        << pass.adjoint_limit << pass.di << pass.du << pass.g;
    graphs().run(stream_, key, [&] {
        for (Index t = pass.steps; t >= 1; --t) {
            inject(t);
            double* const norms = pass.squares ? pass.squares + t * b : squares;
            if (pass.squares || pass.adjoint_limit) row_sum_squares(b, N, pass.di, pass.du, norms);
            if (pass.adjoint_limit) cap_rows(b, N, norms, pass.adjoint_limit, pass.di, pass.du);
            float* const g = pass.g + (t - 1) * row;
            neuron_step_backward(model, neurons, b, N, pass.u + (t - 1) * row, pass.di, pass.du, g);
            gemm(Transpose::no, Transpose::no, {g, b, N}, {w_rec, N, N}, Matrix<float>(back, b, N), false);
        }
        inject(0);
    });
    add_outer_products(pass.steps * b, N, pass.g, pass.bits, pass.d_w_rec);
}

void CudaBackend::add_outer_products(Index rows, Index N, const float* g, const std::uint32_t* bits,
                                     SumMatrix d_w_rec) {
    const int parts = parts_of(precision_);
    // Few neurons take one float product: the spikes as floats take no more memory than the parts would.
    if (N < least_split) {
        const Index at_once = std::max<Index>(1, std::min(rows, most_parts / (4 * N)));
        auto* spikes = scratch<float>(2, at_once * N);
        for (Index first = 0; first < rows; first += at_once) {
            const Index now = std::min(at_once, rows - first);
            unpack_spikes(now, N, bits + first * spike_words(N), spikes, N);
            gemm(Transpose::yes, Transpose::no, {g + first * N, now, N}, {spikes, now, N}, d_w_rec, true);
        }
        return;
    }
    // The parts of g one below the other, and the spikes as often, so that one product sums over rows and parts.
    const Index most_rows = std::max<Index>(1, std::min(longest_sum, most_parts / (2 * N)) / parts / 8 * 8);
    const Index pieces = (rows + most_rows - 1) / most_rows,
                at_once = std::min(rows, ((rows + pieces - 1) / pieces + 7) / 8 * 8);
    auto* g_parts = scratch<__nv_bfloat16>(1, parts * at_once * N);  // [parts, now, N]
    auto* spikes = scratch<__nv_bfloat16>(2, parts * at_once * N);   // [parts, now, N]
    auto* dw = static_cast<float*>(d_w_rec.data);
    for (Index first = 0; first < rows; first += at_once) {
        const Index now = std::min(at_once, rows - first);
        launch(elements(now * N, stream_), split_kernel, now, N, g + first * N, parts, N, now * N, g_parts);
        launch(elements(now * N, stream_), spikes_to_bf16_kernel, now, N, bits + first * spike_words(N), parts, spikes);
        // dW [post, pre] += g' s: column-major dW' [pre, post] += s [pre, parts now] g' [parts now, post].
        bf16_product(blas_, CUBLAS_OP_N, CUBLAS_OP_T, N, N, parts * now, spikes, N, g_parts, N, true, dw,
                     d_w_rec.stride);
    }
}

}  // namespace spikefloss
