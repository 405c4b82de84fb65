// cue_recall: input populations are active at the beginning, one after the other. After a delay the network names them.
//
//   cue i, steps i cue .. (i+1) cue - 1,   the inputs of population c[i] spike with probability rate_active, the others
//     i in 0 .. cues-1                     with rate_silent, c[i] in 0 .. classes-1 drawn per sequence
//   delay                                  every input spikes with probability noise (0: silence)
//   answer, the last steps                 the same; mask = 1 only here
//
// T = cues cue + delay + answer; population c is inputs c M/classes .. (c+1) M/classes - 1. All cues are named at
// once: O = classes^cues, softmax, label sum_i c[i] classes^i.
#include "core/error.hpp"
#include "tasks/factories.hpp"
#include "tasks/sequence_random.hpp"

#include <tuple>
#include <utility>

namespace spikefloss {

namespace {

constexpr Index max_outputs = 1'000'000;

// classes^cues, one output for each sequence of cues. If there are more than max_outputs, any number above it.
Index number_of_outputs(const TaskSettings& s) {
    Index outputs = 1;
    for (Index i = 0; i < s.cues && outputs <= max_outputs; ++i) outputs *= s.classes;
    return outputs;
}

void check(const TaskSettings& s) {
    require(s.classes >= 2, Exit::usage,
            fmt::format("cue_recall: task.classes = {} leaves nothing to recall", s.classes),
            "choose at least 2 classes");
    require(s.inputs >= s.classes && s.inputs % s.classes == 0 && s.inputs <= max_inputs, Exit::usage,
            fmt::format("cue_recall: task.inputs = {} cannot be split into {} equal populations, one for each class",
                        s.inputs, s.classes),
            fmt::format("choose a multiple of task.classes = {}", s.classes));
    require(s.cues >= 1, Exit::usage, fmt::format("cue_recall: task.cues = {} leaves nothing to recall", s.cues),
            "choose at least 1 cue");
    require(
        number_of_outputs(s) <= max_outputs, Exit::usage,
        fmt::format("cue_recall: {} cues of {} classes make more than {} different sequences, and each needs an output",
                    s.cues, s.classes, max_outputs),
        "choose fewer task.cues or task.classes");
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
    explicit CueRecall(const TaskSettings& settings) : settings_(settings), outputs_(number_of_outputs(settings)) {}

    Index steps() const override {
        return settings_.cues * settings_.cue_steps + settings_.delay + settings_.answer_steps;
    }
    Index inputs() const override { return settings_.inputs; }
    Index outputs() const override { return outputs_; }
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
            Index left = result.label[j] = random.choice(outputs_);  // its digits in base `classes` are the cues
            for (Index t = 0; t < T; ++t) {
                float* x = &result.x[(t * b + j) * M];
                if (t >= settings_.cues * settings_.cue_steps) {
                    random.draw_spikes(t, 0, M, settings_.noise, x);
                    continue;
                }
                if (t > 0 && t % settings_.cue_steps == 0) left /= settings_.classes;
                const Index cue_begin = left % settings_.classes * population, cue_end = cue_begin + population;
                random.draw_spikes(t, 0, cue_begin, settings_.rate_silent, x);
                random.draw_spikes(t, cue_begin, population, settings_.rate_active, x + cue_begin);
                random.draw_spikes(t, cue_end, M - cue_end, settings_.rate_silent, x + cue_end);
            }
        }
        return result;
    }

private:
    TaskSettings settings_;
    Index outputs_;
};

}  // namespace

std::unique_ptr<Task> make_cue_recall(const TaskSettings& settings) {
    check(settings);
    return std::make_unique<CueRecall>(settings);
}

}  // namespace spikefloss
