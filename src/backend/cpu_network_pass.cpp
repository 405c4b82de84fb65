// Whole passes of a small network on the CPU, with its inputs and its readout. A thread takes its sequences from x to y
// and from dz to all gradients, so that only x, u, spikes and y leave its cache.
//   forwards   input = W_in x;  a step as in cpu_pass.cpp;  y = W_out z
//   backwards  du += W_out' dz;  a step back;  then, from the adjoints g of a slab of steps in cache,
//              dW_rec' += s g', dW_in += g x', db += g, dW_out += dz z'
// Gradients are summed over parts of the sequences. The parts do not depend on the number of threads.
#include "backend/arena.hpp"
#include "backend/cpu_backend.hpp"
#include "backend/cpu_state_pass.hpp"
#include "core/error.hpp"

#include <algorithm>
#include <bit>
#include <vector>

namespace spikefloss {
namespace {

// Far above these limits one product for all rows, and one thread that sums dW of a block of neurons, should be faster:
// W' and dW' of the parts no longer fit the caches of a core. Measured only at N = 80 with one input and readout.
constexpr Index largest_network = 160, largest_side = 8;

constexpr Index most_parts = 8;

// Steps whose adjoints are kept and then summed together.
constexpr Index slab = 32;

// Panels of W' are at most as wide as the registers allow: twelve lanes of sums.
constexpr Index widest_panel = 12 * lane_size;
std::vector<Columns> panels_in_registers(Index width) {
    const Index panels = (width + widest_panel - 1) / widest_panel;
    std::vector<Columns> columns;
    for (Index p = 0; p < panels; ++p) columns.emplace_back(width, p, panels);
    return columns;
}

struct BatchShape {
    Index b, N, width, M, O;
    Index parts;
    std::vector<Columns> panels;  // of the columns of W'

    BatchShape(Index b_, Index N_, Index M_, Index O_)
        : b(b_),
          N(N_),
          width(padded(N_)),
          M(M_),
          O(O_),
          parts(std::min(b_, most_parts)),
          panels(panels_in_registers(width)) {}
    Index first_of(Index part) const { return b * part / parts; }
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

template <class Work>
void with_network_lanes(Index lanes, Work&& work) {
    switch (lanes) {
        case 10: return work(std::integral_constant<int, 10>{});
        case 12: return work(std::integral_constant<int, 12>{});
        default: return with_lanes(lanes, work);
    }
}

// Lists the spikes of one sequence, at most largest_network, in `index`. Returns their number.
Index list_row(const std::uint32_t* bits, Index words, std::uint16_t* index) {
    Index count = 0;
    for (Index w = 0; w < words; w += 2) {
        std::uint64_t word = bits[w] | (w + 1 < words ? std::uint64_t(bits[w + 1]) << 32 : 0);
        for (; word; word &= word - 1) index[count++] = static_cast<std::uint16_t>(32 * w + std::countr_zero(word));
    }
    return count;
}

// sum = the sum of rows index[0], index[1], ... of a panel.
template <int lanes>
void add_rows(const std::uint16_t* index, Index count, const float* panel, float* sum) {
    Lane a[lanes];
#pragma GCC unroll 12
    for (int l = 0; l < lanes; ++l) a[l] = zero_lane();
    for (Index e = 0; e < count; ++e) {
        const float* row = panel + index[e] * lanes * lane_size;
#pragma GCC unroll 12
        for (int l = 0; l < lanes; ++l) a[l] = add(a[l], load(row + l * lane_size));
    }
#pragma GCC unroll 12
    for (int l = 0; l < lanes; ++l) store(sum + l * lane_size, a[l]);
}

// Adds g to rows index[0], index[1], ... of a panel.
template <int lanes>
void add_to_rows(const std::uint16_t* index, Index count, const float* g, float* panel) {
    Lane a[lanes];
#pragma GCC unroll 12
    for (int l = 0; l < lanes; ++l) a[l] = load(g + l * lane_size);
    for (Index e = 0; e < count; ++e) {
        float* row = panel + index[e] * lanes * lane_size;
#pragma GCC unroll 12
        for (int l = 0; l < lanes; ++l) store(row + l * lane_size, add(load(row + l * lane_size), a[l]));
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

double* take_doubles(Arena& arena, Index count) {
    double* at = arena.take<double>(count);
    std::fill_n(at, count, 0.0);
    return at;
}

// y = W_out z of one sequence and step.
void read_out(const NeuronModel& model, Index N, const NetworkForward& pass, const float* u, float* y) {
    const float theta = model.threshold;
    for (Index o = 0; o < pass.O; ++o) {
        const float* w = pass.w_out + o * N;
        float sum = 0.0f;
        if (pass.readout == Readout::membrane)
#pragma omp simd reduction(+ : sum)
            for (Index j = 0; j < N; ++j) sum = fmaf(w[j], u[j], sum);
        else
#pragma omp simd reduction(+ : sum)
            for (Index j = 0; j < N; ++j) sum = fmaf(w[j], spike(u[j], theta), sum);
        y[o] = sum;
    }
}

// The gradients of one part, [., width] each. bias, w_in and w_out are sums over slabs, in double.
struct PartGradient {
    float* w_rec;                 // dW' [N, width] in panels of columns
    double *bias, *w_in, *w_out;  // [1], [M], [O] rows

    PartGradient(Arena& arena, const BatchShape& shape)
        : w_rec(arena.take<float>(shape.N * shape.width)),
          bias(take_doubles(arena, shape.width)),
          w_in(take_doubles(arena, shape.M * shape.width)),
          w_out(take_doubles(arena, shape.O * shape.width)) {
        std::fill_n(w_rec, shape.N * shape.width, 0.0f);
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
          sum(arena.take<float>((1 + shape.M + shape.O) * shape.width)) {
        std::fill_n(g, slab * largest_group * shape.width, 0.0f);
    }
    static Index bytes(const BatchShape& shape) {
        return 4 * ((slab + 1) * largest_group + 2 + shape.M + shape.O) * shape.width + 4 * 64;
    }
};

class BackwardPass {
public:
    BackwardPass(CpuBackend& backend, const BatchShape& shape, const NeuronModel& model, const NeuronVectors& neurons,
                 const NetworkBackward& pass, const float* panels, const float* w_out, BackwardScratch& scratch,
                 std::vector<PartGradient>& gradients)
        : backend_(backend),
          shape_(shape),
          model_(model),
          neurons_(neurons),
          pass_(pass),
          panels_(panels),
          w_out_(w_out),
          scratch_(scratch),
          gradients_(gradients) {}

    // Sequences [first, end) of parts [part, next) through all steps.
    template <class S>
    void run(Index part, Index next, Index first, Index end) {
        const Index steps = pass_.recurrent.steps;
        for (Index last = steps; last >= 1; last -= slab) {
            const Index begin = std::max<Index>(1, last - slab + 1);
            for (Index t = last; t >= begin; --t) step<S>(t, t - begin, first, end);
            for (Index q = part; q < next; ++q)
                add_gradients(gradients_[static_cast<std::size_t>(q)], begin, last, std::max(first, shape_.first_of(q)),
                              std::min(end, shape_.first_of(q + 1)), first);
        }
    }

private:
    float* g_of(Index slot, Index r) const { return scratch_.g + (slot * largest_group + r) * shape_.width; }
    const float* u_of(Index t, Index s) const { return pass_.recurrent.u + (t * shape_.b + s) * shape_.N; }

    template <class S>
    void step(Index t, Index slot, Index first, Index end) {
        const Index b = shape_.b, N = shape_.N, width = shape_.width, O = shape_.O;
        for (Index s = first; s < end; ++s) {
            if (pass_.dz) combine_rows(O, pass_.dz + ((t - 1) * b + s) * O, w_out_, width, scratch_.from);
            take_step_back<S>(backend_, model_, neurons_, b, N, pass_.recurrent, t, s,
                              pass_.dz ? scratch_.from : nullptr, g_of(slot, s - first));
        }
        multiply(end - first, width, N, {g_of(slot, 0), width, 1}, {panels_, tile, N * tile}, scratch_.back, width,
                 false);
        for (Index s = first; s < end; ++s)
            add_through_psi<S>(model_, N, u_of(t - 1, s), scratch_.back + (s - first) * width,
                               pass_.recurrent.du + s * N);
    }

    // Adds steps begin..last of sequences [s, end), all of one part. `first` is the group's first sequence.
    void add_gradients(const PartGradient& gradient, Index begin, Index last, Index s, Index end, Index first) {
        const Index b = shape_.b, N = shape_.N, width = shape_.width, M = shape_.M, O = shape_.O,
                    words = spike_words(N);
        std::fill_n(scratch_.sum, (1 + M + O) * width, 0.0f);
        std::uint16_t index[largest_network];
        for (const Columns& columns : shape_.panels)
            with_network_lanes(columns.size / lane_size, [&](auto lanes) {
                for (Index t = last; t >= begin; --t)
                    for (Index r = s; r < end; ++r) {
                        const Index count = list_row(pass_.recurrent.bits + ((t - 1) * b + r) * words, words, index);
                        add_to_rows<lanes>(index, count, g_of(t - begin, r - first) + columns.begin,
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
            const float x = pass_.x[before * M + m];
            if (x != 0.0f) add_multiple(width, x, g, sum);
        }
        for (Index o = 0; o < O && pass_.dz; ++o) {
            sum += width;
            const float dz = pass_.dz[before * O + o], *u = u_of(t, s);
            if (pass_.recurrent.readout == Readout::membrane)
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
        const float theta = model_.threshold;
#pragma omp simd
        for (Index j = 0; j < count; ++j) sum[j] = fmaf(factor, spike(u[j], theta), sum[j]);
    }

    CpuBackend& backend_;
    const BatchShape& shape_;
    const NeuronModel& model_;
    const NeuronVectors& neurons_;
    const NetworkBackward& pass_;
    const float *panels_, *w_out_;  // of W; [O, width]
    BackwardScratch& scratch_;
    std::vector<PartGradient>& gradients_;
};

// Adds the gradients of the parts, in order, to those of the pass.
void add_parts(const BatchShape& shape, std::vector<PartGradient>& gradients, const NetworkBackward& pass) {
    const Index N = shape.N, width = shape.width, M = shape.M, O = shape.O;
    const PartGradient& total = gradients.front();
    for (std::size_t q = 1; q < gradients.size(); ++q) {
#pragma omp simd
        for (Index j = 0; j < N * width; ++j) total.w_rec[j] += gradients[q].w_rec[j];
        const auto add = [&](double* to, const double* from, Index rows) {
#pragma omp simd
            for (Index j = 0; j < rows * width; ++j) to[j] += from[j];
        };
        add(total.bias, gradients[q].bias, 1);
        add(total.w_in, gradients[q].w_in, M);
        add(total.w_out, gradients[q].w_out, O);
    }
    const SumMatrix &dw = pass.recurrent.d_w_rec, &db = pass.d_bias, &dw_in = pass.d_w_in, &dw_out = pass.d_w_out;
    for (const Columns& columns : shape.panels)
        add_transposed(total.w_rec + columns.begin * N, N, columns.size, std::min(columns.size, N - columns.begin),
                       static_cast<float*>(dw.data) + columns.begin * dw.stride, dw.stride);
    const auto add_to = [](float& sum, double value) { sum = static_cast<float>(sum + value); };
    for (Index j = 0; j < N; ++j) {
        add_to(static_cast<float*>(db.data)[j], total.bias[j]);
        for (Index m = 0; m < M; ++m)
            add_to(static_cast<float*>(dw_in.data)[j * dw_in.stride + m], total.w_in[m * width + j]);
        for (Index o = 0; o < O && pass.dz; ++o)
            add_to(static_cast<float*>(dw_out.data)[o * dw_out.stride + j], total.w_out[o * width + j]);
    }
}

}  // namespace

PassRule CpuBackend::takes_network(Index N, Index M, Index O) const {
    static const std::string what = fmt::format("up to {} neurons, {} inputs and {} readouts, with float32 sums",
                                                largest_network, largest_side, largest_side);
    return {sums_ == Sums::float32 && N <= largest_network && M <= largest_side && O <= largest_side, what};
}

bool CpuBackend::forward_network(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                 const float* w_rec, const NetworkForward& pass) {
    if (!takes_network(N, pass.M, pass.O).takes) return false;
    const BatchShape shape(b, N, pass.M, pass.O);
    const Index width = shape.width, words = spike_words(N), M = pass.M, O = pass.O;
    const Index own = 4 * 2 * width + 2 * 64;
    Arena arena(scratch(0, (4 * (N + M + 1) * width + 2 * 64 + threads_ * own) / 8 + 16));
    float *rows = arena.take<float>(N * width), *w_in = arena.take<float>((M + 1) * width);
    pack_transposed(1, {w_rec, N, N}, static_cast<Index>(shape.panels.size()), rows);
    pack_transposed_rows(pass.w_in, N, M, width, w_in);
    float* const scratch_of_threads = arena.take<float>(threads_ * own / 4);
    const Index parts = shape.parts, threads = std::max<Index>(1, std::min<Index>(threads_, parts));
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
    for (Index thread = 0; thread < threads; ++thread) {
        float *input = scratch_of_threads + thread * own / 4, *sum = input + width;
        std::uint16_t index[largest_network];
        for_every_group(
            shape, parts * thread / threads, parts * (thread + 1) / threads, [&](Index, Index, Index first, Index end) {
                for (Index s = first; s < end; ++s) pack_row(pass.u + s * N, N, model.threshold, pass.bits + s * words);
                for (Index t = 0; t < pass.steps; ++t)
                    for (Index s = first; s < end; ++s) {
                        const Index here = t * b + s, next = here + b;
                        const Index count = list_row(pass.bits + here * words, words, index);
                        for (const Columns& columns : shape.panels)
                            with_network_lanes(columns.size / lane_size, [&](auto lanes) {
                                add_rows<lanes>(index, count, rows + columns.begin * N, sum + columns.begin);
                            });
                        combine_rows(M, pass.x + here * M, w_in, width, input);
                        take_step(model, neurons, N, input, sum, pass.i + t * pass.i_stride + s * N, pass.u + here * N,
                                  pass.i + (t + 1) * pass.i_stride + s * N, pass.u + next * N);
                        pack_row(pass.u + next * N, N, model.threshold, pass.bits + next * words);
                        if (pass.y) read_out(model, N, pass, pass.u + next * N, pass.y + here * O);
                    }
            });
    }
    return true;
}

bool CpuBackend::backward_network(const NeuronModel& model, const NeuronVectors& neurons, Index b, Index N,
                                  const float* w_rec, const NetworkBackward& pass) {
    if (!takes_network(N, pass.M, pass.O).takes) return false;
    if (b == 0) return true;
    const BatchShape shape(b, N, pass.M, pass.O);
    const Index width = shape.width, parts = shape.parts;
    Arena arena(scratch(0, (4 * (N + pass.O + 1) * width + 2 * 64 + parts * PartGradient::bytes(shape) +
                            threads_ * BackwardScratch::bytes(shape)) /
                                   8 +
                               16));
    float *panels = arena.take<float>(N * width), *w_out = arena.take<float>((pass.O + 1) * width);
    pack_panels(w_rec, N, false, panels);
    pack_rows_padded(pass.w_out, pass.O, N, width, w_out);
    std::vector<PartGradient> gradients;
    for (Index part = 0; part < parts; ++part) gradients.emplace_back(arena, shape);
    std::vector<BackwardScratch> own;
    for (int thread = 0; thread < threads_; ++thread) own.emplace_back(arena, shape);
    const Index threads = std::min<Index>(threads_, parts);
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
#pragma omp parallel for num_threads(static_cast<int>(threads)) schedule(static) if (threads > 1)
        for (Index thread = 0; thread < threads; ++thread) {
            BackwardPass backward(*this, shape, model, neurons, pass, panels, w_out,
                                  own[static_cast<std::size_t>(thread)], gradients);
            for_every_group(
                shape, parts * thread / threads, parts * (thread + 1) / threads,
                [&](Index part, Index next, Index first, Index end) { backward.run<S>(part, next, first, end); });
        }
    });
    add_parts(shape, gradients, pass);
    return true;
}

}  // namespace spikefloss
