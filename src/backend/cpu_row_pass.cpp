// Whole passes over time on the CPU. A thread takes its own sequences through all steps of a chunk, without a barrier.
//   forwards   recurrent sums by spikes: every spike of neuron j adds row j of W' (stored as [pre, post])
//   backwards  W' g as a product of the thread's sequences with W; then dW' += s g' by spikes, where each thread takes
//              its own post-synaptic neurons
// W is stored in panels of columns, so that a panel is loaded once for all sequences of a thread. No sum depends on the
// number of threads. StateLoop of src/network is the reference. Tests check that both give the same result. Neurons
// that adapt or have thresholds of their own (plan.adapted) take the backend's operations of a step, one row at a time.
#include "backend/buffer.hpp"
#include "backend/cpu_passes.hpp"
#include "backend/cpu_state_pass.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// A row of an array that not every network has.
template <class T>
T* row_of(T* array, Index offset) {
    return array ? array + offset : nullptr;
}

class RowForward final : public StateForward {
public:
    RowForward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          width_(padded(plan.N)),
          list_{largest_group, plan.N,  spike_block, largest_group * spike_block + spare_places,
                nullptr,       nullptr, nullptr},
          entries_of_thread_(list_.blocks() * list_.capacity),
          ends_of_thread_(list_.blocks() * (largest_group + 1)),
          input_(memory, plan.steps * plan.b * plan.N, Unset()),
          rows_(memory, panels_size(plan.N, plan.N), Unset()),
          sums_(memory, backend.threads() * largest_group * width_),
          entries_(memory, backend.threads() * entries_of_thread_),
          ends_(memory, backend.threads() * ends_of_thread_) {}

    void run(const StateForwardCall& call) override {
        project_inputs(backend_, plan_, call, input_.data());
        if (!backend_.counting()) take_steps(call);
        project_readout(backend_, plan_, call, spikes_from(plan_, call.bits, 1));
    }

private:
    void take_steps(const StateForwardCall& call) {
        pack_transposed(backend_.threads(), {call.w_rec, plan_.N, plan_.N}, rows_.data());
        const Index b = plan_.b, parts = std::min<Index>(backend_.threads(), b);
#pragma omp parallel for num_threads(static_cast<int>(std::max<Index>(1, parts))) schedule(static)
        for (Index part = 0; part < parts; ++part) {
            const Index end = b * (part + 1) / parts;
            for (Index first = b * part / parts; first < end; first += largest_group)
                run_group(call, part, first, std::min(largest_group, end - first));
        }
    }
    // Sequences [first, first + group) through all steps, by thread `part`.
    void run_group(const StateForwardCall& call, Index part, Index first, Index group) {
        const Index b = plan_.b, N = plan_.N, words = spike_words(N), panels = panels_of(width_);
        const float theta = call.model.threshold;
        float* sums = sums_.data() + part * largest_group * width_;
        SparseRows spikes = list_;
        spikes.index = entries_.data() + part * entries_of_thread_;
        spikes.ends = ends_.data() + part * ends_of_thread_;
        spikes.rows = group;
        const auto pack = [&](Index t, Index s) {
            const Index at = (t * b + s) * N;
            std::uint32_t* const bits = call.bits + (t * b + s) * words;
            if (plan_.adapted)
                backend_.pack_spikes(call.model, call.neurons, 1, N, {nullptr, call.u + at, row_of(call.w, at)}, bits);
            else
                pack_row(call.u + at, N, theta, bits);
        };
        for (Index r = first; r < first + group; ++r) pack(0, r);
        for (Index t = 0; t < call.steps; ++t) {
            for (Index c = 0; c < spikes.blocks(); ++c)
                list_spikes(spikes, c, {.bits = call.bits + (t * b + first) * words, .stride = words});
            for (Index p = 0; p < panels; ++p)
                add_spikes(spikes, Columns(width_, p, panels), rows_.data(), sums, width_);
            for (Index r = 0; r < group; ++r) {
                const Index s = first + r, here = (t * b + s) * N, next = here + b * N;
                const NeuronState now{call.i + t * call.i_stride + s * N, call.u + here, row_of(call.w, here)};
                const NextState then{call.i + (t + 1) * call.i_stride + s * N, call.u + next, row_of(call.w, next)};
                if (plan_.adapted)
                    backend_.neuron_step(call.model, call.neurons, 1, N, input_.data() + here, sums + r * width_, now,
                                         then);
                else
                    take_step(call.model, call.neurons, PlainBlock(theta, now.u, N), input_.data() + here,
                              sums + r * width_, now, then);
                pack(t + 1, s);
            }
        }
    }

    CpuBackend& backend_;
    StatePlan plan_;
    Index width_;
    SparseRows list_;  // the shape of a thread's list of spikes
    Index entries_of_thread_, ends_of_thread_;
    Buffer<float> input_;            // [steps, b, N]
    Buffer<float> rows_;             // W' in panels
    Buffer<float> sums_;             // [threads, largest_group, width]
    Buffer<std::uint16_t> entries_;  // of the lists of the threads
    Buffer<std::uint32_t> ends_;
};

class RowBackward final : public StateBackward {
public:
    RowBackward(CpuBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          width_(padded(plan.N)),
          panels_(memory, plan.N * width_, Unset()),
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
        const Index b = plan_.b, N = plan_.N, parts = std::min<Index>(backend_.threads(), b);
        pack_panels(backend_.threads(), call.w_rec, N, panels_.data());
        with_surrogate(call.model.surrogate, [&](auto surrogate) {
#pragma omp parallel for num_threads(static_cast<int>(std::max<Index>(1, parts))) schedule(static)
            for (Index part = 0; part < parts; ++part) {
                float* back = backs_.data() + part * largest_group * width_;
                const Index end = b * (part + 1) / parts;
                for (Index first = b * part / parts; first < end; first += largest_group) {
                    const Index group = std::min(largest_group, end - first);
                    if (plan_.adapted)
                        run_adapted(call, back, own_.data() + part * largest_group * N, first, group);
                    else
                        run_group<decltype(surrogate)>(call, back, first, group);
                }
            }
        });
    }
    // Sequences [first, first + group) through all steps.
    template <class S>
    void run_group(const StateBackwardCall& call, float* back, Index first, Index group) {
        const Index N = plan_.N;
        for (Index t = call.steps; t >= 1; --t) {
            const Index before = ((t - 1) * plan_.b + first) * N;
            float* g = adjoint_.data() + before;
            for (Index r = 0; r < group; ++r)
                take_step_back<S>(backend_, plan_, call, t, first + r, call.dz ? g + r * N : nullptr, g + r * N);
            multiply(group, width_, N, {g, N, 1}, {panels_.data(), tile, N * tile}, back, width_, false);
            for (Index r = 0; r < group; ++r)
                add_through_psi<S>(call.model, N, call.u + before + r * N, back + r * width_,
                                   call.du + (first + r) * N);
        }
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
            multiply(group, width_, N, {g, N, 1}, {panels_.data(), tile, N * tile}, back, width_, false);
        }
        for (Index r = 0; r < group; ++r) add(0, r, nullptr, nullptr);
    }

    CpuBackend& backend_;
    StatePlan plan_;
    Index width_;
    Buffer<float> panels_;   // of W
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
