// cue_recall: say which of several input populations was active at the beginning, after a delay.
//
//   steps 0 .. cue-1                the inputs of population c spike with probability rate_active, the others with
//                                   rate_silent, c in 0 .. classes-1 drawn per sequence
//   steps cue .. cue+delay-1        every input spikes with probability noise (0: silence)
//   steps cue+delay .. T-1          the same; here, and only here, mask = 1
//
// T = cue + delay + answer; population c is inputs c M/classes .. (c+1) M/classes - 1. O = classes, softmax.
#include "core/error.hpp"
#include "tasks/factories.hpp"
#include "tasks/sequence_random.hpp"

#include <tuple>
#include <utility>

namespace spikefloss {

namespace {

void check(const TaskSettings& s) {
    require(s.classes >= 2, Exit::usage,
            fmt::format("cue_recall: task.classes = {} leaves nothing to recall", s.classes),
            "choose at least 2 classes");
    require(s.inputs >= s.classes && s.inputs % s.classes == 0 && s.inputs <= max_inputs, Exit::usage,
            fmt::format("cue_recall: task.inputs = {} cannot be split into {} equal populations, one for each class",
                        s.inputs, s.classes),
            fmt::format("choose a multiple of task.classes = {}", s.classes));
    const std::tuple<const char*, Index, Index> times[] = {
        {"cue", s.cue_steps, 1}, {"delay", s.delay, 0}, {"answer", s.answer_steps, 1}};
    for (const auto& [name, value, low] : times)
        require(value >= low && value <= max_steps / 4, Exit::usage,
                fmt::format("cue_recall: task.{} is {} steps, outside {} .. 2^29", name, value, low),
                "times are rounded to steps of network.dt; choose a longer or shorter one");
    const std::pair<const char*, double> probabilities[] = {
        {"rate_active", s.rate_active}, {"rate_silent", s.rate_silent}, {"noise", s.noise}};
    for (const auto& [name, p] : probabilities)
        require(p >= 0 && p <= 1, Exit::usage, fmt::format("cue_recall: task.{} = {} is not a probability", name, p),
                "choose a spike probability per step between 0 and 1");
    require(s.rate_active != s.rate_silent, Exit::usage,
            fmt::format("cue_recall: task.rate_active and task.rate_silent are both {}, so that there is no cue",
                        s.rate_active),
            "choose different rates");
}

class CueRecall final : public Task {
public:
    explicit CueRecall(const TaskSettings& settings) : settings_(settings) {}

    Index steps() const override { return settings_.cue_steps + settings_.delay + settings_.answer_steps; }
    Index inputs() const override { return settings_.inputs; }
    Index outputs() const override { return settings_.classes; }
    LossKind loss() const override { return LossKind::softmax_cross_entropy; }

    Batch sample(Purpose purpose, std::int64_t step, Index, BlockRange sequences) const override {
        const Index T = steps(), b = sequences.size(), M = inputs(), population = M / settings_.classes;
        Batch result;
        result.steps = T, result.sequences = b, result.inputs = M, result.outputs = outputs(), result.loss = loss();
        result.x.resize(static_cast<std::size_t>(T * b * M));
        result.label.resize(static_cast<std::size_t>(b));
        result.mask = mask_from(T - settings_.answer_steps, T);
        for (Index j = 0; j < b; ++j) {
            const SequenceRandom random(settings_.seed, purpose, step, sequences.begin + j);
            const auto c = result.label[j] = random.choice(settings_.classes);
            const Index cue_begin = c * population, cue_end = cue_begin + population;
            for (Index t = 0; t < T; ++t) {
                float* x = &result.x[(t * b + j) * M];
                if (t >= settings_.cue_steps) {
                    random.draw_spikes(t, 0, M, settings_.noise, x);
                    continue;
                }
                random.draw_spikes(t, 0, cue_begin, settings_.rate_silent, x);
                random.draw_spikes(t, cue_begin, population, settings_.rate_active, x + cue_begin);
                random.draw_spikes(t, cue_end, M - cue_end, settings_.rate_silent, x + cue_end);
            }
        }
        return result;
    }

private:
    TaskSettings settings_;
};

}  // namespace

std::unique_ptr<Task> make_cue_recall(const TaskSettings& settings) {
    check(settings);
    return std::make_unique<CueRecall>(settings);
}

}  // namespace spikefloss
