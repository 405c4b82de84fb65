// Whole passes over time on the CPU. A thread takes its own sequences through all steps of a chunk, without a barrier.
// If W fits no cache of a core and there are few sequences, a team of threads shares a group of sequences: each member
// has its own neurons, and they wait for each other in every step. W is then read once for the whole group.
//   forwards   recurrent sums by spikes: every spike of neuron j adds row j of W' (stored as [pre, post])
//   backwards  W' g as a product of the group's sequences with W; then dW' += s g' by spikes, where each thread takes
//              its own post-synaptic neurons
// W is stored in panels of columns, so that a panel is loaded once for all sequences of a group. No sum depends on the
// number of threads. StateLoop of src/network is the reference. Tests check that both give the same result. Neurons
// that adapt or have thresholds of their own (plan.adapted) take the backend's operations of a step, one row at a time.
#include "backend/buffer.hpp"
#include "backend/cpu_passes.hpp"
#include "backend/cpu_state_pass.hpp"
#include "backend/cpu_team.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// A row of an array that not every network has.
template <class T>
T* row_of(T* array, Index offset) {
    return array ? array + offset : nullptr;
}

// Threads do not share words of spikes.
constexpr Index word = 32;

// Whether teams share groups of sequences: if W is larger than a cache of 2 MiB, or if each thread would have at most
// two sequences. Both were measured with two threads; with 512 neurons and more sequences sharing took longer.
bool shares_groups(const StatePlan& plan, int threads) {
    return plan.N >= 768 || (plan.N >= 512 && plan.b <= 2 * threads);
}

Index groups_of(Index sequences) { return (sequences + largest_group - 1) / largest_group; }

// Calls work(member, first, size) for groups of sequences that take `steps` steps. share: a group can have several
// threads.
template <class Work>
void for_every_group(int most, const StatePlan& plan, Index steps, bool share, Work&& work) {
    const Index b = plan.b;
    const int threads = static_cast<int>(threads_for_steps(most, plan, steps));
    const bool shared = share && shares_groups(plan, threads) && threads >= 2 * groups_of(b);
    const Index teams = shared ? groups_of(b) : std::min<Index>(threads, b);
    for_every_team(shared ? threads : static_cast<int>(teams), teams, [&](Index team, const Member& member) {
        const Index end = b * (team + 1) / teams;
        for (Index first = b * team / teams; first < end; first += largest_group)
            work(member, first, std::min(largest_group, end - first));
    });
}

class RowForward final : public StateForward {
public:
    RowForward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          width_(padded(plan.N)),
          list_{largest_group, plan.N,  spike_block, largest_group * spike_block + spare_places,
                nullptr,       nullptr, nullptr},
          entries_of_group_(list_.blocks() * list_.capacity),
          ends_of_group_(list_.blocks() * (largest_group + 1)),
          input_(memory, plan.steps * plan.b * plan.N, Unset()),
          rows_(memory, panels_size(plan.N, plan.N), Unset()),
          sums_(memory, backend.threads() * largest_group * width_),
          entries_(memory, backend.threads() * entries_of_group_),
          ends_(memory, backend.threads() * ends_of_group_) {}

    void run(const StateForwardCall& call) override {
        project_inputs(backend_, plan_, call, input_.data());
        if (!backend_.counting()) take_steps(call);
        project_readout(backend_, plan_, call, spikes_from(plan_, call.bits, 1));
    }

private:
    void take_steps(const StateForwardCall& call) {
        pack_transposed(backend_.threads(), {call.w_rec, plan_.N, plan_.N}, panels_of(width_), word, rows_.data());
        for_every_group(backend_.threads(), plan_, call.steps, !plan_.adapted,
                        [&](const Member& member, Index first, Index size) { run_group(call, member, first, size); });
    }
    // Sequences [first, first + group) through all steps, the neurons of the panels of `member`.
    void run_group(const StateForwardCall& call, const Member& member, Index first, Index group) {
        const Index b = plan_.b, N = plan_.N, words = spike_words(N), panels = panels_of(width_);
        const Member::Range mine = member.share(panels);
        const auto columns_of = [&](Index panel) { return Columns(width_, panel, panels, word); };
        const Index begin = std::min(N, columns_of(mine.begin).begin), end = std::min(N, columns_of(mine.end).begin);
        const float theta = call.model.threshold;
        float* sums = sums_.data() + member.workspace * largest_group * width_;
        SparseRows spikes = list_;
        spikes.index = entries_.data() + member.workspace * entries_of_group_;
        spikes.ends = ends_.data() + member.workspace * ends_of_group_;
        spikes.rows = group;
        const auto pack = [&](Index t, Index s) {
            const Index at = (t * b + s) * N;
            std::uint32_t* const bits = call.bits + (t * b + s) * words;
            if (plan_.adapted)
                backend_.pack_spikes(call.model, call.neurons, 1, N, {nullptr, call.u + at, row_of(call.w, at)}, bits);
            else
                pack_row(call.u + at + begin, end - begin, theta, bits + begin / word);
        };
        for (Index r = first; r < first + group; ++r) pack(0, r);
        for (Index t = 0; t < call.steps; ++t) {
            member.meet();
            const Member::Range blocks = member.share(spikes.blocks());
            for (Index c = blocks.begin; c < blocks.end; ++c)
                list_spikes(spikes, c, {.bits = call.bits + (t * b + first) * words, .stride = words});
            member.meet();
            for (Index p = mine.begin; p < mine.end; ++p) add_spikes(spikes, columns_of(p), rows_.data(), sums, width_);
            for (Index r = 0; r < group; ++r) {
                const Index s = first + r, here = (t * b + s) * N, next = here + b * N;
                const NeuronState now{call.i + t * call.i_stride + s * N, call.u + here, row_of(call.w, here)};
                const NextState then{call.i + (t + 1) * call.i_stride + s * N, call.u + next, row_of(call.w, next)};
                if (plan_.adapted)
                    backend_.neuron_step(call.model, call.neurons, 1, N, input_.data() + here, sums + r * width_, now,
                                         then);
                else
                    take_step(call.model, call.neurons, PlainBlock(theta, now.u, begin, end), input_.data() + here,
                              sums + r * width_, now, then);
                pack(t + 1, s);
            }
        }
        member.meet();
    }

    CpuBackend& backend_;
    StatePlan plan_;
    Index width_;
    SparseRows list_;  // the shape of a group's list of spikes
    Index entries_of_group_, ends_of_group_;
    Buffer<float> input_;            // [steps, b, N]
    Buffer<float> rows_;             // W' in panels
    Buffer<float> sums_;             // [threads, largest_group, width]
    Buffer<std::uint16_t> entries_;  // of the lists of the groups
    Buffer<std::uint32_t> ends_;
};

class RowBackward final : public StateBackward {
public:
    RowBackward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          width_(padded(plan.N)),
          panels_(memory, plan.N * width_, Unset()),
          filled_(memory, width_ / tile * filled_blocks(plan.N), Unset()),
          backs_(memory, backend.threads() * largest_group * width_),
          own_(memory, plan.adapted ? backend.threads() * largest_group * plan.N : 0),
          adjoint_(memory, plan.steps * plan.b * plan.N, Unset()) {}

    void run(const StateBackwardCall& call, const std::function<void()>& recurrent_done) override {
        readout_backward(backend_, plan_, call, spikes_from(plan_, call.bits, 1), adjoint_.data());
        if (!backend_.counting()) take_steps(call);
        // Lists first, also where N is small.
        backend_.add_outer({adjoint_.data(), call.steps * plan_.b, plan_.N}, spikes_from(plan_, call.bits, 0),
                           call.d_w_rec, true);
        if (recurrent_done) recurrent_done();
        inputs_backward(backend_, plan_, call, adjoint_.data());
    }

private:
    void take_steps(const StateBackwardCall& call) {
        const Index N = plan_.N;
        pack_panels(backend_.threads(), {call.w_rec, N, N}, panels_.data());
        some_empty_ = find_filled(backend_.threads(), panels_.data(), width_ / tile, N, filled_.data());
        // Norms and the cap need all neurons of a sequence.
        const bool share = !plan_.adapted && !call.squares && !call.adjoint_limit;
        with_surrogate(call.model.surrogate, [&](auto surrogate) {
            for_every_group(
                backend_.threads(), plan_, call.steps, share, [&](const Member& member, Index first, Index group) {
                    float* const back = backs_.data() + member.workspace * largest_group * width_;
                    if (plan_.adapted)
                        run_adapted(call, back, own_.data() + member.workspace * largest_group * N, first, group);
                    else
                        run_group<decltype(surrogate)>(call, member, back, first, group);
                });
        });
    }
    // Sequences [first, first + group) through all steps, the neurons of `member`.
    template <class S>
    void run_group(const StateBackwardCall& call, const Member& member, float* back, Index first, Index group) {
        const Index N = plan_.N;
        const auto [begin, padded_end] = member.share(width_, word);
        const Index end = std::min(N, padded_end);
        for (Index t = call.steps; t >= 1; --t) {
            const Index before = ((t - 1) * plan_.b + first) * N;
            float* g = adjoint_.data() + before;
            for (Index r = 0; r < group; ++r)
                take_step_back<S>(backend_, plan_, call, t, first + r, call.dz ? g + r * N : nullptr, g + r * N, begin,
                                  end);
            member.meet();
            multiply(group, padded_end - begin, N, {g, N, 1}, panels_from(begin), back + begin, width_, false);
            for (Index r = 0; r < group; ++r)
                add_through_psi<S>(call.model, end - begin, call.u + before + r * N + begin, back + r * width_ + begin,
                                   call.du + (first + r) * N + begin);
        }
    }

    RightFactor panels_from(Index column) const {
        const std::uint8_t* const filled = filled_.data() + column / tile * filled_blocks(plan_.N);
        return {panels_.data() + column * plan_.N, tile, plan_.N * tile, some_empty_ ? filled : nullptr};
    }

    // The same for adapted neurons, as in StateLoop. own: a_s gw of the group.
    void run_adapted(const StateBackwardCall& call, float* back, float* own, Index first, Index group) {
        const Index b = plan_.b, N = plan_.N;
        const auto adjoint = [&](Index s) -> StateAdjoint {
            return {call.di + s * N, call.du + s * N, row_of(call.dw, s * N)};
        };
        const auto state = [&](Index t, Index s) -> NeuronState {
            return {nullptr, call.u + (t * b + s) * N, row_of(call.w, (t * b + s) * N)};
        };
        const auto add = [&](Index t, Index r, const float* from_readout, const float* extra) {
            const bool through_spikes = t < call.steps;
            backend_.add_adjoints(call.model, call.neurons, call.readout, 1, N, state(t, first + r),
                                  through_spikes ? back + r * width_ : nullptr,
                                  through_spikes && call.dw ? own + r * N : nullptr, from_readout, extra,
                                  adjoint(first + r), {});
        };
        for (Index t = call.steps; t >= 1; --t) {
            float* const g = adjoint_.data() + ((t - 1) * b + first) * N;
            for (Index r = 0; r < group; ++r) {
                const Index s = first + r;
                const StateAdjoint d = adjoint(s);
                add(t, r, call.dz ? g + r * N : nullptr, row_of(call.extra, (t * b + s) * N));
                limit_adjoint(backend_, plan_, call, t, s, d);
                backend_.neuron_step_backward(call.model, call.neurons, 1, N, state(t - 1, s), state(t, s), d,
                                              g + r * N, own + r * N, {});
            }
            multiply(group, width_, N, {g, N, 1}, panels_from(0), back, width_, false);
        }
        for (Index r = 0; r < group; ++r) add(0, r, nullptr, nullptr);
    }

    CpuBackend& backend_;
    StatePlan plan_;
    Index width_;
    Buffer<float> panels_;         // of W
    Buffer<std::uint8_t> filled_;  // its blocks that are not 0
    bool some_empty_ = false;
    Buffer<float> backs_;    // [threads, largest_group, width]
    Buffer<float> own_;      // [threads, largest_group, N], of adapted neurons
    Buffer<float> adjoint_;  // [steps, b, N]: from the readout, then g
};

}  // namespace

std::unique_ptr<StateForward> row_forward(CpuBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<RowForward>(backend, plan, memory);
}
std::unique_ptr<StateBackward> row_backward(CpuBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<RowBackward>(backend, plan, memory);
}

}  // namespace spikefloss
