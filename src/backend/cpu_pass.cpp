// Whole passes over time on the CPU: a thread takes its own sequences through all steps of a chunk, no barrier between.
//   forwards   recurrent sums by spikes: every spike of neuron j adds row j of W' (kept [pre, post])
//   backwards  W' g as a product of the thread's sequences with W; then dW' += s g' by spikes, each thread taking its
//   own
//              post-synaptic neurons
// W is kept in panels of columns, so that what the sequences of a thread share of it is loaded once for all of them. No
// sum depends on the number of threads. The step loop of src/network is the reference; tests hold both to the same
// answer.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_product.hpp"

#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <type_traits>

namespace spikefloss {
namespace {

// Above this share of neurons spiking, sum of g s' is cheaper as a dense product.
constexpr double dense_rate = 0.15;

// Neurons up to which whole passes are taken: W and its panels are held at once.
constexpr Index largest_network = 8192;

// Columns of W' that are summed together: eight lanes.
constexpr Index panel = 8 * lane_size;

// Sequences that a thread takes through the steps together at most, so that their states stay in cache.
constexpr Index largest_group = 16;

// The columns of one of `parts` nearly equal parts of width, in whole tiles.
struct Columns {
    Index begin, size;
    Columns(Index width, Index part, Index parts)
        : begin(width / tile * part / parts * tile), size(width / tile * (part + 1) / parts * tile - begin) {}
};
Index panels_of(Index width) { return (width + panel - 1) / panel; }

// Indices of the set bits of one row of spikes.
Index list_spikes(const std::uint32_t* bits, Index words, std::uint16_t* spikes) {
    Index count = 0;
    for (Index w = 0; w < words; ++w)
        for (std::uint32_t word = bits[w]; word; word &= word - 1)
            spikes[count++] = static_cast<std::uint16_t>(w * 32 + std::countr_zero(word));
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

// sum = sum over spikes j of rows[j], in the order of j; rows of 8 `lanes` floats.
template <int lanes>
void sum_rows(const float* rows, const std::uint16_t* spikes, Index count, float* sum) {
    Lane a[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) a[l] = zero_lane();
    for (Index s = 0; s < count; ++s) {
        const float* row = rows + spikes[s] * lanes * lane_size;
#pragma GCC unroll 8
        for (int l = 0; l < lanes; ++l) a[l] = add(a[l], load(row + l * lane_size));
    }
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) store(sum + l * lane_size, a[l]);
}

// rows[j] += g for every spike j.
template <int lanes>
void add_to_rows(const float* g, const std::uint16_t* spikes, Index count, float* rows) {
    Lane a[lanes];
#pragma GCC unroll 8
    for (int l = 0; l < lanes; ++l) a[l] = load(g + l * lane_size);
    for (Index s = 0; s < count; ++s) {
        float* row = rows + spikes[s] * lanes * lane_size;
#pragma GCC unroll 8
        for (int l = 0; l < lanes; ++l) store(row + l * lane_size, add(load(row + l * lane_size), a[l]));
    }
}

// Calls work(integral constant) for a number of lanes, 2, 4, 6 or 8.
template <class Work>
void with_lanes(Index lanes, Work&& work) {
    switch (lanes) {
        case 2: return work(std::integral_constant<int, 2>{});
        case 4: return work(std::integral_constant<int, 4>{});
        case 6: return work(std::integral_constant<int, 6>{});
        default: return work(std::integral_constant<int, 8>{});
    }
}

// W' [pre, post] in panels of post-synaptic neurons, each [n, its size], padded with zeros.
void pack_transposed(int threads, const float* w, Index n, float* panels) {
    const Index width = padded(n), parts = panels_of(width);
#pragma omp parallel for num_threads(threads) if (threads > 1 && n >= 256)
    for (Index part = 0; part < parts; ++part) {
        const Columns columns(width, part, parts);
        float* to = panels + columns.begin * n;
        for (Index first = 0; first < n; first += tile)  // by tiles: both sides stay in cache
            for (Index c = 0; c < columns.size; ++c)
                for (Index pre = first; pre < std::min(n, first + tile); ++pre)
                    to[pre * columns.size + c] = columns.begin + c < n ? w[(columns.begin + c) * n + pre] : 0.0f;
    }
}

}  // namespace

bool CpuBackend::takes_whole_passes(Index N) const { return sums_ == Sums::float32 && N <= largest_network; }

bool CpuBackend::forward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index steps, Index b, Index N,
                               const float* w_rec, const float* input, float* i, Index i_stride, float* u,
                               std::uint32_t* bits) {
    if (!takes_whole_passes(N)) return false;
    const Index width = padded(N), words = spike_words(N), panels = panels_of(width);
    float* rows = reinterpret_cast<float*>(scratch(0, N * width / 2 + 1));
    pack_transposed(threads_, w_rec, N, rows);
    float* all_sums = reinterpret_cast<float*>(scratch(1, threads_ * largest_group * width / 2));
    auto* lists = reinterpret_cast<std::uint16_t*>(scratch(2, threads_ * largest_group * (N + 4) / 4 + 1));
    const float theta = model.threshold;
    const Reset reset = model.reset;
    const auto take_step = [&](Index t, Index s, const float* sum) {
        const Index here = (t * b + s) * N, next = here + b * N;
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
    };
    const Index parts = std::min<Index>(threads_, b);
#pragma omp parallel for num_threads(static_cast <int>(std::max <Index>(1, parts))) schedule(static)
    for (Index part = 0; part < parts; ++part) {
        float* sums = all_sums + part * largest_group * width;
        std::uint16_t* spikes = lists + part * largest_group * N;
        Index counts[largest_group];
        const Index end = b * (part + 1) / parts;
        for (Index first = b * part / parts; first < end; first += largest_group) {
            const Index group = std::min(largest_group, end - first);
            for (Index r = 0; r < group; ++r) pack_row(u + (first + r) * N, N, theta, bits + (first + r) * words);
            for (Index t = 0; t < steps; ++t) {
                for (Index r = 0; r < group; ++r)
                    counts[r] = list_spikes(bits + (t * b + first + r) * words, words, spikes + r * N);
                for (Index p = 0; p < panels; ++p) {
                    const Columns columns(width, p, panels);
                    with_lanes(columns.size / lane_size, [&](auto lanes) {
                        for (Index r = 0; r < group; ++r)
                            sum_rows<lanes>(rows + columns.begin * N, spikes + r * N, counts[r],
                                            sums + r * width + columns.begin);
                    });
                }
                for (Index r = 0; r < group; ++r) take_step(t, first + r, sums + r * width);
            }
        }
    }
    return true;
}

namespace {

// Adjoints of one sequence at step t: what comes from outside is added, then the step is taken back but for the
// recurrence.
template <class S>
void take_step_back(CpuBackend& backend, const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                    const StepsBackward& pass, Index t, Index s) {
    const float theta = model.threshold, sharpness = model.sharpness;
    const Reset reset = model.reset;
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
        backend.row_sum_squares(1, N, di, du, &square);
        if (pass.squares) pass.squares[t * b + s] = square;
        if (pass.adjoint_limit > 0.0f) backend.cap_rows(1, N, &square, pass.adjoint_limit, di, du);
    }
#pragma omp simd
    for (Index j = 0; j < N; ++j) {
        const float dv = du[j] * reset_factor(reset, spike(pass.u[before + j], theta));
        const float current = fmaf(1.0f - neurons.beta[j], dv, di[j]);
        g[j] = current;
        di[j] = neurons.alpha[j] * current;
        du[j] = neurons.beta[j] * dv;
    }
}

}  // namespace

bool CpuBackend::backward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                const float* w_rec, const StepsBackward& pass) {
    if (!takes_whole_passes(N)) return false;
    const Index width = padded(N);
    float* panels = reinterpret_cast<float*>(scratch(0, N * width / 2 + 1));
    pack_panels(w_rec, N, false, panels);
    float* backs = reinterpret_cast<float*>(scratch(1, threads_ * largest_group * width / 2));
    const float theta = model.threshold, sharpness = model.sharpness;
    const Index parts = std::min<Index>(threads_, b);
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(static_cast <int>(std::max <Index>(1, parts))) schedule(static)
        for (Index part = 0; part < parts; ++part) {
            float* back = backs + part * largest_group * width;
            const Index end = b * (part + 1) / parts;
            for (Index first = b * part / parts; first < end; first += largest_group) {
                const Index group = std::min(largest_group, end - first);
                for (Index t = pass.steps; t >= 1; --t) {
                    for (Index s = first; s < first + group; ++s)
                        take_step_back<S>(*this, model, neurons, b, N, pass, t, s);
                    const Index before = ((t - 1) * b + first) * N;
                    multiply(group, width, N, {pass.g + before, N, 1}, {panels, tile, N * tile}, back, width, false);
                    for (Index r = 0; r < group; ++r) {
                        float* du = pass.du + (first + r) * N;
                        const float* u_before = pass.u + before + r * N;
#pragma omp simd
                        for (Index j = 0; j < N; ++j)
                            du[j] = fmaf(S::psi(u_before[j] - theta, sharpness), back[r * width + j], du[j]);
                    }
                }
            }
        }
    });
    add_outer_spikes(pass.steps * b, N, pass.g, pass.bits, pass.d_w_rec);
    return true;
}

// dw [N, N] += sum over rows of g s'; g [rows, N], bits of s [rows, words].
void CpuBackend::add_outer_spikes(Index rows, Index N, const float* g, const std::uint32_t* bits, SumMatrix dw) {
    const Index width = padded(N), words = spike_words(N), panels = panels_of(width);
    double spikes = 0.0;
    count_spikes(1, rows * words, bits, 0, &spikes);
    if (spikes > dense_rate * static_cast<double>(rows * N)) {
        float* s = reinterpret_cast<float*>(scratch(1, rows * N / 2 + 1));
        unpack_spikes(rows, N, bits, s, N);
        return gemm(Transpose::yes, Transpose::no, {g, rows, N}, {s, rows, N}, dw, true);
    }
    auto* lists = reinterpret_cast<std::uint16_t*>(scratch(1, rows * N / 4 + 1));
    auto* counts = reinterpret_cast<Index*>(scratch(2, rows + threads_ * (N * panel / 2)));
    float* sums = reinterpret_cast<float*>(counts + rows);
    auto* total = static_cast<float*>(dw.data);
#pragma omp parallel num_threads(threads_) if (threads_ > 1 && panels > 1)
    {
        float* sum = sums + omp_get_thread_num() * N * panel;
#pragma omp for
        for (Index row = 0; row < rows; ++row) counts[row] = list_spikes(bits + row * words, words, lists + row * N);
#pragma omp for schedule(dynamic)
        for (Index p = 0; p < panels; ++p) {
            const Columns columns(width, p, panels);
            std::fill_n(sum, N * columns.size, 0.0f);
            const Index whole = std::min(columns.size, N - columns.begin);  // the last row of g ends there
            with_lanes(columns.size / lane_size, [&](auto lanes) {
                for (Index row = 0; row < rows; ++row) {
                    float last[lanes * lane_size] = {};
                    const float* g_row = g + row * N + columns.begin;
                    if (whole < columns.size) g_row = std::copy_n(g_row, whole, last) - whole;
                    add_to_rows<lanes>(g_row, lists + row * N, counts[row], sum);
                }
            });
            for (Index c = 0; c < whole; ++c)
                for (Index pre = 0; pre < N; ++pre)
                    total[(columns.begin + c) * dw.stride + pre] += sum[pre * columns.size + c];
        }
    }
}

}  // namespace spikefloss
