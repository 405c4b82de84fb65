// Neuron and spike operations of every backend against plain double loops written from the equations.
#include "backend/operation_test.hpp"

#include <bit>

namespace spikefloss::testing_support {
namespace {

class NeuronOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(NeuronOperations);

TEST(RaggedShapes, FewCoverEveryPair) {
    const std::vector<Shape> all = all_ragged_shapes(), few = few_of(all, factors_of);
    EXPECT_TRUE(covers_every_pair(few, all, factors_of));
    EXPECT_LE(few.size(), 25u);
}

// test(shape, neurons) for every shape (each [b, n] once) and reset.
template <class Test>
void for_every_reset(Test&& test) {
    for (const Shape& shape : ragged_shapes())
        for (const auto& rule : all_reset_rules) {
            if (shape.k != 7) continue;
            SCOPED_TRACE(testing::Message() << shape << ", reset " << rule);
            test(shape, Neurons({.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, shape.b, shape.n));
        }
}

TEST_P(NeuronOperations, OneStep) {
    for_every_reset([&](const Shape& shape, const Neurons& net) {
        const Index count = shape.b * shape.n;
        const Floats input = random_floats(count, 11), recurrent = random_floats(count, 12),
                     i = random_floats(count, 13);
        Doubles i_next(count), u_next(count);
        for (Index at = 0; at < count; ++at) {
            const Index j = at % shape.n;
            i_next[at] = double(net.alpha[j]) * i[at] + input[at] + recurrent[at] + net.bias[j];
            const double v = net.beta[j] * net.leaking(at) + (1.0 - net.beta[j]) * i_next[at];
            u_next[at] = net.model.reset_delay == 0 ? v : net.after_reset(at, v);
        }
        const Constants constants(backend, net);
        const Buffer<float> input_(backend, input), recurrent_(backend, recurrent), i_(backend, i), u_(backend, net.u);
        Buffer<float> i_out(backend, count), u_out(backend, count);
        backend.neuron_step(net.model, constants, shape.b, shape.n, input_.data(), recurrent_.data(),
                            {i_.data(), u_.data()}, {i_out.data(), u_out.data()});
        EXPECT_TRUE(close_to(i_out.to_host(), i_next, 1e-6));
        EXPECT_TRUE(close_to(u_out.to_host(), u_next, 1e-6));
    });
}

TEST_P(NeuronOperations, SpikesArePackedAndCounted) {
    for (const Shape& shape : ragged_shapes()) {
        SCOPED_TRACE(testing::Message() << shape);
        const Neurons net({.threshold = 0.7f}, shape.b, shape.n);
        const Index count = shape.b * shape.n, words = spike_words(shape.n);
        std::vector<std::uint32_t> expected(shape.b * words, 0u);
        double spikes = 0.0;
        for (Index at = 0; at < count; ++at) {
            const Index row = at / shape.n, j = at % shape.n;
            expected[row * words + j / 32] |= static_cast<std::uint32_t>(net.spike(at)) << (j % 32);
            spikes += net.spike(at);
        }
        const Buffer<float> u_(backend, net.u);
        Buffer<std::uint32_t> bits(backend, std::vector<std::uint32_t>(shape.b * words, ~0u));
        backend.pack_spikes(net.model, {}, shape.b, shape.n, {nullptr, u_.data()}, bits.data());
        EXPECT_TRUE(all_equal(bits.to_host(), expected));
        // All words at once, and the first word of every row.
        Buffer<double> counts(backend, Doubles{0.5, 0.0});
        backend.count_spikes(shape.b, words, bits.data(), words, counts.data());
        backend.count_spikes(shape.b, words > 0 ? 1 : 0, bits.data(), words, counts.data() + 1);
        double firsts = 0.0;
        for (Index r = 0; r < shape.b && words > 0; ++r) firsts += std::popcount(expected[r * words]);
        EXPECT_EQ(counts.to_host(), (Doubles{spikes + 0.5, firsts}));
    }
}

TEST_P(NeuronOperations, NoSpikeExactlyAtThreshold) {
    const NeuronModel model{.threshold = 0.7f};
    const Buffer<float> u(backend, Floats{0.7f, std::nextafter(0.7f, 1.0f), std::nextafter(0.7f, 0.0f), nan_value});
    Buffer<std::uint32_t> bits(backend, 1);
    backend.pack_spikes(model, {}, 1, 4, {nullptr, u.data()}, bits.data());
    EXPECT_EQ(bits.to_host()[0], 2u);
}

TEST_P(NeuronOperations, OneStepBackward) {
    for_every_reset([&](const Shape& shape, const Neurons& net) {
        const Index count = shape.b * shape.n;
        const Floats di = random_floats(count, 21), du = random_floats(count, 22);
        Doubles g(count), di_before(count), du_before(count);
        for (Index at = 0; at < count; ++at) {
            const Index j = at % shape.n;
            const double c = net.reset_factor(at), dv = net.f(c) * du[at];
            g[at] = di[at] + (1.0 - net.beta[j]) * dv;
            di_before[at] = net.alpha[j] * g[at];
            du_before[at] = net.beta[j] * net.q(c) * dv;
        }
        const Constants constants(backend, net);
        const Buffer<float> u_(backend, net.u);
        Buffer<float> di_(backend, di), du_(backend, du), g_(backend, count);
        backend.neuron_step_backward(net.model, constants, shape.b, shape.n, {nullptr, u_.data()}, {},
                                     {di_.data(), du_.data()}, g_.data(), nullptr, {});
        EXPECT_TRUE(close_to(g_.to_host(), g, 1e-6));
        EXPECT_TRUE(close_to(di_.to_host(), di_before, 1e-6));
        EXPECT_TRUE(close_to(du_.to_host(), du_before, 1e-6));
    });
}

// Each part alone, and all together, through both readouts.
TEST_P(NeuronOperations, AdjointsAreAdded) {
    for (const Shape& shape : ragged_shapes())
        for (Surrogate surrogate : all_surrogates)
            for (int parts = 1; parts < 8; ++parts) {
                if (shape.k != 7) continue;
                const Readout readout = parts % 3 ? Readout::spikes : Readout::membrane;
                SCOPED_TRACE(testing::Message() << shape << ", surrogate " << int(surrogate) << ", parts " << parts);
                const Neurons net({.threshold = 0.7f, .surrogate = surrogate, .sharpness = 3.0f}, shape.b, shape.n);
                const Index count = shape.b * shape.n;
                const Floats back = random_floats(count, 31), from = random_floats(count, 32),
                             extra = random_floats(count, 33), du = random_floats(count, 34);
                Doubles expected = widened(du);
                for (Index at = 0; at < count; ++at) {
                    if (parts & 1) expected[at] += net.psi(at) * back[at];
                    if (parts & 2) expected[at] += (readout == Readout::spikes ? net.psi(at) : 1.0) * from[at];
                    if (parts & 4) expected[at] += extra[at];
                }
                const Buffer<float> u_(backend, net.u), back_(backend, back), from_(backend, from),
                    extra_(backend, extra);
                Buffer<float> du_(backend, du);
                backend.add_adjoints(net.model, {}, readout, shape.b, shape.n, {nullptr, u_.data()},
                                     parts & 1 ? back_.data() : nullptr, nullptr, parts & 2 ? from_.data() : nullptr,
                                     parts & 4 ? extra_.data() : nullptr, {nullptr, du_.data()}, {});
                EXPECT_TRUE(close_to(du_.to_host(), expected, 1e-6));
            }
}

// The value of each surrogate, near threshold and so far away that exp(g v) overflows a float.
TEST_P(NeuronOperations, SurrogatesDoNotOverflow) {
    for (Surrogate surrogate : all_surrogates) {
        Neurons net({.threshold = 1.0f, .surrogate = surrogate, .sharpness = 25.0f}, 1, 12);
        net.u = {1.0f, 1.01f, 0.99f, 1.04f, 0.96f, 11.0f, -9.0f, 1e4f, -1e4f, 1e15f, -1e15f, 3e18f};
        Doubles expected;
        for (Index at = 0; at < 12; ++at) expected.push_back(net.psi(at));
        const Buffer<float> u_(backend, net.u), ones(backend, Floats(12, 1.0f));
        Buffer<float> psi(backend, 12);
        backend.add_adjoints(net.model, {}, Readout::membrane, 1, 12, {nullptr, u_.data()}, ones.data(), nullptr,
                             nullptr, nullptr, {nullptr, psi.data()}, {});
        EXPECT_TRUE(close_to(psi.to_host(), expected, 2e-6)) << "surrogate " << int(surrogate);
    }
}

TEST_P(NeuronOperations, GradientsOfTheTimeConstants) {
    for_every_reset([&](const Shape& shape, const Neurons& net) {
        const Index count = shape.b * shape.n;
        const Floats i_before = random_floats(count, 41), i_now = random_floats(count, 42),
                     di = random_floats(count, 43), du = random_floats(count, 44), alpha = random_floats(shape.n, 45),
                     beta = random_floats(shape.n, 46);
        Doubles d_alpha = widened(alpha), d_beta = widened(beta);
        for (Index at = 0; at < count; ++at) {
            const Index j = at % shape.n;
            const double dv = net.f(net.reset_factor(at)) * du[at], g = di[at] + (1.0 - net.beta[j]) * dv;
            d_alpha[j] += g * i_before[at];
            d_beta[j] += dv * (net.leaking(at) - i_now[at]);
        }
        const Constants constants(backend, net);
        const Buffer<float> i_before_(backend, i_before), i_now_(backend, i_now), u_(backend, net.u);
        Buffer<float> di_(backend, di), du_(backend, du), g_(backend, count);
        SumBuffer alpha_ = sums_on_backend(alpha), beta_ = sums_on_backend(beta);
        backend.neuron_step_backward(net.model, constants, shape.b, shape.n, {i_before_.data(), u_.data()},
                                     {i_now_.data(), nullptr}, {di_.data(), du_.data()}, g_.data(), nullptr,
                                     {.alpha = alpha_.matrix(1, shape.n), .beta = beta_.matrix(1, shape.n)});
        // The terms themselves are floats; membranes of 30 make some of them large.
        EXPECT_TRUE(close_to(to_host(alpha_), d_alpha, 2e-6));
        EXPECT_TRUE(close_to(to_host(beta_), d_beta, 1e-5));
    });
}

}  // namespace
}  // namespace spikefloss::testing_support
