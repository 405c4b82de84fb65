// delayed_copy, delayed_xor and cue_recall: targets that follow from the inputs, independence of the split, statistics.
#include "tasks/batches.hpp"
#include "tasks/expect_error.hpp"
#include "tasks/sequence_random.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

TaskSettings bits_settings(TaskKind name, BitCoding coding) {
    TaskSettings s;
    s.name = name, s.coding = coding, s.duration = 200, s.delay = 12, s.steps_per_bit = 3;
    s.inputs = coding == BitCoding::spikes ? 60 : 1;
    return s;
}

TaskSettings cue_settings() {
    TaskSettings s;
    s.name = TaskKind::cue_recall, s.classes = 3, s.inputs = 39, s.cue = 20, s.delay = 30, s.answer = 5;
    s.rate_active = 0.4, s.rate_silent = 0.02, s.noise = 0.1;
    return s;
}

// The bit at step t of sequence j, read only from the input. With rate_silent = 0 and 30 inputs of the present
// population at rate 0.5, the probability of no spike is 1e-9.
int decoded_bit(const Batch& batch, Index t, Index j) {
    const float* x = &batch.x[(t * batch.sequences + j) * batch.inputs];
    if (batch.inputs == 1) return static_cast<int>(x[0]);
    const Index half = batch.inputs / 2;
    const bool zero = std::count(x, x + half, 1.0f) > 0, one = std::count(x + half, x + 2 * half, 1.0f) > 0;
    EXPECT_NE(zero, one) << "t = " << t << ", sequence " << j;
    return one;
}

TEST(DelayedBits, TargetsFollowFromInputs) {
    for (const TaskKind name : {TaskKind::delayed_copy, TaskKind::delayed_xor})
        for (const BitCoding coding : {BitCoding::direct, BitCoding::spikes})
            for (const Index s : {1, 3}) {
                auto settings = bits_settings(name, coding);
                settings.steps_per_bit = s;
                const auto task = make_task(settings);
                const Batch batch = whole_batch(*task, Purpose::train, 3, 4);
                expect_shapes(*task, batch, 4);
                EXPECT_EQ(batch.loss, LossKind::binary_cross_entropy);
                EXPECT_EQ(batch.terms(3), 3 * (200 - 12));
                Index ones = 0;
                for (Index j = 0; j < 4; ++j)
                    for (Index t = 0; t < 200; ++t) {
                        const float target = batch.target[t * 4 + j];
                        EXPECT_EQ(batch.mask[t * 4 + j], t >= 12 ? 1.0f : 0.0f);
                        if (t % s != 0) {
                            EXPECT_EQ(decoded_bit(batch, t, j), decoded_bit(batch, t - 1, j));
                        }
                        if (t < 12) continue;
                        const int old = decoded_bit(batch, t - 12, j);
                        EXPECT_EQ(target, name == TaskKind::delayed_copy ? old : old ^ decoded_bit(batch, t - 6, j))
                            << name_of(name) << " " << name_of(coding) << " t = " << t << " j = " << j;
                        ones += target == 1;
                    }
                EXPECT_GT(ones, 4 * 188 / 4);
                EXPECT_LT(ones, 4 * 188 * 3 / 4);
            }
}

TEST(DelayedBits, CopyWithoutDelayIsTheInput) {
    auto settings = bits_settings(TaskKind::delayed_copy, BitCoding::direct);
    settings.delay = 0;
    const Batch batch = whole_batch(*make_task(settings), Purpose::train, 0, 5);
    EXPECT_EQ(batch.target, batch.x);
}

TEST(DelayedBits, BitsAreFairAndIndependent) {
    auto settings = bits_settings(TaskKind::delayed_copy, BitCoding::direct);
    settings.duration = 1000, settings.steps_per_bit = 1;
    const Index B = 400, T = 1000;
    const Batch batch = whole_batch(*make_task(settings), Purpose::train, 0, B);
    const auto sign = [&](Index t, Index j) { return 2 * batch.x[t * B + j] - 1; };
    const double n = static_cast<double>(B * T);
    double mean = 0, next_step = 0, next_sequence = 0, word_apart = 0;
    for (Index t = 0; t < T; ++t)
        for (Index j = 0; j < B; ++j) {
            mean += sign(t, j);
            next_step += sign(t, j) * sign((t + 1) % T, j);
            next_sequence += sign(t, j) * sign(t, (j + 1) % B);
            word_apart += sign(t, j) * sign((t + 128) % T, j);
        }
    for (const double sum : {mean, next_step, next_sequence, word_apart}) EXPECT_LT(std::abs(sum), 4.5 * std::sqrt(n));
}

TEST(DelayedBits, SpikeRatesOfBothPopulations) {
    auto settings = bits_settings(TaskKind::delayed_copy, BitCoding::spikes);
    settings.rate_active = 0.3, settings.rate_silent = 0.05, settings.inputs = 26, settings.duration = 600,
    settings.delay = 3;
    const Index B = 60, T = 600, M = 26;
    const Batch batch = whole_batch(*make_task(settings), Purpose::test, 9, B);
    // With a delay of one bit (3 steps) the target at t + 3 is the bit at t.
    std::vector<double> spikes[2], present[2];
    for (auto* v : {spikes, present}) v[0].assign(M, 0), v[1].assign(M, 0);
    double both = 0, pairs = 0;  // input m of one population and of the other
    for (Index t = 0; t + 3 < T; ++t)
        for (Index j = 0; j < B; ++j) {
            const float* x = &batch.x[(t * B + j) * M];
            for (Index m = 0; m < M; ++m) {
                const int active = static_cast<int>(batch.target[(t + 3) * B + j]) == (m >= M / 2);
                spikes[active][m] += x[m];
                present[active][m] += 1;
            }
            for (Index m = 0; m < M / 2; ++m, ++pairs) both += x[m] * x[m + M / 2];
        }
    const double p_both = 0.3 * 0.05;
    EXPECT_NEAR(both / pairs, p_both, 4.5 * std::sqrt(p_both * (1 - p_both) / pairs));
    for (int active : {0, 1})
        for (Index m = 0; m < M; ++m) {
            const double p = active ? 0.3 : 0.05, n = present[active][m];
            ASSERT_GT(n, 10000);
            EXPECT_NEAR(spikes[active][m] / n, p, 4.5 * std::sqrt(p * (1 - p) / n)) << "input " << m;
        }
}

TEST(CueRecall, LabelFollowsFromCue) {
    const auto task = make_task(cue_settings());
    const Index B = 300, M = 39;
    const Batch batch = whole_batch(*task, Purpose::train, 1, B);
    expect_shapes(*task, batch, B);
    EXPECT_EQ(batch.steps, 55);
    EXPECT_EQ(batch.terms(B), B);
    for (Index at = 0; at < 55 * B; ++at) EXPECT_EQ(batch.mask[at], at >= 50 * B ? 1.0f : 0.0f);
    double count[3] = {}, active = 0, silent = 0, noise = 0;
    for (Index j = 0; j < B; ++j) {
        double spikes[3] = {};
        for (Index t = 0; t < 55; ++t)
            for (Index m = 0; m < M; ++m) (t < 20 ? spikes[m / 13] : noise) += batch.x[(t * B + j) * M + m];
        const auto c = std::max_element(spikes, spikes + 3) - spikes;
        EXPECT_EQ(batch.label[j], c);
        count[c] += 1;
        active += spikes[c];
        silent += spikes[0] + spikes[1] + spikes[2] - spikes[c];
    }
    const auto near = [](double sum, double n, double p) { EXPECT_NEAR(sum / n, p, 4.5 * std::sqrt(p * (1 - p) / n)); };
    for (const double n : count) near(n, B, 1.0 / 3);
    near(active, B * 20 * 13.0, 0.4);
    near(silent, B * 20 * 26.0, 0.02);
    near(noise, B * 35 * 39.0, 0.1);
}

// Each cue in turn is a digit of the label.
TEST(CueRecall, NamesAllOfItsCues) {
    auto settings = cue_settings();
    settings.cues = 4, settings.cue = 10;
    const auto task = make_task(settings);
    EXPECT_EQ(task->outputs(), 81);
    const Index B = 300, M = 39, T = 4 * 10 + 30 + 5;
    const Batch batch = whole_batch(*task, Purpose::train, 1, B);
    expect_shapes(*task, batch, B);
    ASSERT_EQ(batch.steps, T);
    for (Index at = 0; at < T * B; ++at) EXPECT_EQ(batch.mask[at], at >= 70 * B ? 1.0f : 0.0f);
    double count[4][3] = {};
    for (Index j = 0; j < B; ++j) {
        Index label = 0;
        for (Index i = 3; i >= 0; --i) {
            double spikes[3] = {};
            for (Index t = 10 * i; t < 10 * i + 10; ++t)
                for (Index m = 0; m < M; ++m) spikes[m / 13] += batch.x[(t * B + j) * M + m];
            const auto c = std::max_element(spikes, spikes + 3) - spikes;
            count[i][c] += 1;
            label = 3 * label + c;
        }
        EXPECT_EQ(batch.label[j], label);
    }
    for (const auto& cue : count)
        for (const double n : cue) EXPECT_NEAR(n / B, 1.0 / 3, 4.5 * std::sqrt(2.0 / 9 / B));
}

// z[m] = (x[m] - p) / sqrt(p (1-p)) has no correlation between any two inputs; p[m] is the rate of input m.
TEST(CueRecall, InputsAreIndependent) {
    auto settings = cue_settings();
    settings.rate_silent = 0.2, settings.noise = 0.3;
    const Index B = 300, M = 39, T = 55;
    const Batch batch = whole_batch(*make_task(settings), Purpose::diagnose, 0, B);
    std::vector<double> products(M * M), z(M);
    for (Index t = 0; t < T; ++t)
        for (Index j = 0; j < B; ++j) {
            for (Index m = 0; m < M; ++m) {
                const double p = t >= 20 ? 0.3 : m / 13 == batch.label[j] ? 0.4 : 0.2;
                z[m] = (batch.x[(t * B + j) * M + m] - p) / std::sqrt(p * (1 - p));
            }
            for (Index m = 0; m < M; ++m)
                for (Index other = 0; other < m; ++other) products[m * M + other] += z[m] * z[other];
        }
    for (const double sum : products) EXPECT_LT(std::abs(sum), 5 * std::sqrt(T * B));
}

TEST(CueRecall, NoNoiseIsSilence) {
    auto settings = cue_settings();
    settings.noise = 0;
    const Batch batch = whole_batch(*make_task(settings), Purpose::train, 0, 4);
    const auto delay = batch.x.begin() + 20 * 4 * 39;
    EXPECT_EQ(std::count(delay, batch.x.end(), 0.0f), batch.x.end() - delay);
    EXPECT_GT(std::count(batch.x.begin(), delay, 1.0f), 0);
}

std::vector<TaskSettings> all_settings() {
    return {bits_settings(TaskKind::delayed_copy, BitCoding::direct),
            bits_settings(TaskKind::delayed_xor, BitCoding::spikes), cue_settings()};
}

TEST(GeneratedTasks, SplittingTheBatchChangesNothing) {
    for (const auto& settings : all_settings()) {
        const auto task = make_task(settings), again = make_task(settings);
        EXPECT_EQ(task->dataset_size(Purpose::train), 0);
        for (const Purpose purpose : all_purposes) {
            const Batch whole = whole_batch(*task, purpose, 11, 7);
            expect_equal(whole, whole_batch(*again, purpose, 11, 7));
            for (const Index parts : {1, 3, 5, 9}) expect_equal(whole, joined_batch(*task, purpose, 11, 7, parts));
        }
    }
}

TEST(GeneratedTasks, PurposesStepsSequencesAndSeedsDiffer) {
    for (auto settings : all_settings()) {
        std::vector<std::vector<float>> drawn;
        for (const std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{2}, (std::uint64_t{1} << 32) + 1}) {
            settings.seed = seed;
            const auto task = make_task(settings);
            for (const Purpose purpose : all_purposes)
                for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, (std::int64_t{1} << 32) - 1})
                    for (const Index j : {0, 1, 70000})
                        drawn.push_back(task->sample(purpose, step, 70001, {j, j + 1}).x);
        }
        std::sort(drawn.begin(), drawn.end());
        EXPECT_EQ(drawn.size(), 3u * 4 * 3 * 3);
        EXPECT_EQ(std::adjacent_find(drawn.begin(), drawn.end()), drawn.end()) << name_of(settings.name);
    }
}

TEST(SequenceRandom, SpikesAreWordsBelowTheProbability) {
    const SequenceRandom random(5, Purpose::floss, 6, 7);
    for (const Index count : {0, 1, 3, 4, 13, 50, 101}) {
        std::vector<float> x(count + 2, -1.0f);
        random.draw_spikes(8, 9, count, 0.25, x.data() + 1);
        EXPECT_EQ(x.front(), -1);
        EXPECT_EQ(x.back(), -1);
        const Index quarter = (count + 3) / 4;
        for (Index m = 0; m < count; ++m) {
            const auto words =
                random_words(5, Stream::task_floss, 6, 7, 8, static_cast<std::uint32_t>(9 + m % quarter));
            EXPECT_EQ(x[m + 1], uniform(words[m / quarter]) < 0.25 ? 1.0f : 0.0f) << m << " of " << count;
        }
    }
    float x[5];
    random.draw_spikes(0, 0, 5, 1.0, x);
    EXPECT_EQ(std::count(x, x + 5, 1.0f), 5);
    random.draw_spikes(0, 0, 5, 0.0, x);
    EXPECT_EQ(std::count(x, x + 5, 0.0f), 5);
}

TEST(GeneratedTasks, StepsBeyondTheCounterAreRefused) {
    const auto task = make_task(bits_settings(TaskKind::delayed_xor, BitCoding::direct));
    for (const std::int64_t step : {std::int64_t{-1}, std::int64_t{1} << 32})
        expect_error(Exit::usage, "step number", [&] { whole_batch(*task, Purpose::train, step, 1); });
}

TEST(GeneratedTasks, ContradictorySettingsAreRefused) {
    const auto refused = [](TaskSettings settings, const std::string& piece, auto change) {
        change(settings);
        expect_error(Exit::usage, piece, [&] { task_steps(settings); });
        expect_error(Exit::usage, piece, [&] { make_task(settings); });
    };
    using S = TaskSettings;
    const S copy = bits_settings(TaskKind::delayed_copy, BitCoding::direct),
            exclusive = bits_settings(TaskKind::delayed_xor, BitCoding::direct),
            spikes = bits_settings(TaskKind::delayed_xor, BitCoding::spikes), cue = cue_settings();
    refused(copy, "task.delay = 13 ms is 13 steps, but delayed_copy needs a multiple of 3", [](S& s) { s.delay = 13; });
    refused(exclusive, "task.delay = 15 ms is 15 steps, but delayed_xor needs a multiple of 6",
            [](S& s) { s.delay = 15; });
    refused(exclusive, "choose for example task.delay = 18", [](S& s) { s.delay = 15; });
    refused(exclusive, "0 is not allowed", [](S& s) { s.delay = 0; });
    refused(copy, "task.delay = 201 ms is 201 steps, but the sequence has only 200", [](S& s) { s.delay = 201; });
    refused(copy, "but the sequence has only 12", [](S& s) { s.duration = 12; });
    refused(copy, "but the sequence has only 24", [](S& s) { s.duration = 12, s.delay = 12, s.dt = 0.5; });
    refused(copy, "not a whole number of steps", [](S& s) { s.dt = 0.7; });
    refused(copy, "task.duration is shorter than one step", [](S& s) { s.duration = 1e-12; });
    refused(copy, "task.steps_per_bit = 201", [](S& s) { s.steps_per_bit = 201; });
    refused(copy, "task.inputs = 2", [](S& s) { s.inputs = 2; });
    refused(spikes, "task.inputs = 61", [](S& s) { s.inputs = 61; });
    refused(spikes, "the input has no information", [](S& s) { s.rate_silent = s.rate_active; });
    refused(cue, "task.inputs = 40", [](S& s) { s.inputs = 40; });
    refused(cue, "task.cues = 13 with task.classes = 3", [](S& s) { s.cues = 13; });
    refused(cue, "task.cue = 0 ms is shorter", [](S& s) { s.cue = 0; });
    refused(cue, "task.answer = 0 ms is shorter", [](S& s) { s.answer = 0; });
    refused(cue, "2200000000 steps, more than 2^31",
            [](S& s) { s.cues = 11, s.cue = 2e8 - 1, s.delay = 6, s.answer = 5; });
    refused(cue, "the input has no information", [](S& s) { s.rate_silent = s.rate_active; });
}

}  // namespace
}  // namespace spikefloss
