// The state forwards and backwards on one rank: the golden cases, and the reference on random networks of every kind.
#include "backend/backends.hpp"
#include "backend/instruction_sets.hpp"
#include "support/golden.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

using namespace testing_support;

// All results of a task run, against the reference.
void expect_as_reference(const Execution& execution, const Case& c, double limit) {
    SCOPED_TRACE(testing::Message() << (execution.sums == Sums::float32 ? "float32" : "float64")
                                    << (execution.whole_passes ? ", whole passes" : ", loop")
                                    << (execution.time_constants ? ", time constants, " : ", ") << execution.threads
                                    << " threads");
    constexpr double tolerance = 2e-5;
    const TaskRun run = run_task(alone(), execution, c.net, c.seq, limit);
    SCOPED_TRACE(run.passes);
    const std::string loop = "loop over steps";
    const bool whole = execution.whole_passes && execution.sums == Sums::float32;
    EXPECT_EQ(run.passes == loop + ", " + loop, !whole);
    EXPECT_EQ(run.passes.ends_with(loop), !whole || execution.time_constants);
    EXPECT_TRUE(all_equal(run.spikes, c.trajectory.spikes));
    EXPECT_TRUE(all_near(run.current, c.trajectory.current, 1e-5));
    EXPECT_TRUE(all_near(run.membrane, c.trajectory.membrane, 1e-5));
    EXPECT_TRUE(all_near(run.readout, c.trajectory.readout, 1e-5));
    const reference::Loss loss = reference::task_loss(c.seq, c.trajectory.readout);
    EXPECT_NEAR(run.outcome.loss, loss.value, 1e-6);
    EXPECT_NEAR(run.outcome.accuracy, loss.accuracy, 1e-12);
    double spikes = 0.0;
    const auto first = static_cast<std::size_t>(c.seq.batch * c.net.neurons);  // the rate counts steps 1..T
    for (std::size_t j = first; j < c.trajectory.spikes.size(); ++j) spikes += c.trajectory.spikes[j];
    EXPECT_NEAR(run.rate, spikes / static_cast<double>(c.trajectory.spikes.size() - first), 1e-12);
    const reference::Gradients gradients =
        reference::backward(c.net, c.seq, c.trajectory, loss.gradient, {.adjoint_limit = limit});
    expect_gradients_near(run.gradient, given_by(execution, gradients), tolerance);
    EXPECT_TRUE(near_in_norm(run.state_gradient_norm, gradients.state_gradient_norm, tolerance));
}

void expect_as_reference(const Case& c, double limit = 0.0) {
    for (const Execution& execution :
         {Execution{}, Execution{.sums = Sums::float64}, Execution{.whole_passes = false},
          Execution{.time_constants = false}, Execution{.time_constants = false, .threads = 3}})
        expect_as_reference(execution, c, limit);
}

class StatePassGolden : public testing::TestWithParam<std::string> {};

TEST_P(StatePassGolden, BothSums) {
    const GoldenCase golden = load_golden(std::string(SPIKEFLOSS_TEST_DATA) + "/" + GetParam() + ".h5");
    const GoldenExpectation& expect = golden.expect.value();
    for (const Sums sums : {Sums::float32, Sums::float64}) {
        SCOPED_TRACE(sums == Sums::float32 ? "float32" : "float64");
        const TaskRun run = run_task(alone(), sums, golden.network, golden.sequences);
        EXPECT_TRUE(all_equal(run.spikes, expect.spikes));
        EXPECT_TRUE(all_near(run.current, expect.current, 2e-5));
        EXPECT_TRUE(all_near(run.membrane, expect.membrane, 2e-5));
        EXPECT_TRUE(all_near(run.readout, expect.readout, 2e-5));
        EXPECT_NEAR(run.outcome.loss, expect.task_loss, 1e-5 * expect.task_loss);
        EXPECT_FALSE(expect.task_gradient.w_rec.empty());
        expect_gradients_near(run.gradient, expect.task_gradient, 1e-3);
        for (std::size_t t = 0; t < expect.state_gradient_norm.size(); ++t)
            EXPECT_NEAR(run.state_gradient_norm[t], expect.state_gradient_norm[t], 1e-3 * expect.state_gradient_norm[t])
                << "t " << t;
    }
}

INSTANTIATE_TEST_SUITE_P(Cases, StatePassGolden, testing::ValuesIn(golden_names(SPIKEFLOSS_TEST_DATA)),
                         [](const auto& test) { return test.param; });

// Every combination of surrogate, reset, readout and loss; half of them without a current, half with an initial state.
TEST(StatePassReference, EveryKindOfNetwork) {
    std::uint64_t count = 0;
    for (const auto surrogate : reference::all_surrogates)
        for (const auto& rule : reference::all_reset_rules)
            for (const auto readout : reference::all_readouts)
                for (const auto loss :
                     {reference::LossKind::binary_cross_entropy, reference::LossKind::cross_entropy_mean}) {
                    reference::Example example{.neurons = 7, .inputs = 3, .outputs = 2, .steps = 11, .batch = 3};
                    example.surrogate = surrogate;
                    example.reset = rule.reset;
                    example.reset_delay = rule.delay;
                    example.readout = readout;
                    example.loss = loss;
                    example.seed = 1000 * ++count;
                    example.has_current = count % 3 != 0;
                    example.initial_state = count % 4 < 2;
                    // Not 1: the kink of the triangle would be at u = 0, where every membrane starts.
                    example.sharpness = count % 5 == 0 ? 5.0 : 0.8;
                    SCOPED_TRACE(testing::Message() << reference::name_of(surrogate) << " " << rule << " "
                                                    << reference::name_of(readout) << " " << count);
                    expect_as_reference(clear_case(example));
                }
}

// Few spikes, more neurons than one word of bits, more sequences than a thread processes together: the whole passes
// then sum by spikes.
TEST(StatePassReference, FewSpikes) {
    for (const auto& rule : reference::all_reset_rules) {
        reference::Example example{
            .neurons = 41, .steps = 9, .batch = 15, .reset = rule.reset, .reset_delay = rule.delay, .seed = 4000};
        reference::Network net = reference::random_network(example);
        net.threshold = 2.5;
        const reference::Sequences seq = reference::random_sequences(example);
        const Case c{net, seq, reference::forward(net, seq)};
        double spikes = 0.0;
        for (double s : c.trajectory.spikes) spikes += s;
        const double rate = spikes / static_cast<double>(c.trajectory.spikes.size());
        EXPECT_GT(rate, 0.005);
        EXPECT_LT(rate, 0.1);
        expect_as_reference(c);
    }
}

// The cap must act on some adjoints and not on others: 1/3 of the largest norm lies between.
TEST(StatePassReference, AdjointCap) {
    for (const auto readout : reference::all_readouts) {
        const Case c = clear_case({.neurons = 6, .steps = 14, .batch = 3, .readout = readout, .gain = 2.0, .seed = 77});
        const reference::Loss loss = reference::task_loss(c.seq, c.trajectory.readout);
        const auto free = reference::backward(c.net, c.seq, c.trajectory, loss.gradient);
        const double limit = *std::max_element(free.state_gradient_norm.begin(), free.state_gradient_norm.end()) / 3.0;
        const auto capped = reference::backward(c.net, c.seq, c.trajectory, loss.gradient, {.adjoint_limit = limit});
        EXPECT_GT(relative_error(capped.w_rec, free.w_rec), 1e-2);
        expect_as_reference(c, limit);
    }
}

// A batch so large that inputs, adjoints and spikes go through the products in several chunks of steps; the last chunk
// is shorter. Copies of a few sequences have the same mean loss and the same gradient as these.
TEST(StatePassReference, SeveralChunksOfSteps) {
    for (const auto readout : reference::all_readouts) {
        const Case c = clear_case({.neurons = 5, .steps = 13, .batch = 3, .readout = readout, .seed = 500});
        const Index copies = 8000;  // 24000 sequences of 5 neurons: 4 steps per chunk, 3 chunks and a single step
        const reference::Sequences many = repeated(c.seq, copies);
        const reference::Loss loss = reference::task_loss(c.seq, c.trajectory.readout);
        const auto gradients = reference::backward(c.net, c.seq, c.trajectory, loss.gradient);
        // The gradient of each copy is 1/copies of the original one. Norms over all copies fall with the root.
        std::vector<double> norms = gradients.state_gradient_norm;
        for (double& norm : norms) norm /= std::sqrt(static_cast<double>(copies));
        for (const Execution& execution :
             {Execution{.sums = Sums::float64}, Execution{}, Execution{.time_constants = false}}) {
            const TaskRun run = run_task(alone(), execution, c.net, many);
            EXPECT_NEAR(run.outcome.loss, loss.value, 1e-6);
            // 312000 terms in every sum: float32 keeps the required accuracy, 1e-3, and float64 loses nothing.
            expect_gradients_near(run.gradient, given_by(execution, gradients),
                                  execution.sums == Sums::float64 ? 2e-5 : 1e-3);
            EXPECT_TRUE(near_in_norm(run.state_gradient_norm, norms, 2e-5));
            const auto membranes = static_cast<std::size_t>(c.net.neurons * c.seq.batch);
            for (Index t = 0; t <= c.seq.steps; ++t)
                for (const Index copy : {Index(0), copies - 1})
                    for (std::size_t j = 0; j < membranes; ++j)
                        EXPECT_NEAR(run.membrane[static_cast<std::size_t>(t * copies + copy) * membranes + j],
                                    c.trajectory.membrane[static_cast<std::size_t>(t) * membranes + j], 1e-5);
        }
    }
}

// Inputs of 0 and 1 are packed as bits. Those of 0 and 2 are not, and give the same with half the weights. The second
// chunk has 192 rows, which are not packed. Inputs that are given as bits give the same, too.
TEST(StatePassReference, PackedInputsChangeNothing) {
    for (const Index neurons : {520, 801}) {  // of the second, several threads take the same sequences
        const reference::Example example{.neurons = neurons, .inputs = 45, .steps = 70, .batch = 32, .seed = 3};
        const reference::Network net = reference::random_network(example);
        reference::Network half = net;
        for (double& w : half.w_in) w *= 0.5;
        reference::Sequences seq = reference::random_sequences(example);
        for (double& x : seq.x) x = x > 1.0 ? 1.0 : 0.0;
        reference::Sequences twice = seq;
        for (double& x : twice.x) x *= 2.0;
        for (const Execution& execution : {Execution{.time_constants = false}, Execution{.whole_passes = false},
                                           Execution{.time_constants = false, .threads = 3}}) {
            const TaskRun packed = run_task(alone(), execution, net, seq),
                          floats = run_task(alone(), execution, half, twice);
            EXPECT_EQ(packed.spikes, floats.spikes);
            EXPECT_EQ(packed.membrane, floats.membrane);
            reference::Parameters expected = floats.gradient;
            for (double& g : expected.w_in) g *= 0.5;
            expect_gradients_equal(packed.gradient, expected);
            if (!make_test_backend(1, Sums::float32)->is_host()) continue;
            Execution with_bits = execution;
            with_bits.bits = true;
            const TaskRun given = run_task(alone(), with_bits, net, seq);
            EXPECT_EQ(given.spikes, packed.spikes);
            EXPECT_EQ(given.membrane, packed.membrane);
            expect_gradients_equal(given.gradient, packed.gradient);
        }
    }
}

// A pass of a small network takes a thread for each 8192 steps of a neuron, here up to 5, as the network pass and as
// the row pass.
TEST(StatePassReference, AnyNumberOfThreadsGivesTheSameBits) {
    for (const Index inputs : {3, 9}) {
        const reference::Example example{.neurons = 80, .inputs = inputs, .steps = 40, .batch = 13, .seed = 4};
        const reference::Network net = reference::random_network(example);
        const reference::Sequences seq = reference::random_sequences(example);
        const TaskRun one = run_task(alone(), {.time_constants = false}, net, seq);
        for (const int threads : {2, 3, 7}) {
            const TaskRun several = run_task(alone(), {.time_constants = false, .threads = threads}, net, seq);
            EXPECT_EQ(several.spikes, one.spikes) << threads;
            EXPECT_EQ(several.membrane, one.membrane) << threads;
            expect_gradients_equal(several.gradient, one.gradient);
        }
    }
}

// Without the currents of all steps, two buffers alternate. The result must be the same.
TEST(StatePassReference, DroppedCurrentsChangeNothing) {
    const Case c = clear_case({.steps = 9, .seed = 31});
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
    Backend& backend = *made;
    const Network network(backend, alone(), host_network(c.net, alone()));
    const Batch batch = host_batch(c.net, c.seq, {0, c.seq.batch});
    LossPass loss(backend, alone(), c.seq.steps, c.seq.batch, c.net.inputs, c.net.outputs, batch.loss);
    loss.load(batch);
    std::vector<std::vector<float>> membranes;
    std::vector<std::vector<float>> gradients;
    for (const bool keep : {true, false}) {
        StatePass state(backend, alone(), network, c.seq.steps, c.seq.batch, {.keep_current = keep});
        SumBuffer gradient(backend, network.layout.size());
        state.forward(network, loss.x());
        loss.evaluate(state.tape().readout.data());
        state.backward(network, loss.x(), {.dy = loss.dy()}, gradient);
        membranes.push_back(state.tape().membrane.to_host());
        Buffer<float> rounded(backend, network.layout.size());
        backend.round_sums(gradient.data(), rounded.data(), rounded.size());
        gradients.push_back(rounded.to_host());
        // A second forward and backward pass adds the same again: nothing of the first one is left.
        state.forward(network, loss.x());
        state.backward(network, loss.x(), {.dy = loss.dy()}, gradient);
        backend.round_sums(gradient.data(), rounded.data(), rounded.size());
        std::vector<double> twice(gradients.back().begin(), gradients.back().end());
        for (double& g : twice) g *= 2.0;
        EXPECT_TRUE(near_in_norm(rounded.to_host(), twice, 1e-6));
    }
    EXPECT_TRUE(all_equal(membranes[0], membranes[1]));
    EXPECT_TRUE(all_equal(gradients[0], gradients[1]));
}

}  // namespace
}  // namespace spikefloss
