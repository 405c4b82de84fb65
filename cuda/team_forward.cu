// The forward pass of one rank that holds all neurons. One launch takes all steps:
//
//   i[t+1] = alpha i[t] + (input[t] + W s[t]) + bias
//   u[t+1] = reset(beta u[t] + (1-beta) i[t+1]),   s[t] = u[t] > theta
//
// W stays in shared memory, as [pre, post]. Each block of a team (team_plan.hpp) holds the columns of some
// post-synaptic neurons. The kernel loops over time. A thread owns one neuron of one sequence and keeps its state in
// registers. Spikes are exchanged as words of 32 bits: in the shared memory of the block, in that of all blocks of a
// cluster, or through the tape in global memory. Each warp turns the words of its sequence into a list and adds one row
// of W per spike. This takes about rate * N additions; a dense product takes N. A step has one barrier. The input of a
// step is copied to shared memory three steps before, because a step may take less time than a load.
#include "kernel.cuh"
#include "passes.hpp"
#include "team_plan.hpp"

#include "backend/buffer.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

// Words that a warp turns into a list at once, one for each lane.
constexpr int words_at_once = 32;

constexpr int most_threads = 1024;

// Steps whose input is in shared memory or on the way there; a power of two.
constexpr int input_steps = 4;

struct ForwardArrays {
    StateForwardCall call;
    Index b;
    int N;
    const float* input;  // [steps, b, N]
};

// Shared memory of a block: W' [N + 1, columns + 1] (the last row is 0; rows are padded against bank conflicts), the
// words of its sequences at this and the previous step [2, S, words], the inputs [input_steps, threads], and one list
// of spikes per warp.
struct ForwardShared {
    int stride, words, list;
    __host__ __device__ ForwardShared(int N, int columns)
        : stride(columns + 1), words((N + 31) / 32), list(32 * (words < words_at_once ? words : words_at_once) + 4) {}
    __host__ __device__ std::size_t w_bytes(int N) const {
        return (static_cast<std::size_t>(N + 1) * static_cast<std::size_t>(stride) * sizeof(float) + 15) / 16 * 16;
    }
    __host__ __device__ std::size_t mask_bytes(int S) const {
        return (2 * static_cast<std::size_t>(S * words) * sizeof(std::uint32_t) + 15) / 16 * 16;
    }
    __host__ __device__ static std::size_t input_bytes(int threads) {
        return sizeof(float) * input_steps * static_cast<std::size_t>(threads);
    }
    __host__ __device__ std::size_t list_bytes(int threads) const {
        return static_cast<std::size_t>(threads / warp_size * list) * sizeof(std::uint16_t);
    }
};

// Writes the indices of the set bits of words [first, first + 32) to the warp's list, then `none` up to a multiple of
// four. Returns the number of set bits. `mask` of lane l is word first + l.
__device__ int list_spikes(std::uint32_t mask, int first, std::uint16_t none, std::uint16_t* list) {
    const int lane = static_cast<int>(threadIdx.x % warp_size), count = __popc(mask);
    int end = count;  // inclusive sum over lanes
    for (int offset = 1; offset < warp_size; offset *= 2) {
        const int before = __shfl_up_sync(all_lanes, end, static_cast<unsigned>(offset));
        if (lane >= offset) end += before;
    }
    const int total = __shfl_sync(all_lanes, end, warp_size - 1);
    __syncwarp();  // all lanes have read the list before it changes
    for (int at = end - count; mask; mask &= mask - 1)
        list[at++] = static_cast<std::uint16_t>((first + lane) * 32 + __ffs(static_cast<int>(mask)) - 1);
    if (lane < 3) list[total + lane] = none;
    __syncwarp();
    return total;
}

__global__ void __launch_bounds__(most_threads, 1)
    forward_steps_kernel(const ForwardArrays a, const int columns, const int S, const int team_size,
                         const TeamKind kind, unsigned* counters) {
    const StateForwardCall& call = a.call;
    const int N = a.N, lane = static_cast<int>(threadIdx.x % warp_size);
    const int rank = static_cast<int>(blockIdx.x) % team_size, team_number = static_cast<int>(blockIdx.x) / team_size;
    const int teams = static_cast<int>(gridDim.x) / team_size;
    const int threads = static_cast<int>(blockDim.x);
    const ForwardShared layout(N, columns);
    auto* memory = dynamic_shared<unsigned char>();
    auto* w = reinterpret_cast<float*>(memory);
    memory += layout.w_bytes(N);
    auto* masks = reinterpret_cast<std::uint32_t*>(memory);
    memory += layout.mask_bytes(S);
    auto* inputs = reinterpret_cast<float*>(memory) + threadIdx.x;
    memory += layout.input_bytes(threads);
    auto* list = reinterpret_cast<std::uint16_t*>(memory) + static_cast<int>(threadIdx.x) / warp_size * layout.list;
    Team team{kind, static_cast<unsigned>(team_size), counters + team_number * counter_stride};

    // W' of this block's columns. Columns beyond N and the row after the last are 0.
    for (int at = static_cast<int>(threadIdx.x); at < columns * (N + 1); at += threads) {
        const int column = at / (N + 1), pre = at % (N + 1), post = rank * columns + column;
        w[pre * layout.stride + column] = post < N && pre < N ? call.w_rec[static_cast<Index>(post) * N + pre] : 0.0f;
    }
    const int column = static_cast<int>(threadIdx.x) % columns, slot = static_cast<int>(threadIdx.x) / columns;
    const int j = rank * columns + column, word = j / 32;
    const bool neuron = j < N;
    const float alpha = neuron ? call.neurons.alpha[j] : 0.0f, beta = neuron ? call.neurons.beta[j] : 0.0f,
                bias = neuron ? call.neurons.bias[j] : 0.0f, theta = call.model.threshold;
    // No block of a cluster may write into a block that has not started.
    if (kind == TeamKind::cluster) cluster_barrier();
    __syncthreads();

    unsigned phase = 0;  // which half of `masks` this step uses
    for (Index first = static_cast<Index>(team_number) * S; first < a.b; first += static_cast<Index>(teams) * S) {
        const Index s = first + slot;
        const bool active = neuron && s < a.b;
        const Index row = s * N + j, step = a.b * N;
        float i = active ? call.i[row] : 0.0f, u = active ? call.u[row] : 0.0f;
        const auto input_of = [&](Index t) { return inputs + static_cast<int>(t % input_steps) * threads; };
        const auto fetch_input = [&](Index t) {
            if (active && t < call.steps) copy_async(input_of(t), a.input + t * step + row);
            commit_copies();
        };
        for (Index t = 0; t < input_steps - 1; ++t) fetch_input(t);
        for (Index t = 0;; ++t) {
            const std::uint32_t spikes = __ballot_sync(all_lanes, active && u > theta);
            std::uint32_t* const tape = call.bits + (t * a.b + s) * layout.words;
            if (lane == 0 && s < a.b && word < layout.words) tape[word] = spikes;
            if (t == call.steps) break;
            std::uint32_t* const now = masks + (phase * static_cast<unsigned>(S) + static_cast<unsigned>(slot)) *
                                                   static_cast<unsigned>(layout.words);
            phase ^= 1u;
            if (kind == TeamKind::block && lane == 0 && word < layout.words) now[word] = spikes;
            if (kind == TeamKind::cluster && lane < team_size && word < layout.words)
                cluster_peer(now, static_cast<unsigned>(lane))[word] = spikes;
            team.wait();
            fetch_input(t + input_steps - 1);
            float sum = 0.0f;
            for (int at = 0; at < layout.words; at += words_at_once) {
                std::uint32_t mask = 0;
                if (at + lane < layout.words && s < a.b)
                    mask = kind == TeamKind::grid ? __ldcg(tape + at + lane) : now[at + lane];
                const int count = list_spikes(mask, at, static_cast<std::uint16_t>(N), list);
                for (int k = 0; k < count; k += 4) {
                    const ushort4 pre = *reinterpret_cast<const ushort4*>(list + k);
                    const float w0 = w[pre.x * layout.stride + column], w1 = w[pre.y * layout.stride + column],
                                w2 = w[pre.z * layout.stride + column], w3 = w[pre.w * layout.stride + column];
                    sum = (((sum + w0) + w1) + w2) + w3;
                }
            }
            wait_copies<input_steps - 1>();
            const float total = ((active ? *input_of(t) : 0.0f) + sum) + bias;
            i = next_current(alpha, i, total);
            u = next_membrane(call.model, beta, u, i);
            if (active) {
                call.u[(t + 1) * step + row] = u;
                if (call.i_stride) call.i[(t + 1) * call.i_stride + row] = i;
            }
        }
        if (active && !call.i_stride) call.i[row] = i;
    }
}

// Predicted microseconds of one step of one round at 1.75 GHz, with spikes of 8 % of the neurons: the list and the
// neuron take 460 cycles; then the rows of W are added, four at a time. These wait for shared memory, or its bandwidth
// limits them. Through global memory the words of spikes take 0.6 us more.
double forward_time(int N, const TeamPlan& plan) {
    const int warps = plan.threads / warp_size;
    const double rows = 0.08 * N;
    const double cycles = 460.0 + std::max(90.0 * std::ceil(rows / 4.0), warps * rows);
    return cycles / 1750.0 + (plan.kind == TeamKind::grid ? 0.6 : 0.0);
}

std::optional<TeamPlan> plan_of(const Device& device, const StatePlan& plan) {
    const int N = static_cast<int>(plan.N);
    return plan_teams(device, plan.N, plan.b,
                      {most_threads,
                       [&](TeamPlan& p) {
                           const ForwardShared shared(N, p.columns);
                           p.threads = p.columns * p.sequences;
                           p.shared = shared.w_bytes(N) + shared.mask_bytes(p.sequences) +
                                      shared.input_bytes(p.threads) + shared.list_bytes(p.threads);
                       },
                       [&](const TeamPlan& p) { return teams_at_once(forward_steps_kernel, p, device); },
                       [&](const TeamPlan& p) { return forward_time(N, p); }, stepwise_forward_time(plan.N, plan.b)});
}

class TeamForward final : public StateForward {
public:
    TeamForward(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          team_(plan_of(backend.device(), plan).value()),
          input_(memory, plan.steps * plan.b * plan.N),
          counters_(memory, team_.teams * counter_stride) {}

    void run(const StateForwardCall& call) override {
        project_inputs(backend_, plan_, call, input_.data());
        if (!backend_.counting()) take_steps(call);
        project_readout(backend_, plan_, call, spikes_from(plan_, call.bits, 1));
    }

private:
    void take_steps(const StateForwardCall& call) {
        if (team_.kind == TeamKind::grid) counters_.zero();
        const ForwardArrays arrays{call, plan_.b, static_cast<int>(plan_.N), input_.data()};
        launch(launch_of(team_, backend_.stream()), forward_steps_kernel, arrays, team_.columns, team_.sequences,
               team_.size, team_.kind, counters_.data());
    }

    CudaBackend& backend_;
    StatePlan plan_;
    TeamPlan team_;
    Buffer<float> input_;        // [steps, b, N]
    Buffer<unsigned> counters_;  // of the waits of teams
};

}  // namespace

StepTime team_forward_time(CudaBackend& backend, const StatePlan& plan) {
    if (backend.sums() != Sums::float32) return std::nullopt;
    const std::optional<TeamPlan> team = plan_of(backend.device(), plan);
    return team ? StepTime(team->microseconds) : std::nullopt;
}
std::unique_ptr<StateForward> team_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<TeamForward>(backend, plan, memory);
}

}  // namespace spikefloss
