// The backward pass of a small network on the CPU, for the sequences of a thread:
//   du += W_out' dz;  a step back;  then, from the adjoints g of a slab of steps in cache,
//   dW_rec' += s g', dW_in += g x', db += g, dW_out += dz z'
// Gradients are summed over parts of the sequences. The parts do not depend on the number of threads.
#include "backend/arena.hpp"
#include "backend/buffer.hpp"
#include "backend/cpu_network_pass.hpp"

#include <algorithm>
#include <vector>

namespace spikefloss {
namespace {

// Rows between the adjoints of two sequences of a group: one more than steps, so that a step of all sequences is not in
// a few sets of the cache.
constexpr Index rows_of_sequence = slab + 1;

// to [rows, width] = w, padded with zeros.
void pack_rows_padded(const float* w, Index rows, Index cols, Index width, float* to) {
    for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < width; ++c) to[r * width + c] = c < cols ? w[r * cols + c] : 0.0f;
}

// The gradients of one part, [., width] each. bias, w_in and w_out are sums over slabs, in double. The thread that adds
// them clears them, so that they are in its cache.
struct PartGradient {
    float* w_rec;                 // dW' [N, width] in panels of columns
    double *bias, *w_in, *w_out;  // [1], [M], [O] rows

    PartGradient(Arena& arena, const BatchShape& shape)
        : w_rec(arena.take<float>(shape.N * shape.width)),
          bias(arena.take<double>(shape.width)),
          w_in(arena.take<double>(shape.M * shape.width)),
          w_out(arena.take<double>(shape.O * shape.width)) {}
    void clear(const BatchShape& shape) const {
        std::fill_n(w_rec, shape.N * shape.width, 0.0f);
        std::fill_n(bias, shape.width, 0.0);
        std::fill_n(w_in, shape.M * shape.width, 0.0);
        std::fill_n(w_out, shape.O * shape.width, 0.0);
    }
    static Index bytes(const BatchShape& shape) {
        return (4 * shape.N + 8 * (1 + shape.M + shape.O)) * shape.width + 4 * 64;
    }
};

// Scratch of one thread.
struct BackwardScratch {
    float* g;            // [largest_group, rows_of_sequence, width], the columns beyond N zero
    float *back, *from;  // [largest_group, width]; [width], zero beyond N
    float* sum;          // [1 + M + O, width] over a slab

    BackwardScratch(Arena& arena, const BatchShape& shape)
        : g(arena.take<float>(largest_group * rows_of_sequence * shape.width)),
          back(arena.take<float>(largest_group * shape.width)),
          from(arena.take<float>(shape.width)),
          sum(arena.take<float>((1 + shape.M + shape.O) * shape.width)) {}
    // By its own thread.
    void clear(const BatchShape& shape) const {
        for (Index row = 0; row < largest_group * rows_of_sequence && shape.width > shape.N; ++row)
            std::fill(g + row * shape.width + shape.N, g + (row + 1) * shape.width, 0.0f);
    }
    static Index bytes(const BatchShape& shape) {
        return 4 * ((rows_of_sequence + 1) * largest_group + 2 + shape.M + shape.O) * shape.width + 4 * 64;
    }
};

// The backward pass of one call and thread.
class BackwardSteps {
public:
    BackwardSteps(CpuBackend& backend, const BatchShape& shape, const StateBackwardCall& call, const float* panels,
                  const float* w_out, BackwardScratch& scratch, std::vector<PartGradient>& gradients)
        : backend_(backend),
          shape_(shape),
          call_(call),
          panels_(panels),
          w_out_(w_out),
          scratch_(scratch),
          gradients_(gradients) {}

    // Sequences [first, end) of parts [part, next) through all steps.
    template <class S>
    void run(Index part, Index next, Index first, Index end) {
        for (Index last = call_.steps; last >= 1; last -= slab) {
            const Index begin = std::max<Index>(1, last - slab + 1);
            for (Index t = last; t >= begin; --t) step<S>(t, t - begin, first, end);
            for (Index q = part; q < next; ++q)
                add_gradients(gradients_[static_cast<std::size_t>(q)], begin, last, std::max(first, shape_.first_of(q)),
                              std::min(end, shape_.first_of(q + 1)), first);
        }
    }

private:
    float* g_of(Index slot, Index r) const { return scratch_.g + (r * rows_of_sequence + slot) * shape_.width; }
    const float* u_of(Index t, Index s) const { return call_.u + (t * shape_.b + s) * shape_.N; }

    template <class S>
    void step(Index t, Index slot, Index first, Index end) {
        const Index b = shape_.b, N = shape_.N, width = shape_.width, O = shape_.O;
        for (Index s = first; s < end; ++s) {
            if (call_.dz) combine_rows(O, call_.dz + ((t - 1) * b + s) * O, w_out_, width, scratch_.from);
            take_step_back<S>(backend_, shape_, call_, t, s, call_.dz ? scratch_.from : nullptr, g_of(slot, s - first),
                              0, N);
        }
        multiply(end - first, width, N, {g_of(slot, 0), rows_of_sequence * width, 1}, {panels_, tile, N * tile},
                 scratch_.back, width, false);
        for (Index s = first; s < end; ++s)
            add_through_psi<S>(call_.model, N, u_of(t - 1, s), scratch_.back + (s - first) * width, call_.du + s * N);
    }

    // Adds steps begin..last of sequences [s, end), all of one part. `first` is the group's first sequence.
    void add_gradients(const PartGradient& gradient, Index begin, Index last, Index s, Index end, Index first) {
        const Index width = shape_.width, M = shape_.M, O = shape_.O;
        std::fill_n(scratch_.sum, (1 + M + O) * width, 0.0f);
        add_recurrent(gradient.w_rec, begin, last, s, end, first);
        for (Index t = last; t >= begin; --t)
            for (Index r = s; r < end; ++r) add_sides(t, r, g_of(t - begin, r - first));
        const auto add_sum = [&](double* to, const float* from, Index count) {
#pragma omp simd
            for (Index j = 0; j < count; ++j) to[j] += from[j];
        };
        add_sum(gradient.bias, scratch_.sum, width);
        add_sum(gradient.w_in, scratch_.sum + width, M * width);
        add_sum(gradient.w_out, scratch_.sum + (1 + M) * width, O * width);
    }

    // dW_rec' of the same steps: a neuron adds the g of the steps before which it fired, of two sequences at a time.
    void add_recurrent(float* dw, Index begin, Index last, Index s, Index end, Index first) {
        static_assert(slab == 32 && largest_fused_network <= 32 * words_at_once);
        const Index b = shape_.b, N = shape_.N, words = spike_words(N);
        for (Index r = s; r < end; r += 2) {
            const float* const g = g_of(0, r - first);
            BitBlock fired[2] = {};  // of a sequence: before each step; then of each neuron
            for (Index q = 0; q < std::min<Index>(2, end - r); ++q) {
                for (Index t = begin; t <= last; ++t)
                    for (Index w = 0; w < words; ++w)
                        fired[q][t - begin][w] = call_.bits[((t - 1) * b + r + q) * words + w];
                transpose(fired[q]);
            }
            for (Index j = 0; j < N; ++j) {
                std::uint16_t row[2 * slab + spare_places];
                Index count = list_bits(fired[0][j % 32][j / 32], 0, row);
                count += list_bits(fired[1][j % 32][j / 32], rows_of_sequence, row + count);
                if (count == 0) continue;
                for (const Columns& columns : shape_.panels)
                    with_tiles<most_tiles>(columns.size / tile, [&](auto tiles) {
                        add_rows<tiles>(row, count, g + columns.begin, shape_.width, true,
                                        dw + columns.begin * N + j * columns.size);
                    });
            }
        }
    }

    // db, dW_in' and dW_out of one step of sequence s.
    void add_sides(Index t, Index s, const float* g) {
        const Index M = shape_.M, O = shape_.O, width = shape_.width, now = t * shape_.b + s, before = now - shape_.b;
        float* sum = scratch_.sum;
#pragma omp simd
        for (Index j = 0; j < width; ++j) sum[j] += g[j];
        for (Index m = 0; m < M; ++m) {
            sum += width;
            const float x = call_.x[before * M + m];
            if (x != 0.0f) add_multiple(width, x, g, sum);
        }
        for (Index o = 0; o < O && call_.dz; ++o) {
            sum += width;
            const float dz = call_.dz[before * O + o], *u = u_of(t, s);
            if (call_.readout == Readout::membrane)
                add_multiple(shape_.N, dz, u, sum);
            else
                add_spikes_of(shape_.N, dz, u, sum);
        }
    }
    static void add_multiple(Index count, float factor, const float* from, float* sum) {
#pragma omp simd
        for (Index j = 0; j < count; ++j) sum[j] = fmaf(factor, from[j], sum[j]);
    }
    void add_spikes_of(Index count, float factor, const float* u, float* sum) const {
        const float theta = call_.model.threshold;
#pragma omp simd
        for (Index j = 0; j < count; ++j) sum[j] = fmaf(factor, spike(u[j], theta), sum[j]);
    }

    CpuBackend& backend_;
    const BatchShape& shape_;
    const StateBackwardCall& call_;
    const float *panels_, *w_out_;  // of W; [O, width]
    BackwardScratch& scratch_;
    std::vector<PartGradient>& gradients_;
};

// to += from: the synapses from neurons [begin, end), and the inputs and outputs of these neurons.
void add_part(const BatchShape& shape, const PartGradient& to, const PartGradient& from, Index begin, Index end) {
    const auto add = [](auto* sum, const auto* part, Index first, Index last) {
#pragma omp simd
        for (Index j = first; j < last; ++j) sum[j] += part[j];
    };
    const Index width = shape.width;
    for (const Columns& columns : shape.panels) {
        const Index panel = columns.begin * shape.N;
        add(to.w_rec + panel, from.w_rec + panel, begin * columns.size, end * columns.size);
    }
    add(to.bias, from.bias, begin, end);
    for (Index m = 0; m < shape.M; ++m) add(to.w_in, from.w_in, m * width + begin, m * width + end);
    for (Index o = 0; o < shape.O; ++o) add(to.w_out, from.w_out, o * width + begin, o * width + end);
}

// The parts are summed as a binary tree: part 1 to part 0, 3 to 2, ...; 2 to 0, 6 to 4, ...; and so on. Calls
// add(to, from, end) for each sum, in order: it is over parts [to, end), and the second half begins with part `from`.
template <class Add>
void sum_as_tree(Index parts, Add&& add) {
    for (Index half = 1; half < parts; half *= 2)
        for (Index to = 0; to + half < parts; to += 2 * half) add(to, to + half, std::min(to + 2 * half, parts));
}

// Adds the sum of all parts to the gradients of the call: of the synapses from neurons [begin, end), and of the inputs
// and outputs of these neurons.
void add_total(const BatchShape& shape, const PartGradient& total, const StateBackwardCall& call, Index begin,
               Index end) {
    const Index N = shape.N, width = shape.width, M = shape.M, O = shape.O;
    const SumMatrix &dw = call.d_w_rec, &db = call.d_bias, &dw_in = call.d_w_in, &dw_out = call.d_w_out;
    for (const Columns& columns : shape.panels)
        add_transposed(total.w_rec + columns.begin * N + begin * columns.size, end - begin, columns.size,
                       std::min(columns.size, N - columns.begin),
                       static_cast<float*>(dw.data) + columns.begin * dw.stride + begin, dw.stride);
    const auto add_to = [](float& sum, double value) { sum = static_cast<float>(sum + value); };
    for (Index j = begin; j < end; ++j) {
        add_to(static_cast<float*>(db.data)[j], total.bias[j]);
        for (Index m = 0; m < M; ++m)
            add_to(static_cast<float*>(dw_in.data)[j * dw_in.stride + m], total.w_in[m * width + j]);
        for (Index o = 0; o < O && call.dz; ++o)
            add_to(static_cast<float*>(dw_out.data)[o * dw_out.stride + j], total.w_out[o * width + j]);
    }
}

class NetworkBackward final : public StateBackward {
public:
    NetworkBackward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          shape_(plan),
          panels_(memory, backend.threads() * plan.N * shape_.width),
          w_out_(memory, (plan.O + 1) * shape_.width),
          scratch_(memory, shape_.parts * PartGradient::bytes(shape_) +
                               backend.threads() * BackwardScratch::bytes(shape_) + 64) {}

    void run(const StateBackwardCall& call, const std::function<void()>& /*recurrent_done*/) override {
        if (shape_.b == 0 || backend_.counting()) return;
        Arena arena(scratch_.data());
        pack_rows_padded(call.w_out, shape_.O, shape_.N, shape_.width, w_out_.data());
        const Index parts = shape_.parts, threads = shape_.threads(backend_.threads(), call.steps);
        std::vector<PartGradient> gradients;
        for (Index part = 0; part < parts; ++part) gradients.emplace_back(arena, shape_);
        std::vector<BackwardScratch> own;
        for (Index thread = 0; thread < threads; ++thread) own.emplace_back(arena, shape_);
        const auto part_of = [&](Index part) -> PartGradient& { return gradients[static_cast<std::size_t>(part)]; };
        const auto first_of = [&](Index thread) { return parts * thread / threads; };
        // Whether one thread has all parts [begin, end).
        const auto are_of_one = [&](Index begin, Index end) {
            Index thread = 0;
            while (first_of(thread + 1) <= begin) ++thread;
            return end <= first_of(thread + 1);
        };
        const Index tiles = shape_.width / tile;
#pragma omp parallel num_threads(static_cast<int>(threads)) if (threads > 1)
        {
#pragma omp for schedule(static)
            for (Index thread = 0; thread < threads; ++thread) {
                const Index begin = first_of(thread), last = first_of(thread + 1);
                BackwardScratch& scratch = own[static_cast<std::size_t>(thread)];
                float* const panels = panels_.data() + thread * shape_.N * shape_.width;
                pack_panels(1, {call.w_rec, shape_.N, shape_.N}, panels);
                scratch.clear(shape_);
                for (Index part = begin; part < last; ++part) part_of(part).clear(shape_);
                BackwardSteps steps(backend_, shape_, call, panels, w_out_.data(), scratch, gradients);
                with_surrogate(call.model.surrogate, [&](auto surrogate) {
                    for_every_group(shape_, begin, last, [&](Index part, Index next, Index first, Index end) {
                        steps.run<decltype(surrogate)>(part, next, first, end);
                    });
                });
                sum_as_tree(parts, [&](Index to, Index from, Index end) {
                    if (begin <= to && end <= last) add_part(shape_, part_of(to), part_of(from), 0, shape_.N);
                });
            }
            // The parts of several threads: each thread adds the synapses from its share of the neurons.
#pragma omp for schedule(static)
            for (Index thread = 0; thread < threads; ++thread) {
                const Index begin = tiles * thread / threads * tile,
                            end = std::min(shape_.N, tiles * (thread + 1) / threads * tile);
                sum_as_tree(parts, [&](Index to, Index from, Index last) {
                    if (!are_of_one(to, last)) add_part(shape_, part_of(to), part_of(from), begin, end);
                });
                add_total(shape_, part_of(0), call, begin, end);
            }
        }
    }

private:
    CpuBackend& backend_;
    BatchShape shape_;
    Buffer<float> panels_, w_out_;   // of W, for each thread; [O + 1, width]
    Buffer<unsigned char> scratch_;  // of the parts and the threads
};

}  // namespace

std::unique_ptr<StateBackward> network_backward(CpuBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<NetworkBackward>(backend, plan, memory);
}

}  // namespace spikefloss
