// Whole passes over time on the CPU, one thread taking its own sequences through all steps of a chunk with their state
// in cache and no barrier in between:
//   forwards   recurrent sums by spikes: every spike of neuron j adds row j of W' (kept [pre, post])
//   backwards  W' g as a product of a few sequences with W, and dW' += s g' by spikes
// The step loop of src/network is the reference; tests hold both to the same answer.
#include "backend/cpu_backend.hpp"
#include "backend/lane.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace spikefloss {
namespace {

// A row of padded arrays is a whole number of tiles.
constexpr Index tile = 2 * lane_size;

// W and W' of at most this size stay in a core's second-level cache; beyond it the blocked products of the loop are better.
constexpr Index largest_matrix = 512 * 512;

// Above this share of neurons spiking, sum of g s' is cheaper as a dense product (measured at N = 80 and 256).
constexpr double dense_rate = 0.15;

// Sequences that go through the backward steps together at most, so that a tile of W is loaded once for all.
constexpr Index largest_group = 6;

// Parts with a sum of dW' of their own. Parts and groups do not depend on the number of threads, so neither do results.
constexpr Index most_parts = 8;

// Groups of nearly equal size, four or a multiple of it where there are enough sequences, so that threads share them well.
Index group_count(Index b) {
    const Index least = (b + largest_group - 1) / largest_group;
    return std::min(b, (least + 3) / 4 * 4);
}

Index padded(Index n) { return (n + tile - 1) / tile * tile; }

// Indices of the set bits of one row of spikes.
Index list_spikes(const std::uint32_t* bits, Index words, std::int32_t* spikes) {
    Index count = 0;
    for (Index w = 0; w < words; ++w)
        for (std::uint32_t word = bits[w]; word; word &= word - 1)
            spikes[count++] = static_cast<std::int32_t>(w * 32 + std::countr_zero(word));
    return count;
}

void pack_row(const float* u, Index n, float theta, std::uint32_t* bits) {
    for (Index w = 0; w < spike_words(n); ++w) {
        const Index first = w * 32, count = std::min<Index>(32, n - first);
        std::uint32_t word = 0;
        for (Index j = 0; j < count; ++j) word |= static_cast<std::uint32_t>(u[first + j] > theta) << j;
        bits[w] = word;
    }
}

// sum[0 .. width) = sum over spikes j of rows[j], rows `width` apart; width a multiple of 16. Terms in the order of j.
template <int lanes>
void sum_tile(const float* rows, Index width, const std::int32_t* spikes, Index count, float* sum) {
    Lane a[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) a[l] = zero_lane();
    for (Index s = 0; s < count; ++s) {
        const float* row = rows + spikes[s] * width;
#pragma GCC unroll 8
        for (int l = 0; l < lanes; ++l) a[l] = add(a[l], load(row + l * lane_size));
    }
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) store(sum + l * lane_size, a[l]);
}

void sum_rows(const float* rows, Index width, const std::int32_t* spikes, Index count, float* sum) {
    Index at = 0;
    for (; at + 8 * lane_size <= width; at += 8 * lane_size) sum_tile<8>(rows + at, width, spikes, count, sum + at);
    for (; at < width; at += tile) sum_tile<2>(rows + at, width, spikes, count, sum + at);
}

// out[r, 0 .. width) = sum over j < n of g[r, j] w[j, 0 .. width), for R rows; out and w rows `width` apart, g rows
// `g_stride` apart.
template <int R>
void multiply_rows(const float* g, Index g_stride, Index n, const float* w, Index width, float* out) {
    for (Index at = 0; at < width; at += tile) {
        Lane low[R], high[R];
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) low[r] = high[r] = zero_lane();
        for (Index j = 0; j < n; ++j) {
            const Lane w0 = load(w + j * width + at), w1 = load(w + j * width + at + lane_size);
#pragma GCC unroll 6
            for (int r = 0; r < R; ++r) {
                const Lane x = repeat(g[r * g_stride + j]);
                low[r] = multiply_add(x, w0, low[r]);
                high[r] = multiply_add(x, w1, high[r]);
            }
        }
#pragma GCC unroll 6
        for (int r = 0; r < R; ++r) {
            store(out + r * width + at, low[r]);
            store(out + r * width + at + lane_size, high[r]);
        }
    }
}

void multiply_rows(Index rows, const float* g, Index g_stride, Index n, const float* w, Index width, float* out) {
    switch (rows) {
        case 1: return multiply_rows<1>(g, g_stride, n, w, width, out);
        case 2: return multiply_rows<2>(g, g_stride, n, w, width, out);
        case 3: return multiply_rows<3>(g, g_stride, n, w, width, out);
        case 4: return multiply_rows<4>(g, g_stride, n, w, width, out);
        case 5: return multiply_rows<5>(g, g_stride, n, w, width, out);
        default: return multiply_rows<6>(g, g_stride, n, w, width, out);
    }
}

// to[row, col] = from, padded with zeros to `width` columns; transposed: to[col, row].
void copy_padded(const float* from, Index n, Index width, bool transposed, float* to) {
    for (Index r = 0; r < n; ++r) {
        for (Index c = 0; c < n; ++c) to[r * width + c] = transposed ? from[c * n + r] : from[r * n + c];
        std::fill(to + r * width + n, to + (r + 1) * width, 0.0f);
    }
}

}  // namespace

bool CpuBackend::takes_whole_passes(Index N) const { return sums_ == Sums::float32 && N * N <= largest_matrix; }

bool CpuBackend::forward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index steps, Index b, Index N,
                               const float* w_rec, const float* input, float* i, Index i_stride, float* u,
                               std::uint32_t* bits) {
    if (!takes_whole_passes(N)) return false;
    const Index width = padded(N), words = spike_words(N);
    float* rows = reinterpret_cast<float*>(scratch(0, N * width));  // W' [pre, post], padded
    copy_padded(w_rec, N, width, true, rows);
    float* sums = reinterpret_cast<float*>(scratch(1, threads_ * width));
    auto* lists = reinterpret_cast<std::int32_t*>(scratch(2, threads_ * (N + 1)));
    const float theta = model.threshold;
    const Reset reset = model.reset;
    const Index parts = std::min<Index>(threads_, b);
#pragma omp parallel for num_threads(static_cast<int>(std::max<Index>(1, parts))) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        float* sum = sums + part * width;
        std::int32_t* spikes = lists + part * N;
        for (Index s = b * part / parts; s < b * (part + 1) / parts; ++s) {
            pack_row(u + s * N, N, theta, bits + s * words);
            for (Index t = 0; t < steps; ++t) {
                const Index here = (t * b + s) * N, next = here + b * N;
                const Index count = list_spikes(bits + (t * b + s) * words, words, spikes);
                sum_rows(rows, width, spikes, count, sum);
                const float* i_now = i + t * i_stride + s * N;
                float* i_next = i + (t + 1) * i_stride + s * N;
#pragma omp simd
                for (Index j = 0; j < N; ++j) {
                    const float total = (input[here + j] + sum[j]) + neurons.bias[j];
                    const float current = next_current(neurons.alpha[j], i_now[j], total);
                    const float v = leaky(neurons.beta[j], u[here + j], current);
                    i_next[j] = current;
                    u[next + j] = after_reset(reset, v, spike(u[here + j], theta), theta);
                }
                pack_row(u + next, N, theta, bits + ((t + 1) * b + s) * words);
            }
        }
    }
    return true;
}

bool CpuBackend::backward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                const float* w_rec, const StepsBackward& pass) {
    if (!takes_whole_passes(N)) return false;
    const Index width = padded(N), words = spike_words(N), groups = group_count(b);
    const Index parts = std::min(groups, most_parts);
    float* w = reinterpret_cast<float*>(scratch(0, N * width));
    copy_padded(w_rec, N, width, false, w);
    double all_spikes = 0.0;
    count_spikes(1, pass.steps * b * words, pass.bits, 0, &all_spikes);
    const bool dense = all_spikes > dense_rate * static_cast<double>(pass.steps * b * N);
    // Per part: dW' [pre, post] if by spikes, and [group, width] for W' g and its lists of spikes.
    float* gradients = reinterpret_cast<float*>(scratch(1, dense ? pass.steps * b * N : parts * N * width));
    float* backs = reinterpret_cast<float*>(scratch(2, parts * (largest_group * width + N + 1)));
    const float theta = model.threshold, sharpness = model.sharpness;
    const Reset reset = model.reset;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(threads_) schedule(static) if (parts > 1)
        for (Index part = 0; part < parts; ++part) {
            float* dw = gradients + part * N * width;
            float* back = backs + part * (largest_group * width + N + 1);
            auto* spikes = reinterpret_cast<std::int32_t*>(back + largest_group * width);
            if (!dense) std::fill_n(dw, N * width, 0.0f);
            for (Index group = groups * part / parts; group < groups * (part + 1) / parts; ++group) {
                const Index first = b * group / groups, rows = b * (group + 1) / groups - first;
                for (Index t = pass.steps; t >= 1; --t) {
                    for (Index s = first; s < first + rows; ++s) {
                        const Index now = (t * b + s) * N, before = now - b * N;
                        float *di = pass.di + s * N, *du = pass.du + s * N, *g = pass.g + before;
                        if (pass.from_readout && pass.readout == Readout::membrane)
#pragma omp simd
                            for (Index j = 0; j < N; ++j) du[j] += pass.from_readout[before + j];
                        if (pass.from_readout && pass.readout == Readout::spikes)
#pragma omp simd
                            for (Index j = 0; j < N; ++j)
                                du[j] = fmaf(S::psi(pass.u[now + j] - theta, sharpness), pass.from_readout[before + j], du[j]);
                        if (pass.extra)
#pragma omp simd
                            for (Index j = 0; j < N; ++j) du[j] += pass.extra[now + j];
                        if (pass.squares || pass.adjoint_limit > 0.0f) {
                            double square = 0.0;
                            row_sum_squares(1, N, di, du, &square);
                            if (pass.squares) pass.squares[t * b + s] = square;
                            if (pass.adjoint_limit > 0.0f) cap_rows(1, N, &square, pass.adjoint_limit, di, du);
                        }
#pragma omp simd
                        for (Index j = 0; j < N; ++j) {
                            const float dv = du[j] * reset_factor(reset, spike(pass.u[before + j], theta));
                            const float current = fmaf(1.0f - neurons.beta[j], dv, di[j]);
                            g[j] = current;
                            di[j] = neurons.alpha[j] * current;
                            du[j] = neurons.beta[j] * dv;
                        }
                        if (dense) continue;
                        const Index count = list_spikes(pass.bits + ((t - 1) * b + s) * words, words, spikes);
                        for (Index k = 0; k < count; ++k) {
                            float* row = dw + spikes[k] * width;
#pragma omp simd
                            for (Index j = 0; j < N; ++j) row[j] += g[j];
                        }
                    }
                    const Index row0 = ((t - 1) * b + first) * N;
                    multiply_rows(rows, pass.g + row0, N, N, w, width, back);
                    for (Index r = 0; r < rows; ++r) {
                        float* du = pass.du + (first + r) * N;
                        const float* u_before = pass.u + row0 + r * N;
#pragma omp simd
                        for (Index j = 0; j < N; ++j)
                            du[j] = fmaf(S::psi(u_before[j] - theta, sharpness), back[r * width + j], du[j]);
                    }
                }
            }
        }
    });
    if (dense) {
        unpack_spikes(pass.steps * b, N, pass.bits, gradients, N);
        gemm(Transpose::yes, Transpose::no, {pass.g, pass.steps * b, N}, {gradients, pass.steps * b, N}, pass.d_w_rec, true);
        return true;
    }
    auto* total = static_cast<float*>(pass.d_w_rec.data);
    for (Index post = 0; post < N; ++post)
        for (Index pre = 0; pre < N; ++pre)
            for (Index part = 0; part < parts; ++part)
                total[post * pass.d_w_rec.stride + pre] += gradients[(part * N + pre) * width + post];
    return true;
}

}  // namespace spikefloss
