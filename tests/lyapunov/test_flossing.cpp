// The spectrum and the flossing penalty with both of its gradients on one rank: the golden cases, and the reference on
// random networks of every kind.
#include "backend/backends.hpp"
#include "core/error.hpp"
#include "support/golden.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"
#include "support/shape_choice.hpp"

namespace spikefloss {
namespace {

using namespace testing_support;
using JacobianReset = reference::JacobianReset;

void expect_as_reference(const FlossRun& run, const reference::Floss& floss, const FlossChoice& choice,
                         const Execution& execution, double tolerance) {
    EXPECT_TRUE(all_near(run.log_r, floss.spectrum.log_r, tolerance));
    EXPECT_TRUE(all_near(run.lambda_per_sequence, floss.spectrum.lambda_per_sequence, tolerance));
    EXPECT_TRUE(all_near(run.penalty.spectrum.exponents, floss.spectrum.lambda, tolerance));
    EXPECT_NEAR(run.penalty.loss, floss.value, tolerance);
    if (choice.through_state) {
        expect_gradients_near(run.gradient, given_by(execution, floss.through_state), tolerance);
        EXPECT_TRUE(near_in_norm(run.state_gradient_norm, floss.through_state.state_gradient_norm, tolerance));
    } else {
        expect_gradients_near(run.gradient, given_by(execution, floss.direct), tolerance);
    }
}

// The way in which a pass is run, and the requested gradient.
struct Way {
    Execution execution;
    bool through_state;
};

std::vector<Way> all_ways() {
    std::vector<Way> ways;
    for (const Execution& execution : {Execution{}, Execution{.sums = Sums::float64}, Execution{.whole_passes = false},
                                       Execution{.time_constants = false, .threads = 2}})
        for (const bool through_state : {true, false}) ways.push_back({execution, through_state});
    return ways;
}

void expect_as_reference(const Case& c, FlossChoice choice, double tolerance,
                         const std::vector<Way>& ways = all_ways()) {
    const auto target = choice.target.size() == 1
                            ? std::vector<double>(static_cast<std::size_t>(c.seq.exponents), choice.target[0])
                            : choice.target;
    const reference::Floss floss = reference::floss(c.net, c.seq, c.trajectory, choice.spectrum, target);
    for (const auto& [execution, through_state] : ways) {
        SCOPED_TRACE(testing::Message() << (through_state ? "through the state" : "direct")
                                        << (execution.sums == Sums::float32 ? ", float32" : ", float64")
                                        << (execution.time_constants ? ", time constants" : ""));
        choice.through_state = through_state;
        expect_as_reference(run_floss(alone(), execution, c.net, c.seq, choice), floss, choice, execution, tolerance);
    }
}

class FlossingGolden : public testing::TestWithParam<std::string> {};

TEST_P(FlossingGolden, BothGradientsAndBothSums) {
    const GoldenCase golden = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/" + GetParam() + ".h5");
    const GoldenExpectation& expect = golden.expect.value();
    for (const Sums sums : {Sums::float32, Sums::float64}) {
        SCOPED_TRACE(sums == Sums::float32 ? "float32" : "float64");
        FlossChoice choice{.spectrum = expect.spectrum};
        const FlossRun run = run_floss(alone(), sums, golden.network, golden.sequences, choice);
        EXPECT_TRUE(all_near(run.log_r, expect.log_r, 1e-3));
        EXPECT_TRUE(all_near(run.lambda_per_sequence, expect.lambda_per_sequence, 1e-4));
        EXPECT_TRUE(all_near(run.penalty.spectrum.exponents, expect.lambda, 1e-4));
        EXPECT_NEAR(run.penalty.loss, expect.floss_loss, 1e-3 * expect.floss_loss);
        EXPECT_FALSE(expect.floss_gradient.w_rec.empty() || expect.floss_gradient_direct.w_rec.empty());
        expect_gradients_near(run.gradient, expect.floss_gradient, 1e-3);
        choice.through_state = false;
        expect_gradients_near(run_floss(alone(), sums, golden.network, golden.sequences, choice).gradient,
                              expect.floss_gradient_direct, 1e-3);
    }
}

// With an interval that is chosen during the pass: the exponents and both gradients of a QR after every step.
void expect_as_every_step(const reference::Network& net, const reference::Sequences& seq,
                          reference::SpectrumOptions spectrum, const Execution& execution) {
    for (const bool through_state : {true, false}) {
        spectrum.qr_interval = 1;
        const FlossRun every =
            run_floss(alone(), execution, net, seq, {.spectrum = spectrum, .through_state = through_state});
        spectrum.qr_interval = 0;
        const FlossRun chosen =
            run_floss(alone(), execution, net, seq, {.spectrum = spectrum, .through_state = through_state});
        EXPECT_LT(chosen.log_r.size(), every.log_r.size() + 1);
        EXPECT_TRUE(all_near(chosen.lambda_per_sequence, every.lambda_per_sequence, 1e-5));
        expect_gradients_near(chosen.gradient, every.gradient, 1e-4);
    }
}

TEST_P(FlossingGolden, ChosenIntervals) {
    const GoldenCase golden = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/" + GetParam() + ".h5");
    for (const Execution& execution : {Execution{.time_constants = false}, Execution{.sums = Sums::float64}})
        expect_as_every_step(golden.network, golden.sequences, golden.expect->spectrum, execution);
}

// Passes over the tangents and QRs take a thread for each 262 144 multiply-adds: here up to 2 threads of the first
// network, up to 16 of the second, and all of the third, whose threads share a sequence.
TEST(Flossing, AnyNumberOfThreadsGivesTheSameBits) {
    if (!make_test_backend(1, Sums::float32)->is_host()) GTEST_SKIP() << "only the CPU backend has a number of threads";
    const std::vector<reference::Example> examples = {
        {.neurons = 20, .steps = 40, .batch = 3, .exponents = 8, .reset = reference::Reset::subtract, .seed = 5},
        {.neurons = 64, .steps = 40, .batch = 3, .exponents = 8, .reset = reference::Reset::subtract, .seed = 5},
        {.neurons = 620, .steps = 5, .batch = 1, .exponents = 4, .reset = reference::Reset::subtract, .seed = 5}};
    for (const reference::Example& example : examples)
        for (const bool whole_passes : {true, false}) {
            SCOPED_TRACE(testing::Message() << example.neurons << " neurons, whole passes " << whole_passes);
            const reference::Network net = reference::random_network(example);
            const reference::Sequences seq = reference::random_sequences(example);
            Execution execution{.whole_passes = whole_passes, .time_constants = false};
            const FlossRun one = run_floss(alone(), execution, net, seq, {});
            for (const int threads : {2, 3, 7}) {
                execution.threads = threads;
                const FlossRun several = run_floss(alone(), execution, net, seq, {});
                EXPECT_EQ(several.log_r, one.log_r) << threads;
                expect_gradients_equal(several.gradient, one.gradient);
            }
        }
}

// Networks that contract fast, that explode, and that have nearly parallel vectors; where a QR after every step
// succeeds, so does a chosen interval.
TEST(Flossing, ChosenIntervalsOfExtremeNetworks) {
#ifdef SPIKEFLOSS_TEST_EMULATED
    const std::vector<double> gains = {3.0};
    const Index steps = 30;
#else
    const std::vector<double> gains = {0.05, 0.5, 3.0, 12.0};
    const Index steps = 120;
#endif
    for (const double gain : gains)
        for (const bool has_current : {true, false}) {
            SCOPED_TRACE(testing::Message() << "gain " << gain << ", current " << has_current);
            const reference::Example example{.neurons = 12,
                                             .steps = steps,
                                             .batch = 2,
                                             .exponents = 5,
                                             .reset = reference::Reset::subtract,
                                             .gain = gain,
                                             .has_current = has_current,
                                             .seed = 31};
            const reference::Network net = reference::random_network(example);
            reference::Sequences seq = reference::random_sequences(example);
            for (const bool parallel : {false, true}) {
                if (parallel)  // vector 1 of sequence 1, close to vector 0
                    for (Index d = 0; d < static_cast<Index>(seq.q0.size()) / 10; ++d) {
                        double* row = seq.q0.data() + static_cast<Index>(seq.q0.size()) / 2 + d * 5;
                        row[1] = row[0] + 2e-3 * row[1];
                    }
                for (const Execution& execution :
                     {Execution{.time_constants = false}, Execution{.whole_passes = false, .time_constants = false}})
                    expect_as_every_step(net, seq, {.warmup = 7}, execution);
            }
        }
}

// All golden cases. In the quick set, an emulated device runs only those of at most 50 000 steps x sequences x neurons
// x vectors. EveryKindOfNetwork also has the variations of the larger ones.
std::vector<std::string> chosen_golden_names() {
    std::vector<std::string> names = golden_names(SPIKEFLOSS_TEST_DATA);
#ifdef SPIKEFLOSS_TEST_EMULATED
    if (quick_asked())
        std::erase_if(names, [](const std::string& name) {
            const GoldenCase golden = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/" + name + ".h5");
            const reference::Sequences& seq = golden.sequences;
            return seq.steps * seq.batch * golden.network.neurons * seq.exponents > 50'000;
        });
#endif
    return names;
}

INSTANTIATE_TEST_SUITE_P(Cases, FlossingGolden, testing::ValuesIn(chosen_golden_names()),
                         [](const auto& test) { return test.param; });

// A kind of network, and one way to run it.
struct KindCase {
    reference::Example example;
    FlossChoice choice;
    std::size_t way;
};

// Every combination of surrogate, reset, reset in the Jacobian and QR interval. A third of them have no current. Half
// of them have an initial state, which the gradient through the state then reaches. Each is run in every way. There are
// 13 steps, so the last one has no QR of interval 3.
std::vector<KindCase> all_kinds() {
    std::vector<KindCase> cases;
    std::uint64_t count = 0;
    for (const auto surrogate : reference::all_surrogates)
        for (const auto& rule : reference::all_reset_rules)
            for (const auto jacobian_reset : {JacobianReset::detached, JacobianReset::ignored})
                for (const Index interval : {1, 3}) {
                    reference::Example example{.neurons = 7, .steps = 13, .batch = 3, .exponents = 3};
                    example.surrogate = surrogate;
                    example.reset = rule.reset;
                    example.reset_delay = rule.delay;
                    example.seed = 1000 * ++count;
                    example.has_current = count % 3 != 0;
                    example.initial_state = count % 4 < 2;
                    example.sharpness = 0.8;
                    if (!example.has_current) example.exponents = 2;
                    const FlossChoice choice{.spectrum = {interval, static_cast<Index>(count % 3), jacobian_reset}};
                    for (std::size_t way = 0; way < all_ways().size(); ++way) cases.push_back({example, choice, way});
                }
    return cases;
}

Factors factors_of(const KindCase& c) {
    const auto& spectrum = c.choice.spectrum;
    return {static_cast<long long>(c.example.surrogate),
            static_cast<long long>(c.example.reset),
            c.example.reset_delay,
            static_cast<long long>(spectrum.jacobian_reset),
            spectrum.qr_interval,
            spectrum.warmup,
            c.example.initial_state,
            static_cast<long long>(c.way / 2),   // the execution
            static_cast<long long>(c.way % 2)};  // the gradient
}

TEST(FlossingKinds, FewCoverEveryPair) {
    const std::vector<KindCase> all = all_kinds(), few = few_of(all, factors_of);
    EXPECT_TRUE(covers_every_pair(few, all, factors_of));
    EXPECT_LE(few.size(), all.size() / 12);
}

TEST(FlossingReference, EveryKindOfNetwork) {
    const std::vector<KindCase> cases = chosen_of(all_kinds(), factors_of);
    for (std::size_t at = 0; at < cases.size();) {
        const auto& [example, choice, first_way] = cases[at];
        std::vector<Way> ways;  // of this network
        for (; at < cases.size() && cases[at].example.seed == example.seed; ++at)
            ways.push_back(all_ways()[cases[at].way]);
        const reference::ResetRule rule{example.reset, example.reset_delay};
        SCOPED_TRACE(testing::Message() << reference::name_of(example.surrogate) << " " << rule << " interval "
                                        << choice.spectrum.qr_interval << " seed " << example.seed);
        expect_as_reference(clear_case(example, &choice.spectrum), choice, 2e-4, ways);
    }
}

TEST(FlossingReference, OneExponentAndAll) {
    for (const Index k : {1, 10}) {
        FlossChoice choice{.spectrum = {.jacobian_reset = JacobianReset::ignored}};
        expect_as_reference(
            clear_case({.neurons = 5, .steps = 10, .exponents = k, .reset = reference::Reset::subtract, .seed = 40},
                       &choice.spectrum),
            choice, 2e-4);
    }
}

TEST(FlossingReference, TargetsForAllOrForEach) {
    for (const std::vector<double>& target : {std::vector<double>{0.1}, std::vector<double>{0.2, -0.1, -0.3}}) {
        FlossChoice choice{.target = target};
        expect_as_reference(clear_case({.seed = 60}, &choice.spectrum), choice, 2e-4);
    }
}

// One exponent is above its target, one is within the slack below it, one is further below. The result is as if the
// targets of the last two were the exponent itself and target - slack.
TEST(FlossingReference, ExponentsWithinTheSlackCostNothing) {
    FlossChoice choice{};
    const Case c = clear_case({.seed = 60}, &choice.spectrum);
    const std::vector<double> lambda = reference::spectrum(c.net, c.seq, c.trajectory, choice.spectrum).lambda;
    ASSERT_EQ(lambda.size(), 3u);
    choice.target = {lambda[0] - 0.1, lambda[1] + 0.2, lambda[2] + 0.4};
    choice.slack = 0.25;
    const std::vector<double> as_if{choice.target[0], lambda[1], choice.target[2] - choice.slack};
    const reference::Floss floss = reference::floss(c.net, c.seq, c.trajectory, choice.spectrum, as_if);
    EXPECT_NEAR(floss.value, (0.01 + 0.0225) / 3.0, 1e-12);
    for (const bool through_state : {true, false}) {
        choice.through_state = through_state;
        expect_as_reference(run_floss(alone(), Sums::float64, c.net, c.seq, choice), floss, choice,
                            {.sums = Sums::float64}, 2e-4);
    }
}

TEST(FlossingReference, WeightScalesTheGradientAndGradientsAddUp) {
    const FlossChoice one{}, three{.weight = 3.0};
    const Case c = clear_case({.seed = 61}, &one.spectrum);
    const FlossRun plain = run_floss(alone(), Sums::float64, c.net, c.seq, one);
    const FlossRun scaled = run_floss(alone(), Sums::float64, c.net, c.seq, three);
    EXPECT_DOUBLE_EQ(scaled.penalty.loss, plain.penalty.loss);
    expect_gradients_near(scaled.gradient, reference::sum(plain.gradient, plain.gradient, 2.0), 1e-5);
}

TEST(FlossingPass, RefusesWhatCannotBe) {
    const Case c = clear_case({.neurons = 4, .steps = 6, .exponents = 3});
    const auto expect_error = [&](const FlossChoice& choice, const reference::Sequences& seq, const char* text) {
        try {
            run_floss(alone(), Sums::float32, c.net, seq, choice);
            ADD_FAILURE() << "no error: " << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Exit::usage);
            EXPECT_NE(std::string(error.what()).find(text), std::string::npos) << error.what();
        }
    };
    expect_error({.target = {0.0, 0.1}}, c.seq, "2 targets were given for 3 exponents");
    expect_error({.spectrum = {.qr_interval = 7}}, c.seq, "no QR counts");
    expect_error({.spectrum = {.warmup = 6}}, c.seq, "no QR counts");
    reference::Sequences too_many = c.seq;
    too_many.exponents = 9;
    too_many.q0.assign(2 * 8 * 9, 0.0);
    expect_error({}, too_many, "9 exponents were asked for, but the state has 8 dimensions");
}

}  // namespace
}  // namespace spikefloss
