// Losses and backpropagation: every gradient against finite differences of the network with the smooth spike, for all
// surrogates, resets, readouts and losses; the penalty's extra term; the adjoint cap in closed form.
#include "reference/finite_differences.hpp"
#include "support/near.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace spikefloss::reference {
namespace {

using namespace testing_support;

// The gradients of every parameter that `net` has are the derivatives of objective(), which runs it.
template <class Objective>
void expect_derivatives(const Gradients& gradients, Network& net, Objective&& objective) {
    const auto expect_all = [&](const auto& parameters) {
        for (const auto& [name, values] : parameters) {
            if ((net.*values).empty()) continue;
            EXPECT_TRUE(near_in_norm(gradients.*values, finite_differences(net.*values, objective), 1e-7)) << name;
        }
    };
    expect_all(all_parameters);
    expect_all(adaptation_parameters);
}

class ReferenceTask : public testing::TestWithParam<Surrogate> {
protected:
    // Calls work(example) for every reset, readout, loss and state size, and for adapting neurons.
    template <class Work>
    void for_each_variant(Work&& work) {
        for (const auto& rule : all_reset_rules)
            for (Adaptation adaptation : all_adaptations)
                for (Index refractory : {0, 2}) {
                    SCOPED_TRACE(testing::Message()
                                 << rule << ", adaptation " << name_of(adaptation) << ", refractory " << refractory);
                    Example example;
                    example.surrogate = GetParam();
                    example.sharpness = 0.8;
                    example.reset = rule.reset;
                    example.reset_delay = rule.delay;
                    example.readout = refractory ? Readout::membrane : Readout::spikes;
                    example.initial_state = true;
                    example.own_thresholds = true;
                    example.adaptation = adaptation;
                    example.refractory = refractory;
                    work(example);
                }
        for (const auto& rule : all_reset_rules)
            for (Readout readout : all_readouts)
                for (LossKind loss : {LossKind::binary_cross_entropy, LossKind::cross_entropy_mean})
                    for (bool has_current : {true, false}) {
                        SCOPED_TRACE(testing::Message() << rule << ", readout " << name_of(readout) << ", loss "
                                                        << name_of(loss) << ", " << (has_current ? "D = 2N" : "D = N"));
                        Example example;
                        example.surrogate = GetParam();
                        example.sharpness = 0.8;
                        example.reset = rule.reset;
                        example.reset_delay = rule.delay;
                        example.readout = readout;
                        example.loss = loss;
                        example.has_current = has_current;
                        example.initial_state = true;
                        work(example);
                    }
    }
};

TEST_P(ReferenceTask, GradientIsTheTrueGradientOfTheSmoothNetwork) {
    for_each_variant([](const Example& example) {
        const SmoothCase c = find_smooth_case(example, [](const SmoothCase&) { return true; });
        const Loss loss = task_loss(c.seq, c.trajectory.readout);
        const Gradients gradients = backward(c.net, c.seq, c.trajectory, loss.gradient);
        Network net = c.net;
        expect_derivatives(gradients, net, [&] { return task_loss(c.seq, c.run(net).readout).value; });
    });
}

// A loss on v = u - A itself, sum of c[t] v[t], enters as the extra term c[t].
TEST_P(ReferenceTask, ExtraTermIsTheGradientOfALossOnV) {
    for_each_variant([](const Example& example) {
        const SmoothCase c = find_smooth_case(example, [](const SmoothCase&) { return true; });
        std::vector<double> weights;
        for (std::size_t j = 0; j < c.trajectory.v.size(); ++j) weights.push_back(std::cos(static_cast<double>(j)));
        const Gradients gradients = backward(c.net, c.seq, c.trajectory, {}, {.extra = &weights});
        Network net = c.net;
        expect_derivatives(gradients, net, [&] {
            const Trajectory tr = c.run(net);
            double total = 0.0;
            for (std::size_t j = 0; j < weights.size(); ++j) total += weights[j] * tr.v[j];
            return total;
        });
    });
}

// The bounds lie on both sides of the rates of the smooth spikes.
TEST_P(ReferenceTask, RatePenaltyHasTheGradientOfTheSmoothNetwork) {
    constexpr RateWeights weights{.l1 = 0.7, .l2 = 0.1, .bound = 9.0, .lower = 0.4, .upper = 0.5};
    for_each_variant([&](const Example& example) {
        const SmoothCase c = find_smooth_case(example, [&](const SmoothCase& found) {
            const RatePenalty at = rate_penalty(found.net, found.seq, found.trajectory, weights);
            return std::none_of(at.rate.begin(), at.rate.end(), [&](double r) {
                const double distance = std::min(std::abs(r - weights.lower), std::abs(r - weights.upper));
                return distance < 30.0 * difference_step;
            });
        });
        const RatePenalty penalty = rate_penalty(c.net, c.seq, c.trajectory, weights);
        const Gradients gradients = backward(c.net, c.seq, c.trajectory, {}, {.extra = &penalty.extra});
        Network net = c.net;
        expect_derivatives(gradients, net, [&] { return rate_penalty(net, c.seq, c.run(net), weights).value; });
    });
}

INSTANTIATE_TEST_SUITE_P(Surrogates, ReferenceTask, testing::ValuesIn(all_surrogates),
                         [](const auto& test) { return name_of(test.param); });

TEST(ReferenceLoss, GradientsAreTheDerivatives) {
    for (LossKind kind : all_losses) {
        Example example;
        example.outputs = 3;
        example.own_lengths = true;
        example.loss = kind;
        const Sequences seq = random_sequences(example);
        std::vector<double> y;
        for (Index j = 0; j < seq.steps * seq.batch * 3; ++j) y.push_back(3.0 * std::sin(static_cast<double>(j)));
        const Loss loss = task_loss(seq, y);
        const auto expected = finite_differences(y, [&] { return task_loss(seq, y).value; });
        EXPECT_TRUE(near_in_norm(loss.gradient, expected, 1e-8));
    }
}

TEST(ReferenceLoss, BinaryCrossEntropyByHand) {
    Sequences seq;
    seq.steps = 3;
    seq.batch = 1;
    seq.mask = {0.0, 1.0, 1.0};
    seq.target = {1.0, 1.0, 0.0, 0.0, 1.0, 1.0};  // [3, 1, 2]
    const Loss loss = task_loss(seq, {5.0, 5.0, 0.0, 1000.0, -1000.0, std::log(3.0)});
    EXPECT_EQ(loss.terms, 4);
    EXPECT_NEAR(loss.value, (std::log(2.0) + 1000.0 + 1000.0 - std::log(0.75)) / 4.0, 1e-12);
    EXPECT_DOUBLE_EQ(loss.accuracy, 0.5);  // logit 0 means 0
    EXPECT_TRUE(all_near(loss.gradient, std::vector<double>{0.0, 0.0, 0.125, 0.25, -0.25, -0.0625}, 1e-12));
}

TEST(ReferenceLoss, MeanSquaredErrorByHand) {
    Sequences seq;
    seq.steps = 2;
    seq.batch = 2;
    seq.mask = {1.0, 1.0, 0.0, 1.0};
    seq.target = {1.0, 2.0, 0.5, -1.0};  // [2, 2, 1]
    seq.loss = LossKind::mean_squared_error;
    const Loss loss = task_loss(seq, {3.0, 2.5, 100.0, -4.0});
    EXPECT_EQ(loss.terms, 3);
    EXPECT_NEAR(loss.value, (4.0 + 0.25 + 9.0) / 3.0, 1e-12);
    EXPECT_TRUE(all_near(loss.gradient, std::vector<double>{4.0 / 3.0, 1.0 / 3.0, 0.0, -2.0}, 1e-12));
}

// Two sequences with two and one steps that count, and two outputs. The difference of the two logits is d; the losses
// are ln(1 + exp(-d)) with label 0 and ln(1 + exp(d)) with label 1, and p = 1 / (1 + exp(-d)).
TEST(ReferenceLoss, CrossEntropiesByHand) {
    Sequences seq;
    seq.steps = 3;
    seq.batch = 2;
    seq.mask = {0.0, 0.0, 1.0, 1.0, 1.0, 0.0};
    seq.label = {0, 1};
    const double l = std::log(3.0);
    //                            t = 0, nothing counts    t = 1                    t = 2: only the first sequence
    const std::vector<double> y = {9.0, 9.0, 9.0, 9.0, 2.0 * l, l, 2000.0, 0.0, 0.0, l, 5e3, 0.0};
    struct Expected {
        LossKind kind;
        double difference;                 // of the logits of the first sequence
        std::vector<double> first, other;  // d(logit 0)/dy, d(logit 1)/dy of the first sequence, at t = 1, 2
    };
    for (const auto& [kind, d, first, other] :
         {Expected{LossKind::cross_entropy_mean, 0.0, {0.5, 0.5}, {0.5, 0.5}},
          Expected{LossKind::cross_entropy_max, l, {1.0, 0.0}, {1.0, 0.0}},  // the first of two equal y
          Expected{LossKind::cross_entropy_sum, 0.0, {1.0, 1.0}, {1.0, 1.0}},
          Expected{LossKind::cross_entropy_last, -l, {0.0, 1.0}, {0.0, 1.0}}}) {
        SCOPED_TRACE(name_of(kind));
        seq.loss = kind;
        const Loss loss = task_loss(seq, y);
        const double p = 1.0 / (1.0 + std::exp(-d));
        EXPECT_EQ(loss.terms, 2);
        EXPECT_NEAR(loss.value, (-std::log(p) + 2000.0) / 2.0, 1e-12);
        EXPECT_DOUBLE_EQ(loss.accuracy, d >= 0.0 ? 0.5 : 0.0);
        std::vector<double> expected(12, 0.0);
        for (std::size_t t : {1, 2}) {
            expected[4 * t] = (p - 1.0) / 2.0 * first[t - 1];
            expected[4 * t + 1] = (1.0 - p) / 2.0 * other[t - 1];
        }
        expected[6] = 0.5, expected[7] = -0.5;
        EXPECT_TRUE(all_near(loss.gradient, expected, 1e-12));
    }
}

// One neuron without recurrence or reset: after the only injection, at the last step, the adjoint of u decays by beta.
TEST(ReferenceBackward, CapBoundsTheAdjointOfEachSequence) {
    Network net;
    net.neurons = net.inputs = net.outputs = 1;
    net.reset = Reset::none;
    net.w_in = {1.0};
    net.w_rec = {0.0};
    net.bias = {0.0};
    net.w_out = {2.0};
    net.bias_out = {0.0};
    net.alpha = {0.0};
    net.beta = {0.5};
    net.kappa = {0.0};
    Sequences seq;
    seq.steps = 4;
    seq.batch = 2;
    seq.x.assign(8, 0.0);
    const Trajectory tr = forward(net, seq);
    std::vector<double> dy(8, 0.0);
    dy[6] = 3.0;   // sequence 0: du[4] = 6, capped to 1
    dy[7] = 0.25;  // sequence 1: du[4] = 0.5, below the cap
    const double limit = 0.5 * readout_injection(net, 1) * 2.0;
    EXPECT_DOUBLE_EQ(limit, 1.0);
    const Gradients capped = backward(net, seq, tr, dy, {.adjoint_limit = limit});
    EXPECT_DOUBLE_EQ(capped.initial_membrane[0], 1.5 / 16.0);
    EXPECT_DOUBLE_EQ(capped.bias[0], 0.5 * 1.5 * (1.0 + 0.5 + 0.25 + 0.125));
    EXPECT_DOUBLE_EQ(capped.state_gradient_norm[4], std::hypot(6.0, 0.5));  // measured before the cap
    EXPECT_DOUBLE_EQ(capped.state_gradient_norm[3], std::hypot(0.5, 0.25));
    const Gradients free = backward(net, seq, tr, dy);
    EXPECT_DOUBLE_EQ(free.initial_membrane[0], 6.5 / 16.0);
}

TEST(ReferenceForward, SpikesStrictlyAboveThreshold) {
    Example example;
    Network net = random_network(example);
    Sequences seq = random_sequences(example);
    net.initial_membrane = {1.0, 1.0 + 1e-12, 1.0 - 1e-12, 2.0, -1.0};
    const Trajectory tr = forward(net, seq);
    EXPECT_TRUE(all_equal(std::vector<double>(tr.spikes.begin(), tr.spikes.begin() + 5),
                          std::vector<double>{0.0, 1.0, 0.0, 1.0, 0.0}));
}

}  // namespace
}  // namespace spikefloss::reference
