// The forward pass of a small network on the CPU, for the sequences of a thread:
//   input = W_in x;  a step as in cpu_row_pass.cpp;  y = W_out z
#include "backend/cpu_network_pass.hpp"
#include "backend/arena.hpp"
#include "backend/buffer.hpp"

#include <algorithm>
#include <bit>
#include <vector>

namespace spikefloss {
namespace {

// Lists the spikes of one sequence in `index`, which has room for largest_fused_network and spare_places. Returns their
// number.
Index list_row(const std::uint32_t* bits, Index words, std::uint16_t* index) {
    Index count = 0;
    for (Index w = 0; w < words; w += 2) {
        std::uint64_t word = bits[w] | (w + 1 < words ? std::uint64_t(bits[w + 1]) << 32 : 0);
        count += list_bits(word, 32 * w, index + count);
    }
    return count;
}

// to [cols, width] = w' of w [rows, cols], padded with zeros.
void pack_transposed_rows(const float* w, Index rows, Index cols, Index width, float* to) {
    for (Index c = 0; c < cols; ++c)
        for (Index r = 0; r < width; ++r) to[c * width + r] = r < rows ? w[r * cols + c] : 0.0f;
}

// sum over j of w[j] u[j], as sum_in_lanes adds.
float weighted_sum(const float* w, const float* u, Index n) {
    Lane lanes = zero_lane();
    Index j = 0;
    for (; j + lane_size <= n; j += lane_size) lanes = multiply_add(load(w + j), load(u + j), lanes);
    float sums[lane_size], total = 0.0f;
    store(sums, lanes);
    for (; j < n; ++j) sums[0] = multiply_add(w[j], u[j], sums[0]);
    for (const float sum : sums) total += sum;
    return total;
}

// y = W_out z of one sequence and step.
void read_out(const StatePlan& plan, const StateForwardCall& call, const float* u, float* y) {
    const float theta = call.model.threshold;
    const Index N = plan.N;
    for (Index o = 0; o < plan.O; ++o) {
        const float* w = call.w_out + o * N;
        y[o] = call.readout == Readout::membrane ? weighted_sum(w, u, N)
                                                 : sum_in_lanes<lane_size, float>(N, [&](float sum, Index j) {
                                                       return fmaf(w[j], spike(u[j], theta), sum);
                                                   });
    }
}

// Scratch of one thread. Spikes and readouts of a slab are here first: in the call's arrays, a line of cache has those
// of several threads.
struct ForwardScratch {
    float *input, *sum;   // [width] of a neuron
    float* y;             // [slab, largest_group, O]
    std::uint32_t* bits;  // [slab + 1, largest_group, words], from before the first step on

    ForwardScratch(Arena& arena, const BatchShape& shape)
        : input(arena.take<float>(shape.width)),
          sum(arena.take<float>(shape.width)),
          y(arena.take<float>(slab * largest_group * shape.O)),
          bits(arena.take<std::uint32_t>((slab + 1) * largest_group * spike_words(shape.N))) {}
    static Index bytes(const BatchShape& shape) {
        return 4 * (2 * shape.width + largest_group * (slab * shape.O + (slab + 1) * spike_words(shape.N))) + 5 * 64;
    }
};

class NetworkForward final : public StateForward {
public:
    NetworkForward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          shape_(plan),
          rows_(memory, backend.threads() * plan.N * shape_.width),
          w_in_(memory, (plan.M + 1) * shape_.width),
          scratch_(memory, backend.threads() * ForwardScratch::bytes(shape_) + 64) {}

    void run(const StateForwardCall& call) override {
        if (backend_.counting()) return;
        Arena arena(scratch_.data());
        pack_transposed_rows(call.w_in, shape_.N, shape_.M, shape_.width, w_in_.data());
        const Index parts = shape_.parts, threads = shape_.threads(backend_.threads(), call.steps);
        std::vector<ForwardScratch> own;
        for (Index thread = 0; thread < threads; ++thread) own.emplace_back(arena, shape_);
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
        for (Index thread = 0; thread < threads; ++thread) {
            float* const rows = rows_.data() + thread * shape_.N * shape_.width;
            pack_transposed(1, {call.w_rec, shape_.N, shape_.N}, static_cast<Index>(shape_.panels.size()), tile, rows);
            for_every_group(shape_, parts * thread / threads, parts * (thread + 1) / threads,
                            [&](Index, Index, Index first, Index end) {
                                run_group(call, rows, own[static_cast<std::size_t>(thread)], first, end);
                            });
        }
    }

private:
    // Sequences [first, end) through all steps.
    void run_group(const StateForwardCall& call, const float* rows, const ForwardScratch& own, Index first,
                   Index end) const {
        const Index b = shape_.b, N = shape_.N, M = shape_.M, O = shape_.O, width = shape_.width,
                    words = spike_words(N), group = end - first;
        const float theta = call.model.threshold;
        float* const y = call.again ? nullptr : static_cast<float*>(call.y.data);
        std::uint16_t index[largest_fused_network + spare_places];
        for (Index r = 0; r < group; ++r) pack_row(call.u + (first + r) * N, N, theta, own.bits + r * words);
        std::copy_n(own.bits, group * words, call.bits + first * words);
        for (Index top = 0; top < call.steps; top += slab) {
            const Index count = std::min(slab, call.steps - top);
            for (Index row = 0; row < count * group; ++row) {  // of own.bits and own.y
                const Index t = top + row / group, s = first + row % group, here = t * b + s;
                const Index spikes = list_row(own.bits + row * words, words, index);
                for (const Columns& columns : shape_.panels)
                    with_tiles<most_tiles>(columns.size / tile, [&](auto tiles) {
                        add_rows<tiles>(index, spikes, rows + columns.begin * N, tiles * tile, false,
                                        own.sum + columns.begin);
                    });
                combine_rows(M, call.x + here * M, w_in_.data(), width, own.input);
                const float *i = call.i + t * call.i_stride + s * N, *u = call.u + here * N;
                float* const u_next = call.u + (here + b) * N;
                take_step(call.model, call.neurons, PlainBlock(theta, u, 0, N), own.input, own.sum, {i, u},
                          {call.i + (t + 1) * call.i_stride + s * N, u_next});
                pack_row(u_next, N, theta, own.bits + (row + group) * words);
                if (y) read_out(shape_, call, u_next, own.y + row * O);
            }
            for (Index slot = 0; slot < count; ++slot) {
                const Index now = (top + slot) * b + first;
                std::copy_n(own.bits + (slot + 1) * group * words, group * words, call.bits + (now + b) * words);
                if (y) std::copy_n(own.y + slot * group * O, group * O, y + now * O);
            }
            std::copy_n(own.bits + count * group * words, group * words, own.bits);
        }
    }

    CpuBackend& backend_;
    BatchShape shape_;
    Buffer<float> rows_, w_in_;      // W' in panels, of each thread; W_in' [M + 1, width]
    Buffer<unsigned char> scratch_;  // of the threads
};

}  // namespace

std::unique_ptr<StateForward> network_forward(CpuBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<NetworkForward>(backend, plan, memory);
}

}  // namespace spikefloss
