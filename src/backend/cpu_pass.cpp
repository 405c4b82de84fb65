// Whole passes over time on the CPU: a thread takes its own sequences through all steps of a chunk, no barrier between.
//   forwards   recurrent sums by spikes: every spike of neuron j adds row j of W' (kept [pre, post])
//   backwards  W' g as a product of the thread's sequences with W; then dW' += s g' by spikes, each thread taking its
//   own
//              post-synaptic neurons
// W is kept in panels of columns, so that what the sequences of a thread share of it is loaded once for all of them. No
// sum depends on the number of threads. The step loop of src/network is the reference; tests hold both to the same
// answer.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_sparse.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Neurons up to which whole passes are taken: W and its panels are held at once.
constexpr Index largest_network = 8192;

// Sequences that a thread takes through the steps together at most, so that their states stay in cache.
constexpr Index largest_group = 32;

void pack_row(const float* u, Index n, float theta, std::uint32_t* bits) {
    for (Index w = 0; w < spike_words(n); ++w) {
        const Index first = w * 32, count = std::min<Index>(32, n - first);
        std::uint32_t word = 0;
        for (Index j = 0; j < count; ++j) word |= static_cast<std::uint32_t>(u[first + j] > theta) << j;
        bits[w] = word;
    }
}

// sums [rows, width] of one panel: for every row the sum over its spikes j of the panel's w[j].
void add_spikes(const SparseRows& spikes, Columns columns, const float* panels, float* sums, Index width) {
    const float* panel = panels + columns.begin * spikes.columns;
    with_lanes(columns.size / lane_size, [&](auto lanes) {
        for (Index c = 0; c < spikes.blocks(); ++c)
            for (Index r = 0; r < spikes.rows; ++r)
                gather<lanes, false>(spikes, c, r, panel + c * spikes.block * columns.size, c > 0,
                                     sums + r * width + columns.begin);
    });
}

}  // namespace

bool CpuBackend::takes_whole_passes(Index N) const { return sums_ == Sums::float32 && N <= largest_network; }

bool CpuBackend::forward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index steps, Index b, Index N,
                               const float* w_rec, const float* input, float* i, Index i_stride, float* u,
                               std::uint32_t* bits) {
    if (!takes_whole_passes(N)) return false;
    const Index width = padded(N), words = spike_words(N), panels = panels_of(width);
    float* rows = reinterpret_cast<float*>(scratch(0, panels_size(N, N) / 2 + 1));
    pack_transposed(threads_, {w_rec, N, N}, rows);
    float* all_sums = reinterpret_cast<float*>(scratch(1, threads_ * largest_group * width / 2));
    SparseRows shape{largest_group, N, spike_block, largest_group * spike_block, nullptr, nullptr, nullptr};
    const Index entries = shape.blocks() * shape.capacity, ends = shape.blocks() * (largest_group + 1);
    auto* all_entries = reinterpret_cast<std::uint16_t*>(scratch(2, threads_ * (entries + 2 * ends) / 4 + 1));
    auto* all_ends = reinterpret_cast<std::uint32_t*>(all_entries + threads_ * entries);
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
        SparseRows spikes = shape;
        spikes.index = all_entries + part * entries;
        spikes.ends = all_ends + part * ends;
        const Index end = b * (part + 1) / parts;
        for (Index first = b * part / parts; first < end; first += largest_group) {
            const Index group = std::min(largest_group, end - first);
            spikes.rows = group;
            for (Index r = 0; r < group; ++r) pack_row(u + (first + r) * N, N, theta, bits + (first + r) * words);
            for (Index t = 0; t < steps; ++t) {
                for (Index c = 0; c < spikes.blocks(); ++c)
                    list_spikes(spikes, c, bits + (t * b + first) * words, words);
                for (Index p = 0; p < panels; ++p) add_spikes(spikes, Columns(width, p, panels), rows, sums, width);
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

}  // namespace spikefloss
