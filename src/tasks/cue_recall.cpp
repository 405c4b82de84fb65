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

namespace spikefloss {

namespace {

constexpr Index max_outputs = 1'000'000;

// classes^cues, one output for each sequence of cues. If there are more than max_outputs, any number above it.
Index number_of_outputs(const TaskSettings& s) {
    Index outputs = 1;
    for (Index i = 0; i < s.cues && outputs <= max_outputs; ++i) outputs *= s.classes;
    return outputs;
}

// The numbers of steps of the parts of a sequence.
struct Times {
    Index cue, delay, answer;
    explicit Times(const TaskSettings& s)
        : cue(whole_steps(s.cue, s.dt, "task.cue")),
          delay(whole_steps(s.delay, s.dt, "task.delay")),
          answer(whole_steps(s.answer, s.dt, "task.answer")) {}
};

class CueRecall final : public Task {
public:
    explicit CueRecall(const TaskSettings& settings)
        : settings_(settings),
          times_(settings),
          steps_(cue_recall_steps(settings)),
          outputs_(number_of_outputs(settings)) {}

    Index steps() const override { return steps_; }
    Index inputs() const override { return settings_.inputs; }
    Index outputs() const override { return outputs_; }
    LossKind loss() const override { return LossKind::cross_entropy_mean; }

    Batch sample(Purpose purpose, std::int64_t step, Index, BlockRange sequences) const override {
        const Index T = steps(), b = sequences.size(), M = inputs(), population = M / settings_.classes;
        Batch result;
        result.steps = T, result.sequences = b, result.inputs = M, result.outputs = outputs(), result.loss = loss();
        result.x.resize(static_cast<std::size_t>(T * b * M));
        result.label.resize(static_cast<std::size_t>(b));
        result.mask = mask_from(T - times_.answer, T, b);
        for (Index j = 0; j < b; ++j) {
            const SequenceRandom random(settings_.seed, purpose, step, sequences.begin + j);
            Index left = result.label[j] = random.choice(outputs_);  // its digits in base `classes` are the cues
            for (Index t = 0; t < T; ++t) {
                float* x = &result.x[(t * b + j) * M];
                if (t >= settings_.cues * times_.cue) {
                    random.draw_spikes(t, 0, M, settings_.noise, x);
                    continue;
                }
                if (t > 0 && t % times_.cue == 0) left /= settings_.classes;
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
    Times times_;
    Index steps_, outputs_;
};

}  // namespace

Index cue_recall_steps(const TaskSettings& s) {
    const Times times(s);
    for (const auto& [key, time, steps] :
         {std::tuple("task.cue", s.cue, times.cue), std::tuple("task.answer", s.answer, times.answer)})
        require(steps >= 1, Exit::usage, fmt::format("{} = {} ms is shorter than one step", key, time),
                "make it at least network.dt");
    const Index steps = s.cues * times.cue + times.delay + times.answer;
    require(steps <= max_steps, Exit::usage,
            fmt::format("a sequence of cue_recall has {} steps, more than 2^31", steps),
            "choose shorter times or a larger network.dt");
    require(
        number_of_outputs(s) <= max_outputs, Exit::usage,
        fmt::format("task.cues = {} with task.classes = {} needs more than 1e6 outputs, one for each sequence of cues",
                    s.cues, s.classes),
        "choose fewer cues or classes");
    require(
        s.inputs % s.classes == 0, Exit::usage,
        fmt::format("task.inputs = {} cannot be split into {} populations of equal size, one for each of task.classes",
                    s.inputs, s.classes),
        fmt::format("choose a multiple of {}", s.classes));
    require_different_rates(s);
    return steps;
}

std::unique_ptr<Task> make_cue_recall(const TaskSettings& settings) { return std::make_unique<CueRecall>(settings); }

}  // namespace spikefloss
