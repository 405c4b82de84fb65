// delayed_copy and delayed_xor: remember one bit, or two, of a random bit stream for d steps.
//
//   c[t] = bit t / steps_per_bit, the bits i.i.d. with probability 1/2
//   target[t] = c[t-d]  (copy)   or   c[t-d/2] xor c[t-d]  (xor),   mask[t] = 1 for t >= d
//
// Input coding `direct`: M = 1, x = c. Coding `spikes`: inputs 0 .. M/2-1 code the bit 0, M/2 .. M-1 the bit 1. At
// every step each input of the current bit's population spikes with probability rate_active, the others with
// rate_silent. O = 1, binary cross-entropy.
#include "core/error.hpp"
#include "tasks/factories.hpp"
#include "tasks/sequence_random.hpp"

namespace spikefloss {

namespace {

class DelayedBits final : public Task {
public:
    explicit DelayedBits(const TaskSettings& settings)
        : settings_(settings),
          steps_(delayed_bits_steps(settings)),
          delay_(whole_steps(settings.delay, settings.dt, "task.delay")) {}

    Index steps() const override { return steps_; }
    Index inputs() const override { return settings_.inputs; }
    Index outputs() const override { return 1; }
    LossKind loss() const override { return LossKind::binary_cross_entropy; }

    Batch sample(Purpose purpose, std::int64_t step, Index, BlockRange sequences) const override {
        const Index T = steps(), b = sequences.size(), M = inputs(), d = delay_, s = settings_.steps_per_bit;
        Batch result;
        result.steps = T, result.sequences = b, result.inputs = M, result.outputs = 1, result.loss = loss();
        result.x.resize(static_cast<std::size_t>(T * b * M));
        result.target.resize(static_cast<std::size_t>(T * b));
        result.mask = mask_from(d, T, b);
        for (Index j = 0; j < b; ++j) {
            const SequenceRandom random(settings_.seed, purpose, step, sequences.begin + j);
            const auto bit = random.bits((T + s - 1) / s);
            for (Index t = 0; t < T; ++t) {
                encode(random, t, bit[t / s], &result.x[(t * b + j) * M]);
                if (t < d) continue;
                const int other = settings_.name == TaskKind::delayed_xor ? bit[(t - d / 2) / s] : 0;
                result.target[t * b + j] = static_cast<float>(bit[(t - d) / s] ^ other);
            }
        }
        return result;
    }

private:
    // x [M] at step t, when the input bit is `bit`.
    void encode(const SequenceRandom& random, Index t, int bit, float* x) const {
        if (settings_.coding == BitCoding::direct) {
            x[0] = static_cast<float>(bit);
            return;
        }
        const Index half = settings_.inputs / 2;
        for (int value : {0, 1})
            random.draw_spikes(t, value * half, half, value == bit ? settings_.rate_active : settings_.rate_silent,
                               x + value * half);
    }

    TaskSettings settings_;
    Index steps_, delay_;
};

}  // namespace

Index delayed_bits_steps(const TaskSettings& s) {
    const Index steps = whole_steps(s.duration, s.dt, "task.duration"),
                delay = whole_steps(s.delay, s.dt, "task.delay");
    require(steps >= 1, Exit::usage, "task.duration is shorter than one step", "make it at least network.dt");
    require(delay < steps, Exit::usage,
            fmt::format("task.delay = {} ms is {} steps, but the sequence has only {} (task.duration = {} ms), so no "
                        "step has a target",
                        s.delay, delay, steps, s.duration),
            "make task.duration longer than task.delay");
    require(s.steps_per_bit <= steps, Exit::usage,
            fmt::format("task.steps_per_bit = {} is more than the {} steps of the sequence", s.steps_per_bit, steps),
            "make task.duration longer, or bits shorter");
    const bool is_xor = s.name == TaskKind::delayed_xor;
    const Index unit = s.steps_per_bit * (is_xor ? 2 : 1);
    require(delay % unit == 0 && !(is_xor && delay == 0), Exit::usage,
            fmt::format("task.delay = {} ms is {} steps, but {} needs a multiple of {} (task.steps_per_bit = {}{})",
                        s.delay, delay, name_of(s.name), unit, s.steps_per_bit,
                        is_xor ? "; half the delay is used too, and 0 is not allowed" : ""),
            fmt::format("choose for example task.delay = {}", static_cast<double>(delay - delay % unit + unit) * s.dt));
    if (s.coding == BitCoding::direct) {
        require(s.inputs == 1, Exit::usage,
                fmt::format("task.inputs = {}, but task.coding = \"direct\" has one input", s.inputs),
                "set task.inputs = 1, or task.coding = \"spikes\"");
        return steps;
    }
    require(s.inputs % 2 == 0, Exit::usage,
            fmt::format("task.inputs = {} is odd, but task.coding = \"spikes\" has two populations of equal size",
                        s.inputs),
            "choose an even number of inputs");
    require_different_rates(s);
    return steps;
}

std::unique_ptr<Task> make_delayed_bits(const TaskSettings& settings) {
    return std::make_unique<DelayedBits>(settings);
}

}  // namespace spikefloss
