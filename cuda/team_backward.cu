// The backward pass of one rank that holds all neurons. One launch takes all steps. For t = steps..1:
//
//   du += (gradient from the readout, times psi if it reads spikes) + e[t]        (di, du): adjoints of i[t], u[t]
//   dv  = f du;   g = di + (1-beta) dv;   di = alpha g       (f, q: neuron/lif.hpp)
//   du  = beta q dv + psi(u[t-1] - theta) (W' g)
//
// W [post, pre] stays in shared memory. Each block of a team (team_plan.hpp) holds the columns of some pre-synaptic
// neurons. A thread owns one neuron of one sequence and keeps its adjoints in registers. The blocks of a cluster write
// their adjoints g into the shared memory of all its blocks. The blocks of a grid read them from the array g in global
// memory, which the pass writes anyway. In the product W' g a warp takes 32 columns, a slice of the inner length, and R
// sequences at a time. The slices are summed in order. dW_rec is one product over all steps at the end.
//
// Loads from shared memory limit the product. There are two forms of it. In multiply_columns a lane takes one column,
// so an element of W serves R multiply-adds. In multiply_tiles it takes four, so an element of g serves four, too.
#include "kernel.cuh"
#include "passes.hpp"
#include "team_plan.hpp"

#include "backend/buffer.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// Half of the threads that a block can have, so that a thread has registers for eight sums.
constexpr int most_threads = 512;

struct BackwardArrays {
    StateBackwardCall call;
    Index b;
    int N;
    float* g;         // [steps, b, N]: the gradient from the readout if the call has one; then g
    double* partial;  // [steps+1, b, words]: |(di, du)|^2 of 32 neurons; null: not wanted
};

int rounded_up(int a, int to) { return (a + to - 1) / to * to; }

// Sequences that a warp's product takes at a time.
int sequences_at_once(int S) { return S <= 2 ? S : S <= 4 ? 4 : 8; }

// Shared memory of a block: W [inner, columns], g of its sequences [copies, S padded, inner], and the slices' parts of
// W' g [slices, S padded, columns].
struct BackwardShared {
    int inner, padded;  // N rounded up to a multiple of 4 lane_columns; S rounded up to a multiple of R
    int copies;         // of g: a block of a cluster may write the next g while another block reads this one
    BackwardShared(int N, const TeamPlan& plan, int lane_columns)
        : inner(rounded_up(N, 4 * lane_columns)),
          padded(rounded_up(plan.sequences, sequences_at_once(plan.sequences))),
          copies(plan.kind == TeamKind::cluster ? 2 : 1) {}
    std::size_t bytes(const TeamPlan& plan) const {
        return sizeof(float) * static_cast<std::size_t>(inner * plan.columns + copies * padded * inner +
                                                        plan.slices * padded * plan.columns);
    }
};

// The part of W' g that one slice gives, for 32 columns and R sequences. Rows of g are `inner` apart, rows of w and out
// `columns` apart. Each lane takes one column.
template <int R>
__device__ void multiply_columns(const float* g, int inner, int length, const float* w, int columns, float* out) {
    const int lane = static_cast<int>(threadIdx.x % warp_size);
    w += lane, out += lane;
    float sum[R];
#pragma unroll
    for (int r = 0; r < R; ++r) sum[r] = 0.0f;
#pragma unroll 2
    for (int p = 0; p < length; p += 4) {
        const float w0 = w[p * columns], w1 = w[(p + 1) * columns], w2 = w[(p + 2) * columns],
                    w3 = w[(p + 3) * columns];
#pragma unroll
        for (int r = 0; r < R; ++r) {
            const float4 x = *reinterpret_cast<const float4*>(g + r * inner + p);
            sum[r] = fmaf(x.x, w0, sum[r]);
            sum[r] = fmaf(x.y, w1, sum[r]);
            sum[r] = fmaf(x.z, w2, sum[r]);
            sum[r] = fmaf(x.w, w3, sum[r]);
        }
    }
#pragma unroll
    for (int r = 0; r < R; ++r) out[r * columns] = sum[r];
}

// Adds `count` sums of the lanes whose numbers differ in `bit`. The lane without the bit keeps the first half of the
// results in sum[0, count/2), the other lane the second half.
template <int count>
__device__ void add_halves(float* sum, unsigned bit) {
    const bool second = threadIdx.x & bit;
#pragma unroll
    for (int k = 0; k < count / 2; ++k) {
        const float kept = second ? sum[k + count / 2] : sum[k], sent = second ? sum[k] : sum[k + count / 2];
        sum[k] = kept + __shfl_xor_sync(all_lanes, sent, static_cast<int>(bit));
    }
}

// The same part, with four columns a lane. Eight lanes take the 32 columns. The four quarters of the warp take four
// inner values each in turn, and their sums are added at the end. `length` is a multiple of 16.
template <int R>
__device__ void multiply_tiles(const float* g, int inner, int length, const float* w, int columns, float* out) {
    const int lane = static_cast<int>(threadIdx.x % warp_size), quarter = lane / 8;
    w += 4 * (lane % 8), out += 4 * (lane % 8);
    float sum[4 * R];  // [R, 4 columns]
#pragma unroll
    for (int k = 0; k < 4 * R; ++k) sum[k] = 0.0f;
#pragma unroll 1
    for (int p = 4 * quarter; p < length; p += 16) {
        float4 row[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) row[k] = *reinterpret_cast<const float4*>(w + (p + k) * columns);
#pragma unroll
        for (int r = 0; r < R; ++r) {
            const float4 four = *reinterpret_cast<const float4*>(g + r * inner + p);
            const float x[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
            for (int k = 0; k < 4; ++k) {
                sum[4 * r] = fmaf(x[k], row[k].x, sum[4 * r]);
                sum[4 * r + 1] = fmaf(x[k], row[k].y, sum[4 * r + 1]);
                sum[4 * r + 2] = fmaf(x[k], row[k].z, sum[4 * r + 2]);
                sum[4 * r + 3] = fmaf(x[k], row[k].w, sum[4 * r + 3]);
            }
        }
    }
    add_halves<4 * R>(sum, 16);
    add_halves<2 * R>(sum, 8);  // this lane has the sums quarter * R + k of [R, 4 columns]
    if constexpr (R < 4)
#pragma unroll
        for (int k = 0; k < R; ++k) out[(quarter * R + k) / 4 * columns + (quarter * R + k) % 4] = sum[k];
    else
#pragma unroll
        for (int k = 0; k < R; k += 4)
            store_shared(out + (quarter * R + k) / 4 * columns, sum[k], sum[k + 1], sum[k + 2], sum[k + 3]);
}

// Inputs of one neuron of one sequence at step t: u[t-1], and the gradients of u[t] from the readout and the tangents.
// They are read one step ahead, so that no step waits for memory.
struct StepInputs {
    float u_before = 0.0f, from_readout = 0.0f, extra = 0.0f;
};

__device__ StepInputs inputs_of(const BackwardArrays& a, Index t, Index row, Index step) {
    StepInputs in;
    in.u_before = a.call.u[(t - 1) * step + row];
    if (a.call.dz) in.from_readout = a.g[(t - 1) * step + row];
    if (a.call.extra) in.extra = a.call.extra[t * step + row];
    return in;
}

__device__ float with_injections(const BackwardArrays& a, const StepInputs& in, float u_now, float du) {
    if (a.call.dz)
        du = a.call.readout == Readout::membrane
                 ? du + in.from_readout
                 : fmaf(surrogate_psi(a.call.model.surrogate, u_now - a.call.model.threshold, a.call.model.sharpness),
                        in.from_readout, du);
    return a.call.extra ? du + in.extra : du;
}

// Copies g of S sequences of N neurons, which other blocks wrote to global memory, to rows `inner` apart.
__device__ void gather_adjoints(const float* g, int S, int N, int inner, float* g_all) {
    const int lane = static_cast<int>(threadIdx.x % warp_size), warps = static_cast<int>(blockDim.x / warp_size);
    for (int r = static_cast<int>(threadIdx.x / warp_size); r < S; r += warps)
        if (N % 4 == 0)
            for (int at = 4 * lane; at < N; at += 4 * warp_size)
                *reinterpret_cast<float4*>(g_all + r * inner + at) =
                    __ldcg(reinterpret_cast<const float4*>(g + static_cast<Index>(r) * N + at));
        else
            for (int at = lane; at < N; at += warp_size)
                g_all[r * inner + at] = __ldcg(g + static_cast<Index>(r) * N + at);
}

template <int lane_columns, int R>
__global__ void __launch_bounds__(most_threads, 1)
    backward_steps_kernel(const BackwardArrays a, const int columns, const int S, const int padded, const int slices,
                          const int inner, const int team_size, const TeamKind kind, unsigned* counters) {
    const int N = a.N, words = (N + 31) / 32, thread = static_cast<int>(threadIdx.x), lane = thread % warp_size;
    const int threads = static_cast<int>(blockDim.x);
    const int rank = static_cast<int>(blockIdx.x) % team_size, team_number = static_cast<int>(blockIdx.x) / team_size;
    const int teams = static_cast<int>(gridDim.x) / team_size;
    const int copies = kind == TeamKind::cluster ? 2 : 1;
    auto* w = dynamic_shared<float>();               // [inner, columns]
    float* g_all = w + inner * columns;              // [copies, padded, inner]
    float* parts = g_all + copies * padded * inner;  // [slices, padded, columns]
    Team team{kind, static_cast<unsigned>(team_size), counters + team_number * counter_stride};

    for (int at = thread; at < inner * columns; at += threads) {
        const int post = at / columns, pre = rank * columns + at % columns;
        w[at] = post < N && pre < N ? a.call.w_rec[static_cast<Index>(post) * N + pre] : 0.0f;
    }
    for (int at = thread; at < copies * padded * inner; at += threads) g_all[at] = 0.0f;
    // No block of a cluster may write into a block that has not started.
    if (kind == TeamKind::cluster) cluster_barrier();
    __syncthreads();

    // This thread's neuron and sequence. Threads beyond S * columns only take part in the product.
    const int column = thread % columns, slot = thread / columns, j = rank * columns + column;
    const bool neuron = slot < S && j < N;
    const float alpha = neuron ? a.call.neurons.alpha[j] : 0.0f, beta = neuron ? a.call.neurons.beta[j] : 0.0f;
    const float theta = a.call.model.threshold, limit = a.call.adjoint_limit ? *a.call.adjoint_limit : 0.0f;
    // This warp's part of the product.
    const int groups = columns / warp_size, warp = thread / warp_size;
    constexpr int unit = 4 * lane_columns;  // of the inner length
    const int group = warp % groups, slice = warp / groups, units = inner / unit;
    const int begin = slice * units / slices * unit, length = (slice + 1) * units / slices * unit - begin;

    int copy = 0;  // of g, in this step
    for (Index first = static_cast<Index>(team_number) * S; first < a.b; first += static_cast<Index>(teams) * S) {
        const Index s = first + slot, row = s * N + j, step = a.b * N;
        const bool active = neuron && s < a.b;
        float di = active ? a.call.di[row] : 0.0f, du = active ? a.call.du[row] : 0.0f;
        const int here = static_cast<int>(a.b - first < S ? a.b - first : S);  // sequences of this group
        float u_now = active ? a.call.u[a.call.steps * step + row] : 0.0f;
        StepInputs next;
        if (active) next = inputs_of(a, a.call.steps, row, step);
        for (Index t = a.call.steps; t >= 1; --t) {
            const StepInputs in = next;
            const float u_before = in.u_before;
            if (active && t > 1) next = inputs_of(a, t - 1, row, step);
            du = with_injections(a, in, u_now, du);
            if (a.partial) {
                const double square = warp_sum(static_cast<double>(di) * di + static_cast<double>(du) * du);
                double* const squares = a.partial + (t * a.b + s) * words;
                if (slot < S && s < a.b && lane == 0 && j / 32 < words) squares[j / 32] = square;
                if (limit > 0.0f) {
                    team.wait();
                    double all = 0.0;
                    if (slot < S && s < a.b)
                        for (int at = lane; at < words; at += warp_size) all += __ldcg(squares + at);
                    const double norm = sqrt(warp_sum(all));
                    const float factor = norm <= limit ? 1.0f : static_cast<float>(limit / norm);
                    di *= factor;
                    du *= factor;
                }
            }
            const float c = reset_factor(a.call.model.reset, spike(u_before, theta));
            const float dv = du * factor_after(a.call.model.reset_delay, c);
            const float g = fmaf(1.0f - beta, dv, di);
            di = alpha * g;
            du = beta * (factor_before(a.call.model.reset_delay, c) * dv);
            if (active) a.g[(t - 1) * step + row] = g;
            float* const g_now = g_all + copy * padded * inner;
            copy = copies - 1 - copy;
            if (slot < S && j < inner) {
                if (kind == TeamKind::block) g_now[slot * inner + j] = g;
                for (int peer = 0; kind == TeamKind::cluster && peer < team_size; ++peer)
                    cluster_peer(g_now, static_cast<unsigned>(peer))[slot * inner + j] = g;
            }
            team.wait();
            if (kind == TeamKind::grid) {
                gather_adjoints(a.g + (t - 1) * step + first * N, here, N, inner, g_now);
                __syncthreads();
            }
            for (int r = 0; r < padded && slice < slices; r += R) {
                const float* const g_part = g_now + r * inner + begin;
                const float* const w_part = w + begin * columns + group * warp_size;
                float* const out = parts + (slice * padded + r) * columns + group * warp_size;
                if constexpr (lane_columns == 1)
                    multiply_columns<R>(g_part, inner, length, w_part, columns, out);
                else
                    multiply_tiles<R>(g_part, inner, length, w_part, columns, out);
            }
            __syncthreads();
            if (active) {
                float back = 0.0f;
                for (int part = 0; part < slices; ++part) back += parts[(part * padded + slot) * columns + column];
                du = fmaf(surrogate_psi(a.call.model.surrogate, u_before - theta, a.call.model.sharpness), back, du);
            }
            u_now = u_before;
        }
        if (active) {
            a.call.di[row] = di;
            a.call.du[row] = du;
        }
        __syncthreads();  // all parts have been read
    }
}

// squares[row] = the sum of partial [rows, words], in order.
__global__ void add_partial_squares_kernel(Index rows, int words, const double* partial, double* squares) {
    for (Index row = first_element(); row < rows; row += element_stride()) {
        double sum = 0.0;
        for (int w = 0; w < words; ++w) sum += partial[row * words + w];
        squares[row] = sum;
    }
}

template <int lane_columns>
auto kernel_of(int S) {
    switch (sequences_at_once(S)) {
        case 1: return backward_steps_kernel<lane_columns, 1>;
        case 2: return backward_steps_kernel<lane_columns, 2>;
        case 4: return backward_steps_kernel<lane_columns, 4>;
        default: return backward_steps_kernel<lane_columns, 8>;
    }
}
auto kernel_for(int lane_columns, int S) { return lane_columns == 1 ? kernel_of<1>(S) : kernel_of<4>(S); }

// Enough slices to give every neuron and sequence a thread, and short ones that keep all warps busy.
void measure_backward(int N, int lane_columns, TeamPlan& plan) {
    const int groups = plan.columns / warp_size, most = most_threads / warp_size / groups;
    plan.slices = std::max(plan.sequences, std::clamp(N / 16, 1, std::max(1, std::min(8, most))));
    plan.threads = warp_size * groups * plan.slices;
    plan.shared = BackwardShared(N, plan, lane_columns).bytes(plan);
}

// Predicted cycles of the product of a step of one block. Loads from shared memory limit it: one of 16 bytes takes four
// cycles if each lane has its own address, and two if few addresses differ. For 16 inner values and R sequences, a warp
// with one column a lane loads 16 rows of W and 4 R times g. With four columns a lane it loads 4 rows and R times g;
// then its multiply-adds take 4 R cycles of all schedulers, and the sums are exchanged at the end.
double product_cycles(const BackwardShared& shared, const TeamPlan& plan, int lane_columns) {
    const int R = sequences_at_once(plan.sequences);
    const double sixteen = lane_columns == 1 ? 16.0 + 8.0 * R : std::max(16.0 + 2.0 * R, 4.0 * R);
    const double at_the_end = lane_columns == 1 ? 0.0 : 4.0 * R * plan.slices;
    return plan.columns / 32.0 * (shared.padded / R) * (shared.inner / 16.0 * sixteen + at_the_end);
}

// Predicted microseconds of one step of one round at 1.75 GHz. Blocks of a grid also gather g through the second-level
// cache. Those of a cluster write it into each other's shared memory, at a fifth of that time.
double backward_time(int N, int lane_columns, const TeamPlan& plan) {
    const double gather = 0.5 + 4.0 * N * plan.sequences / 60e3;
    return 0.35 + product_cycles(BackwardShared(N, plan, lane_columns), plan, lane_columns) / 1750.0 +
           (plan.kind == TeamKind::grid      ? gather
            : plan.kind == TeamKind::cluster ? gather / 5.0
                                             : 0.0);
}

std::optional<TeamPlan> plan_of(const Device& device, const StatePlan& plan, int lane_columns) {
    const int N = static_cast<int>(plan.N);
    return plan_teams(
        device, plan.N, plan.b,
        {most_threads, [&](TeamPlan& p) { measure_backward(N, lane_columns, p); },
         [&](const TeamPlan& p) { return teams_at_once(kernel_for(lane_columns, p.sequences), p, device); },
         [&](const TeamPlan& p) { return backward_time(N, lane_columns, p); }, stepwise_backward_time(plan.N, plan.b)});
}

template <int lane_columns>
class TeamBackward final : public StateBackward {
public:
    TeamBackward(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          team_(plan_of(backend.device(), plan, lane_columns).value()),
          words_(static_cast<int>(spike_words(plan.N))),
          adjoint_(memory, plan.steps * plan.b * plan.N),
          partial_(memory, (plan.steps + 1) * plan.b * words_),
          counters_(memory, team_.teams * counter_stride) {}

    void run(const StateBackwardCall& call, const std::function<void()>& recurrent_done) override {
        run_backward(
            backend_, plan_, call, adjoint_.data(), [&] { take_steps(call); }, recurrent_done);
    }

private:
    void take_steps(const StateBackwardCall& call) {
        const Index b = plan_.b, N = plan_.N;
        if (team_.kind == TeamKind::grid) counters_.zero();
        const BackwardArrays arrays{call, b, static_cast<int>(N), adjoint_.data(),
                                    call.squares || call.adjoint_limit ? partial_.data() : nullptr};
        const BackwardShared shared(arrays.N, team_, lane_columns);
        launch(launch_of(team_, backend_.stream()), kernel_for(lane_columns, team_.sequences), arrays, team_.columns,
               team_.sequences, shared.padded, team_.slices, shared.inner, team_.size, team_.kind, counters_.data());
        if (call.squares) {
            const Index rows = call.steps * b;  // t = 1..steps
            launch({.grid = grid_for(rows, 128), .block = dim3(128), .stream = backend_.stream()},
                   add_partial_squares_kernel, rows, words_, static_cast<const double*>(partial_.data() + b * words_),
                   call.squares + b);
        }
    }

    CudaBackend& backend_;
    StatePlan plan_;
    TeamPlan team_;
    int words_;
    Buffer<float> adjoint_;      // [steps, b, N]
    Buffer<double> partial_;     // [steps+1, b, words]
    Buffer<unsigned> counters_;  // of the waits of teams
};

}  // namespace

template <int lane_columns>
StepTime team_backward_time(CudaBackend& backend, const StatePlan& plan) {
    if (backend.sums() != Sums::float32) return std::nullopt;
    const std::optional<TeamPlan> team = plan_of(backend.device(), plan, lane_columns);
    return team ? StepTime(team->microseconds) : std::nullopt;
}
template <int lane_columns>
std::unique_ptr<StateBackward> team_backward(CudaBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<TeamBackward<lane_columns>>(backend, plan, memory);
}
template StepTime team_backward_time<1>(CudaBackend&, const StatePlan&);
template StepTime team_backward_time<4>(CudaBackend&, const StatePlan&);
template std::unique_ptr<StateBackward> team_backward<1>(CudaBackend&, const StatePlan&, Memory&);
template std::unique_ptr<StateBackward> team_backward<4>(CudaBackend&, const StatePlan&, Memory&);

}  // namespace spikefloss
