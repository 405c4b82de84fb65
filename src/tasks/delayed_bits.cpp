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

#include <algorithm>

namespace spikefloss {

namespace {

bool is_probability(double p) { return p >= 0 && p <= 1; }

void check(const TaskSettings& s, Index delay_unit) {
    require(s.steps >= 1 && s.steps <= max_steps, Exit::usage,
            fmt::format("{}: task.duration is {} steps, outside 1 .. 2^31", name_of(s.name), s.steps),
            "choose a duration of at least one network.dt");
    require(s.steps_per_bit >= 1 && s.steps_per_bit <= s.steps, Exit::usage,
            fmt::format("{}: task.steps_per_bit = {} is outside 1 .. {} (the duration in steps)", name_of(s.name),
                        s.steps_per_bit, s.steps),
            "make a bit last at least one step and at most the whole sequence");
    require(s.delay >= 0 && s.delay % delay_unit == 0, Exit::usage,
            fmt::format("{}: task.delay is {} steps, not a multiple of {} (steps_per_bit = {}{})", name_of(s.name),
                        s.delay, delay_unit, s.steps_per_bit,
                        delay_unit == s.steps_per_bit ? "" : ", and the xor needs half the delay"),
            fmt::format("choose a delay of {} or {} steps", std::max<Index>(s.delay / delay_unit, 1) * delay_unit,
                        (std::max<Index>(s.delay / delay_unit, 1) + 1) * delay_unit));
    require(s.delay < s.steps, Exit::usage,
            fmt::format("{}: task.delay is {} steps, but the sequence has only {}, so that no step has a target",
                        name_of(s.name), s.delay, s.steps),
            "make task.duration longer than task.delay");
    if (s.coding == BitCoding::direct) {
        require(s.inputs == 1, Exit::usage,
                fmt::format("{}: task.inputs = {} contradicts task.coding = \"direct\", which has one input",
                            name_of(s.name), s.inputs),
                "set task.inputs = 1 or task.coding = \"spikes\"");
        return;
    }
    require(
        s.inputs >= 2 && s.inputs % 2 == 0 && s.inputs <= max_inputs, Exit::usage,
        fmt::format("{}: task.inputs = {} cannot be split into the two equal populations of task.coding = \"spikes\"",
                    name_of(s.name), s.inputs),
        "choose an even number of inputs, at least 2");
    require(is_probability(s.rate_active) && is_probability(s.rate_silent), Exit::usage,
            fmt::format("{}: task.rate_active = {} or task.rate_silent = {} is not a probability", name_of(s.name),
                        s.rate_active, s.rate_silent),
            "choose spike probabilities per step between 0 and 1");
    require(s.rate_active != s.rate_silent, Exit::usage,
            fmt::format("{}: task.rate_active and task.rate_silent are both {}, so that the input carries no bits",
                        name_of(s.name), s.rate_active),
            "choose different rates");
}

class DelayedBits final : public Task {
public:
    DelayedBits(const TaskSettings& settings, bool exclusive_or)
        : settings_(settings), exclusive_or_(exclusive_or), spikes_(settings.coding == BitCoding::spikes) {}

    Index steps() const override { return settings_.steps; }
    Index inputs() const override { return settings_.inputs; }
    Index outputs() const override { return 1; }
    LossKind loss() const override { return LossKind::binary_cross_entropy; }

    Batch sample(Purpose purpose, std::int64_t step, Index, BlockRange sequences) const override {
        const Index T = steps(), b = sequences.size(), M = inputs(), d = settings_.delay, s = settings_.steps_per_bit;
        Batch result;
        result.steps = T, result.sequences = b, result.inputs = M, result.outputs = 1, result.loss = loss();
        result.x.resize(static_cast<std::size_t>(T * b * M));
        result.target.resize(static_cast<std::size_t>(T * b));
        result.mask = mask_from(d, T);
        for (Index j = 0; j < b; ++j) {
            const SequenceRandom random(settings_.seed, purpose, step, sequences.begin + j);
            const auto bit = random.bits((T + s - 1) / s);
            for (Index t = 0; t < T; ++t) {
                encode(random, t, bit[t / s], &result.x[(t * b + j) * M]);
                if (t < d) continue;
                const int other = exclusive_or_ ? bit[(t - d / 2) / s] : 0;
                result.target[t * b + j] = static_cast<float>(bit[(t - d) / s] ^ other);
            }
        }
        return result;
    }

private:
    // x [M] at step t, when the input bit is `bit`.
    void encode(const SequenceRandom& random, Index t, int bit, float* x) const {
        if (!spikes_) {
            x[0] = static_cast<float>(bit);
            return;
        }
        const Index half = settings_.inputs / 2;
        for (int value : {0, 1})
            random.draw_spikes(t, value * half, half, value == bit ? settings_.rate_active : settings_.rate_silent,
                               x + value * half);
    }

    TaskSettings settings_;
    bool exclusive_or_, spikes_;
};

}  // namespace

std::unique_ptr<Task> make_delayed_copy(const TaskSettings& settings) {
    check(settings, settings.steps_per_bit);
    return std::make_unique<DelayedBits>(settings, false);
}

std::unique_ptr<Task> make_delayed_xor(const TaskSettings& settings) {
    check(settings, 2 * settings.steps_per_bit);
    require(settings.delay > 0, Exit::usage, "delayed_xor: task.delay = 0 makes every target 0",
            fmt::format("choose a delay of {} steps or more", 2 * settings.steps_per_bit));
    return std::make_unique<DelayedBits>(settings, true);
}

}  // namespace spikefloss
