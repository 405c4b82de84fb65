// The whole passes of the state of every backend that has them, against StateLoop.
#include "backend/state_runs.hpp"
#include "support/shape_choice.hpp"

namespace spikefloss::testing_support {
namespace {

using How = StateRun::How;

class StatePassesTest : public OperationTest {
protected:
    // The case by whole passes and by the loop. Nothing is compared where the backend has no pass.
    void expect_as_the_loop(const StateCase& c, double tolerance) {
        StateRun whole(backend, c, How::whole_passes), loop(backend, c, How::loop);
        const auto& [forward, backward] = whole.passes;
        if (!forward.pass && !backward.pass) return;
        SCOPED_TRACE("forwards " + forward.text() + ", backwards " + backward.text());
        for (StateRun* run : {&whole, &loop}) run->forward(), run->backward();
        const StateResults results = whole.results(), expected = loop.results();
        expect_same_states(results, expected);
        EXPECT_TRUE(near_in_norm(results.y, expected.y, 2e-6)) << "y";
        expect_near_adjoints(results, expected, tolerance);

        StateRun in_place(backend, c, How::whole_passes, false);
        in_place.forward();
        const StateResults last = in_place.results();
        EXPECT_TRUE(all_equal(last.u, expected.u)) << "u, only the latest i is kept";
        EXPECT_TRUE(all_equal(last.i, Floats(expected.i.end() - c.plan.b * c.plan.N, expected.i.end()))) << "latest i";
    }
};
INSTANTIATE_TEST_SUITE_P(Backends, StatePassesTest, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

struct PassCase {
    Index steps, b, N, M;
    ResetRule rule;
    float threshold;
    int input;  // of the backward pass
};

// Batches around the groups of sequences that a backend may process together, neurons around the word of 32 spikes, few
// inputs and more than the CPU fuses, every reset, rare and frequent spikes, all combinations of adjoints.
std::vector<PassCase> all_pass_cases() {
    std::vector<PassCase> cases;
    for (Index steps : {1, 5})
        for (Index b : {0, 1, 3, 6, 7, 13})
            for (Index N : {1, 31, 32, 33, 67})
                for (Index M : {2, 9})
                    for (const auto& rule : all_reset_rules)
                        for (float threshold : {0.3f, 2.5f})
                            for (int input : {0, 1, 2, 3}) cases.push_back({steps, b, N, M, rule, threshold, input});
    return cases;
}

Factors factors_of(const PassCase& c) {
    return {
        c.steps, c.b, c.N, c.M, static_cast<long long>(c.rule.reset), c.rule.delay, std::lround(10.0f * c.threshold),
        c.input};
}

TEST(PassCases, FewCoverEveryPair) {
    const std::vector<PassCase> all = all_pass_cases(), few = few_of(all, factors_of);
    EXPECT_TRUE(covers_every_pair(few, all, factors_of));
    EXPECT_LE(few.size(), all.size() / 8);
}

float limit_for(Index N) { return 0.9f * std::sqrt(2.0f * static_cast<float>(N)); }

StateCase state_case(const PassCase& c) {
    StateCase made({c.steps, c.b, c.N, c.M, 3},
                   {.threshold = c.threshold, .reset = c.rule.reset, .reset_delay = c.rule.delay, .sharpness = 2.0f});
    const bool has_dz[] = {true, true, false, false}, extra[] = {false, true, true, true},
               squares[] = {true, true, false, false}, cap[] = {false, true, true, false};
    made.has_dz = has_dz[c.input], made.has_extra = extra[c.input], made.squares = squares[c.input];
    made.adjoint_limit = cap[c.input] ? limit_for(c.N) : 0.0f;
    made.readout = c.input % 2 ? Readout::spikes : Readout::membrane;
    return made;
}

TEST_P(StatePassesTest, AreTheLoop) {
#ifdef SPIKEFLOSS_TEST_EMULATED  // all of them take minutes
    const std::vector<PassCase> cases = few_of(all_pass_cases(), factors_of);
#else
    const std::vector<PassCase> cases = chosen_of(all_pass_cases(), factors_of);
#endif
    for (const PassCase& c : cases) {
        SCOPED_TRACE(testing::Message() << "steps " << c.steps << ", b " << c.b << ", N " << c.N << ", M " << c.M
                                        << ", reset " << c.rule << ", threshold " << c.threshold << ", input "
                                        << c.input);
        expect_as_the_loop(state_case(c), 4e-6);
        if (HasFailure()) return;
    }
}

// Large batches, several panels of neurons, no or many inputs and readouts, slabs of steps.
TEST_P(StatePassesTest, OtherShapesAreTheLoop) {
    struct Shape {
        StatePlan plan;
        Readout readout;
        bool cap;
    };
    for (const Shape& shape :
         {Shape{{40, 7, 67, 1, 1}, Readout::spikes, true}, Shape{{3, 300, 20, 2, 3}, Readout::membrane, false},
          Shape{{34, 2, 150, 8, 2}, Readout::spikes, false}, Shape{{2, 40, 96, 0, 0}, Readout::membrane, false},
          Shape{{33, 5, 1, 3, 1}, Readout::membrane, true}, Shape{{2, 3, 200, 3, 40}, Readout::spikes, false}}) {
        const StatePlan& p = shape.plan;
        SCOPED_TRACE(testing::Message() << "steps " << p.steps << ", b " << p.b << ", N " << p.N << ", M " << p.M
                                        << ", O " << p.O);
        StateCase c(p, {.threshold = 0.8f, .sharpness = 2.0f});
        c.readout = shape.readout;
        if (shape.cap) c.has_extra = true, c.adjoint_limit = limit_for(p.N);
        expect_as_the_loop(c, 4e-6);
    }
}

// Adaptation and own thresholds, for every reset; more neurons than a block of the CPU has.
TEST_P(StatePassesTest, AdaptedNeuronsAreTheLoop) {
    for (const auto& rule : all_reset_rules)
        for (Extras extras : all_extras)
            for (const Index N : {33, 530}) {
                extras.refractory = 0;  // those are for the loop
                SCOPED_TRACE(testing::Message() << "N " << N << ", reset " << rule << ", " << extras);
                StateCase c({4, N < 500 ? 35 : 3, N, 2, 3},
                            {.threshold = 0.8f, .reset = rule.reset, .reset_delay = rule.delay, .sharpness = 2.0f},
                            extras);
                c.has_extra = true, c.adjoint_limit = limit_for(N);
                c.readout = N < 500 ? Readout::spikes : Readout::membrane;
                expect_as_the_loop(c, 4e-6);
            }
}

// More neurons than the lanes of a warp have words, and dW in parts: large networks with all multiprocessors.
TEST_P(StatePassesTest, LargeNetwork) {
    StateCase c({2, 3, 1060, 2, 1}, {.threshold = 0.5f, .sharpness = 2.0f});
    for (float& w : c.w_rec) w *= 0x1p-2f;
    expect_as_the_loop(c, 4e-6);
}

// Six layers of 64 neurons, each before the next: blocks without weights can be left out.
TEST_P(StatePassesTest, Layers) {
    StateCase c({4, 3, 384, 2, 1}, {.threshold = 0.5f, .sharpness = 2.0f});
    for (Index i = 0; i < 384; ++i)
        for (Index j = 0; j < 384; ++j)
            if (i / 64 != j / 64 && i / 64 != j / 64 + 1) c.w_rec[static_cast<std::size_t>(i * 384 + j)] = 0.0f;
    expect_as_the_loop(c, 4e-6);
}

// The same arrays in every call, as in training: a pass that has recorded its calls must use the new contents of the
// arrays.
TEST_P(StatePassesTest, RepeatedWithOtherValues) {
    StateCase c({5, 6, 67, 9, 2}, {.threshold = 0.3f, .sharpness = 2.0f});
    c.adjoint_limit = 5.0f;
    StateRun whole(backend, c, How::whole_passes), loop(backend, c, How::loop);
    StateResults of_run[4];
    for (std::uint64_t run = 0; run < 4; ++run) {
        Floats x = c.x;
        for (float& value : x) value *= run / 2 ? 0.5f : 1.0f;  // every input twice
        for (StateRun* state : {&whole, &loop}) {
            state->start();
            state->x.copy_in(x.data());
            state->dz.copy_in(random_floats(state->dz.size(), 30 + run / 2).data());
            state->limit.copy_in(Floats{run / 2 ? 2.0f : 5.0f}.data());
            state->forward();
            state->backward();
        }
        SCOPED_TRACE(testing::Message() << "run " << run);
        of_run[run] = whole.results();
        const StateResults expected = loop.results();
        expect_same_states(of_run[run], expected);
        expect_near_adjoints(of_run[run], expected, 4e-6);
    }
    EXPECT_EQ(of_run[0].d_w_rec, of_run[1].d_w_rec);
    EXPECT_EQ(of_run[2].d_w_rec, of_run[3].d_w_rec);
    EXPECT_NE(of_run[0].d_w_rec, of_run[2].d_w_rec);
}

// Without these checks the tests above could compare nothing.
TEST(CpuStatePasses, AreChosenByShapeAndSums) {
    const auto chosen = [](const StatePlan& plan, Sums sums) {
        const auto backend = make_backend(BackendKind::cpu, 2, sums);
        const StatePasses passes = backend->state_passes(plan, *backend);
        EXPECT_EQ(passes.forward.pass == nullptr, passes.forward.name == "loop over steps");
        EXPECT_EQ(passes.backward.pass == nullptr, passes.backward.name == "loop over steps");
        return passes.forward.name + ", " + passes.backward.name;
    };
    EXPECT_EQ(chosen({1, 2, 160, 8, 8}, Sums::float32), "network, network");
    EXPECT_EQ(chosen({1, 2, 161, 8, 8}, Sums::float32), "rows, rows");
    EXPECT_EQ(chosen({1, 2, 3, 9, 8}, Sums::float32), "rows, rows");
    EXPECT_EQ(chosen({1, 2, 3, 8, 9}, Sums::float32), "rows, rows");
    EXPECT_EQ(chosen({1, 2, 3, 1, 1}, Sums::float64), "loop over steps, loop over steps");
    EXPECT_EQ(chosen({1, 1, 8193, 1, 1}, Sums::float32), "rows, rows");
    EXPECT_EQ(chosen({1, 1, 32769, 1, 1}, Sums::float32), "loop over steps, loop over steps");
    EXPECT_EQ(chosen({1, 2, 3, 1, 1, true}, Sums::float32), "network, loop over steps");
    EXPECT_EQ(chosen({1, 2, 3, 1, 1, false, true}, Sums::float32), "rows, rows");
    EXPECT_EQ(chosen({1, 2, 3, 1, 1, true, true}, Sums::float32), "rows, loop over steps");
}

TEST_P(StatePassesTest, OfTheGpuAreChosenBySharedMemory) {
    if (backend.name() != "cuda") return;
    const auto [forward, backward] = backend.state_passes({5, 6, 67, 2, 1}, backend);
    const std::string name = GetParam().name;
    std::string ahead = "team", back = "tiles";
    if (backend.sums() == Sums::float64) ahead = back = "loop over steps";
    if (name == "cuda_stepwise") ahead = "products", back = "loop over steps";
    if (name == "cuda_digits") ahead = back = "digits";
    if (name.starts_with("cuda_columns")) back = "team";
    EXPECT_EQ(forward.name, ahead) << forward.why;
    EXPECT_EQ(backward.name, back) << backward.why;
}

#ifndef SPIKEFLOSS_TEST_EMULATED  // the same there, once for each emulated device

// No sum depends on the threads: they take sequences or, in the last three plans and without norms, neurons.
TEST(CpuStatePasses, GiveTheSameBitsOnAnyThreads) {
    for (const StatePlan& plan : {StatePlan{40, 37, 70, 2, 2}, StatePlan{40, 37, 70, 9, 2}, StatePlan{3, 40, 801, 9, 2},
                                  StatePlan{4, 3, 530, 2, 33}, StatePlan{2, 2, 1024, 33, 1}}) {
        StateCase c(plan, {.threshold = 0.8f, .sharpness = 2.0f});
        c.squares = plan.N < 500;
        c.w_rec = random_floats(plan.N * plan.N, 1, 2.5f / std::sqrt(static_cast<float>(plan.N)));
        c.w_in = random_floats(plan.N * plan.M, 2);
        std::optional<StateResults> first;
        for (int threads : {1, 2, 3, 8}) {
            const auto backend = make_backend(BackendKind::cpu, threads, Sums::float32);
            const StateResults results = run_state(*backend, c, How::whole_passes);
            if (!first) first = results;
            SCOPED_TRACE(testing::Message() << threads << " threads, N " << plan.N << ", M " << plan.M);
            expect_same_states(results, *first);
            EXPECT_EQ(results.y, first->y);
            EXPECT_EQ(results.du, first->du);
            EXPECT_EQ(results.d_w_rec, first->d_w_rec);
            EXPECT_EQ(results.d_w_in, first->d_w_in);
            EXPECT_EQ(results.d_bias, first->d_bias);
            EXPECT_EQ(results.d_w_out, first->d_w_out);
        }
    }
}

// Neurons in teams of threads, also those that several words of spikes and panels of W end in.
TEST(CpuStatePasses, OfTeamsAreTheLoop) {
    for (const StatePlan& plan :
         {StatePlan{3, 40, 801, 9, 2}, StatePlan{4, 3, 530, 2, 3}, StatePlan{5, 1, 1030, 9, 1}}) {
        StateCase c(plan, {.threshold = 0.5f, .sharpness = 2.0f});
        for (float& w : c.w_rec) w *= 0x1p-2f;
        c.squares = false;
        SCOPED_TRACE(testing::Message() << "N " << plan.N);
        const auto backend = make_backend(BackendKind::cpu, 4, Sums::float32);
        const StateResults results = run_state(*backend, c, How::whole_passes),
                           expected = run_state(*backend, c, How::loop);
        expect_same_states(results, expected);
        expect_near_adjoints(results, expected, 4e-6);
    }
}

#endif

}  // namespace
}  // namespace spikefloss::testing_support
