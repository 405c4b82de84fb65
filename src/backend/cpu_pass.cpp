// Whole passes over time on the CPU. A thread takes its own sequences through all steps of a chunk, without a barrier.
//   forwards   recurrent sums by spikes: every spike of neuron j adds row j of W' (stored as [pre, post])
//   backwards  W' g as a product of the thread's sequences with W; then dW' += s g' by spikes, where each thread takes
//              its own post-synaptic neurons
// W is stored in panels of columns, so that a panel is loaded once for all sequences of a thread. No sum depends on the
// number of threads. The step loop of src/network is the reference. Tests check that both give the same result.
#include "backend/cpu_backend.hpp"
#include "backend/cpu_state_pass.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// The largest network of a whole pass, which holds W and its panels at the same time.
constexpr Index largest_network = 8192;

}  // namespace

PassRule CpuBackend::takes_steps(Index N) const {
    static const std::string what = fmt::format("up to {} neurons, with float32 sums", largest_network);
    return {sums_ == Sums::float32 && N <= largest_network, what};
}

bool CpuBackend::forward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index steps, Index b, Index N,
                               const float* w_rec, const float* input, float* i, Index i_stride, float* u,
                               std::uint32_t* bits) {
    if (!takes_steps(N).takes) return false;
    const Index width = padded(N), words = spike_words(N), panels = panels_of(width);
    float* rows = reinterpret_cast<float*>(scratch(0, panels_size(N, N) / 2 + 1));
    pack_transposed(threads_, {w_rec, N, N}, rows);
    float* all_sums = reinterpret_cast<float*>(scratch(1, threads_ * largest_group * width / 2));
    SparseRows shape{largest_group, N, spike_block, largest_group * spike_block, nullptr, nullptr, nullptr};
    const Index entries = shape.blocks() * shape.capacity, ends = shape.blocks() * (largest_group + 1);
    auto* all_entries = reinterpret_cast<std::uint16_t*>(scratch(2, threads_ * (entries + 2 * ends) / 4 + 1));
    auto* all_ends = reinterpret_cast<std::uint32_t*>(all_entries + threads_ * entries);
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
            for (Index r = 0; r < group; ++r)
                pack_row(u + (first + r) * N, N, model.threshold, bits + (first + r) * words);
            for (Index t = 0; t < steps; ++t) {
                for (Index c = 0; c < spikes.blocks(); ++c)
                    list_spikes(spikes, c, {.bits = bits + (t * b + first) * words, .stride = words});
                for (Index p = 0; p < panels; ++p) add_spikes(spikes, Columns(width, p, panels), rows, sums, width);
                for (Index r = 0; r < group; ++r) {
                    const Index s = first + r, here = (t * b + s) * N, next = here + b * N;
                    take_step(model, neurons, N, input + here, sums + r * width, i + t * i_stride + s * N, u + here,
                              i + (t + 1) * i_stride + s * N, u + next);
                    pack_row(u + next, N, model.threshold, bits + ((t + 1) * b + s) * words);
                }
            }
        }
    }
    return true;
}

bool CpuBackend::backward_steps(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                const float* w_rec, const StepsBackward& pass) {
    if (!takes_steps(N).takes) return false;
    const Index width = padded(N);
    float* panels = reinterpret_cast<float*>(scratch(0, N * width / 2 + 1));
    pack_panels(w_rec, N, false, panels);
    float* backs = reinterpret_cast<float*>(scratch(1, threads_ * largest_group * width / 2));
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
                    const Index before = ((t - 1) * b + first) * N;
                    for (Index r = 0; r < group; ++r)
                        take_step_back<S>(*this, model, neurons, b, N, pass, t, first + r,
                                          pass.from_readout ? pass.from_readout + before + r * N : nullptr,
                                          pass.g + before + r * N);
                    multiply(group, width, N, {pass.g + before, N, 1}, {panels, tile, N * tile}, back, width, false);
                    for (Index r = 0; r < group; ++r)
                        add_through_psi<S>(model, N, pass.u + before + r * N, back + r * width,
                                           pass.du + (first + r) * N);
                }
            }
        }
    });
    const Matrix<const float> g(pass.g, pass.steps * b, N);
    const Activity spikes{.bits = pass.bits, .stride = spike_words(N)};
    const Matrix<float> dw(static_cast<float*>(pass.d_w_rec.data), N, N, pass.d_w_rec.stride);
    if (!add_outer_listed(g, spikes, dw)) add_outer(g, spikes, dw);  // lists first, also where N is small
    return true;
}

}  // namespace spikefloss
