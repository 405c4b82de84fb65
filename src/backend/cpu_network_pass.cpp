// Whole passes of a small network on the CPU, with its inputs and its readout. A thread takes its sequences from x to y
// and from dz to all gradients, so that only x, u, spikes and y leave its cache.
//   forwards   input = W_in x;  a step as in cpu_row_pass.cpp;  y = W_out z
//   backwards  du += W_out' dz;  a step back;  then, from the adjoints g of a slab of steps in cache,
//              dW_rec' += s g', dW_in += g x', db += g, dW_out += dz z'
// Gradients are summed over parts of the sequences. The parts do not depend on the number of threads.
#include "backend/arena.hpp"
#include "backend/buffer.hpp"
#include "backend/cpu_passes.hpp"
#include "backend/cpu_state_pass.hpp"

#include <algorithm>
#include <bit>
#include <vector>

namespace spikefloss {
namespace {

constexpr Index most_parts = 8;

// Steps whose adjoints are kept and then summed together.
constexpr Index slab = 32;

// The sums of a panel of W' fill at most three quarters of the registers.
constexpr int most_tiles = panel_tiles * 3 / 2;
constexpr Index widest_panel = most_tiles * tile;
std::vector<Columns> panels_in_registers(Index width) {
    const Index panels = (width + widest_panel - 1) / widest_panel;
    std::vector<Columns> columns;
    for (Index p = 0; p < panels; ++p) columns.emplace_back(width, p, panels);
    return columns;
}

struct BatchShape : StatePlan {
    Index width, parts;
    std::vector<Columns> panels;  // of the columns of W'

    explicit BatchShape(const StatePlan& plan)
        : StatePlan(plan), width(padded(N)), parts(std::min(b, most_parts)), panels(panels_in_registers(width)) {}
    Index first_of(Index part) const { return b * part / parts; }
    // The threads, of at most `most`, that take this number of steps.
    Index threads(Index most, Index count) const {
        return threads_for_steps(std::max<Index>(1, std::min(most, parts)), *this, count);
    }
};

// Calls work(first part, end of parts, first sequence, end) for groups of at most largest_group of a thread's
// sequences. A group is several whole parts, or a piece of one.
template <class Work>
void for_every_group(const BatchShape& shape, Index begin, Index end, Work&& work) {
    for (Index part = begin, next; part < end; part = next) {
        next = part + 1;
        while (next < end && shape.first_of(next + 1) - shape.first_of(part) <= largest_group) ++next;
        for (Index s = shape.first_of(part); s < shape.first_of(next); s += largest_group)
            work(part, next, s, std::min(s + largest_group, shape.first_of(next)));
    }
}

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

// sum = the sum of rows index[0], index[1], ... of a panel.
template <int tiles>
void add_rows(const std::uint16_t* index, Index count, const float* panel, float* sum) {
    Tile a[tiles];
#pragma GCC unroll 12
    for (int l = 0; l < tiles; ++l) a[l] = zero_tile();
    for (Index e = 0; e < count; ++e) {
        const float* row = panel + index[e] * tiles * tile;
#pragma GCC unroll 12
        for (int l = 0; l < tiles; ++l) a[l] = add(a[l], load_tile(row + l * tile));
    }
#pragma GCC unroll 12
    for (int l = 0; l < tiles; ++l) store(sum + l * tile, a[l]);
}

// Adds g to rows index[0], index[1], ... of a panel.
template <int tiles>
void add_to_rows(const std::uint16_t* index, Index count, const float* g, float* panel) {
    Tile a[tiles];
#pragma GCC unroll 12
    for (int l = 0; l < tiles; ++l) a[l] = load_tile(g + l * tile);
    for (Index e = 0; e < count; ++e) {
        float* row = panel + index[e] * tiles * tile;
#pragma GCC unroll 12
        for (int l = 0; l < tiles; ++l) store(row + l * tile, add(load_tile(row + l * tile), a[l]));
    }
}

// out[j] = sum over m of x[m] w[m, j], m in order. w [count, width] has at least one row.
void combine_rows(Index count, const float* x, const float* w, Index width, float* out) {
    const float first = count > 0 ? x[0] : 0.0f;
#pragma omp simd
    for (Index j = 0; j < width; ++j) out[j] = first * w[j];
    for (Index m = 1; m < count; ++m)
#pragma omp simd
        for (Index j = 0; j < width; ++j) out[j] = fmaf(x[m], w[m * width + j], out[j]);
}

// to [cols, width] = w' of w [rows, cols], or to [rows, width] = w, padded with zeros.
void pack_transposed_rows(const float* w, Index rows, Index cols, Index width, float* to) {
    for (Index c = 0; c < cols; ++c)
        for (Index r = 0; r < width; ++r) to[c * width + r] = r < rows ? w[r * cols + c] : 0.0f;
}
void pack_rows_padded(const float* w, Index rows, Index cols, Index width, float* to) {
    for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < width; ++c) to[r * width + c] = c < cols ? w[r * cols + c] : 0.0f;
}

// y = W_out z of one sequence and step.
void read_out(const StatePlan& plan, const StateForwardCall& call, const float* u, float* y) {
    const float theta = call.model.threshold;
    const Index N = plan.N;
    for (Index o = 0; o < plan.O; ++o) {
        const float* w = call.w_out + o * N;
        y[o] = call.readout == Readout::membrane
                   ? sum_in_lanes<lane_size, float>(N, [&](float sum, Index j) { return fmaf(w[j], u[j], sum); })
                   : sum_in_lanes<lane_size, float>(
                         N, [&](float sum, Index j) { return fmaf(w[j], spike(u[j], theta), sum); });
    }
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
    float* g;            // [slab, largest_group, width], the columns beyond N zero
    float *back, *from;  // [largest_group, width]; [width], zero beyond N
    float* sum;          // [1 + M + O, width] over a slab

    BackwardScratch(Arena& arena, const BatchShape& shape)
        : g(arena.take<float>(slab * largest_group * shape.width)),
          back(arena.take<float>(largest_group * shape.width)),
          from(arena.take<float>(shape.width)),
          sum(arena.take<float>((1 + shape.M + shape.O) * shape.width)) {}
    // By its own thread.
    void clear(const BatchShape& shape) const {
        for (Index row = 0; row < slab * largest_group && shape.width > shape.N; ++row)
            std::fill(g + row * shape.width + shape.N, g + (row + 1) * shape.width, 0.0f);
    }
    static Index bytes(const BatchShape& shape) {
        return 4 * ((slab + 1) * largest_group + 2 + shape.M + shape.O) * shape.width + 4 * 64;
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
    float* g_of(Index slot, Index r) const { return scratch_.g + (slot * largest_group + r) * shape_.width; }
    const float* u_of(Index t, Index s) const { return call_.u + (t * shape_.b + s) * shape_.N; }

    template <class S>
    void step(Index t, Index slot, Index first, Index end) {
        const Index b = shape_.b, N = shape_.N, width = shape_.width, O = shape_.O;
        for (Index s = first; s < end; ++s) {
            if (call_.dz) combine_rows(O, call_.dz + ((t - 1) * b + s) * O, w_out_, width, scratch_.from);
            take_step_back<S>(backend_, shape_, call_, t, s, call_.dz ? scratch_.from : nullptr, g_of(slot, s - first),
                              0, N);
        }
        multiply(end - first, width, N, {g_of(slot, 0), width, 1}, {panels_, tile, N * tile}, scratch_.back, width,
                 false);
        for (Index s = first; s < end; ++s)
            add_through_psi<S>(call_.model, N, u_of(t - 1, s), scratch_.back + (s - first) * width, call_.du + s * N);
    }

    // Adds steps begin..last of sequences [s, end), all of one part. `first` is the group's first sequence.
    void add_gradients(const PartGradient& gradient, Index begin, Index last, Index s, Index end, Index first) {
        const Index b = shape_.b, N = shape_.N, width = shape_.width, M = shape_.M, O = shape_.O,
                    words = spike_words(N);
        std::fill_n(scratch_.sum, (1 + M + O) * width, 0.0f);
        std::uint16_t index[largest_fused_network + spare_places];
        for (const Columns& columns : shape_.panels)
            with_tiles<most_tiles>(columns.size / tile, [&](auto tiles) {
                for (Index t = last; t >= begin; --t)
                    for (Index r = s; r < end; ++r) {
                        const Index count = list_row(call_.bits + ((t - 1) * b + r) * words, words, index);
                        add_to_rows<tiles>(index, count, g_of(t - begin, r - first) + columns.begin,
                                           gradient.w_rec + columns.begin * N);
                    }
            });
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

// Adds the gradients of the parts, in order, to those of the call: of the synapses from neurons [begin, end), and of
// the inputs and outputs of these neurons.
void add_parts(const BatchShape& shape, const std::vector<PartGradient>& gradients, const StateBackwardCall& call,
               Index begin, Index end) {
    const Index N = shape.N, width = shape.width, M = shape.M, O = shape.O;
    const PartGradient& total = gradients.front();
    const auto add = [](auto* to, const auto* from, Index first, Index last) {
#pragma omp simd
        for (Index j = first; j < last; ++j) to[j] += from[j];
    };
    for (std::size_t q = 1; q < gradients.size(); ++q) {
        for (const Columns& columns : shape.panels) {
            const Index panel = columns.begin * N;
            add(total.w_rec + panel, gradients[q].w_rec + panel, begin * columns.size, end * columns.size);
        }
        add(total.bias, gradients[q].bias, begin, end);
        for (Index m = 0; m < M; ++m) add(total.w_in, gradients[q].w_in, m * width + begin, m * width + end);
        for (Index o = 0; o < O; ++o) add(total.w_out, gradients[q].w_out, o * width + begin, o * width + end);
    }
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

class NetworkForward final : public StateForward {
public:
    NetworkForward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          shape_(plan),
          rows_(memory, backend.threads() * plan.N * shape_.width),
          w_in_(memory, (plan.M + 1) * shape_.width),
          of_threads_(memory, backend.threads() * own()) {}

    void run(const StateForwardCall& call) override {
        if (backend_.counting()) return;
        pack_transposed_rows(call.w_in, shape_.N, shape_.M, shape_.width, w_in_.data());
        const Index parts = shape_.parts, threads = shape_.threads(backend_.threads(), call.steps);
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
        for (Index thread = 0; thread < threads; ++thread) {
            pack_transposed(1, {call.w_rec, shape_.N, shape_.N}, static_cast<Index>(shape_.panels.size()), tile,
                            rows_of(thread));
            for_every_group(shape_, parts * thread / threads, parts * (thread + 1) / threads,
                            [&](Index, Index, Index first, Index end) { run_group(call, thread, first, end); });
        }
    }

private:
    // Floats of a thread: the input and the recurrent sum of a neuron, each with a line of cache to its neighbours.
    Index own() const { return 2 * (shape_.width + 16); }
    float* rows_of(Index thread) { return rows_.data() + thread * shape_.N * shape_.width; }

    // Sequences [first, end) through all steps.
    void run_group(const StateForwardCall& call, Index thread, Index first, Index end) {
        const Index b = shape_.b, N = shape_.N, M = shape_.M, width = shape_.width, words = spike_words(N);
        const float theta = call.model.threshold;
        float *input = of_threads_.data() + thread * own(), *sum = input + own() / 2;
        float* y = static_cast<float*>(call.y.data);
        std::uint16_t index[largest_fused_network + spare_places];
        for (Index s = first; s < end; ++s) pack_row(call.u + s * N, N, theta, call.bits + s * words);
        for (Index t = 0; t < call.steps; ++t)
            for (Index s = first; s < end; ++s) {
                const Index here = t * b + s, next = here + b;
                const Index count = list_row(call.bits + here * words, words, index);
                for (const Columns& columns : shape_.panels)
                    with_tiles<most_tiles>(columns.size / tile, [&](auto tiles) {
                        add_rows<tiles>(index, count, rows_of(thread) + columns.begin * N, sum + columns.begin);
                    });
                combine_rows(M, call.x + here * M, w_in_.data(), width, input);
                const float *i = call.i + t * call.i_stride + s * N, *u = call.u + here * N;
                take_step(call.model, call.neurons, PlainBlock(theta, u, 0, N), input, sum, {i, u},
                          {call.i + (t + 1) * call.i_stride + s * N, call.u + next * N});
                pack_row(call.u + next * N, N, theta, call.bits + next * words);
                if (y && !call.again) read_out(shape_, call, call.u + next * N, y + here * shape_.O);
            }
    }

    CpuBackend& backend_;
    BatchShape shape_;
    Buffer<float> rows_, w_in_;  // W' in panels, of each thread; W_in' [M + 1, width]
    Buffer<float> of_threads_;
};

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
        with_surrogate(call.model.surrogate, [&](auto surrogate) {
            using S = decltype(surrogate);
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
            for (Index thread = 0; thread < threads; ++thread) {
                const Index begin = parts * thread / threads, last = parts * (thread + 1) / threads;
                BackwardScratch& scratch = own[static_cast<std::size_t>(thread)];
                float* const panels = panels_.data() + thread * shape_.N * shape_.width;
                pack_panels(1, call.w_rec, shape_.N, panels);
                scratch.clear(shape_);
                for (Index part = begin; part < last; ++part) gradients[static_cast<std::size_t>(part)].clear(shape_);
                BackwardSteps steps(backend_, shape_, call, panels, w_out_.data(), scratch, gradients);
                for_every_group(shape_, begin, last, [&](Index part, Index next, Index first, Index end) {
                    steps.run<S>(part, next, first, end);
                });
            }
        });
        const Index tiles = shape_.width / tile;
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
        for (Index thread = 0; thread < threads; ++thread)
            add_parts(shape_, gradients, call, tiles * thread / threads * tile,
                      std::min(shape_.N, tiles * (thread + 1) / threads * tile));
    }

private:
    CpuBackend& backend_;
    BatchShape shape_;
    Buffer<float> panels_, w_out_;   // of W, for each thread; [O + 1, width]
    Buffer<unsigned char> scratch_;  // of the parts and the threads
};

}  // namespace

std::unique_ptr<StateForward> network_forward(CpuBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<NetworkForward>(backend, plan, memory);
}
std::unique_ptr<StateBackward> network_backward(CpuBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<NetworkBackward>(backend, plan, memory);
}

}  // namespace spikefloss
