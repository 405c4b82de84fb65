// Neuron and spike operations of every backend against plain double loops written from the equations.
#include "backend/operation_test.hpp"

#include <algorithm>
#include <bit>
#include <tuple>

namespace spikefloss::testing_support {
namespace {

class NeuronOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(NeuronOperations);

TEST(RaggedShapes, FewCoverEveryPair) {
    const std::vector<Shape> all = all_ragged_shapes(), few = few_of(all, factors_of);
    EXPECT_TRUE(covers_every_pair(few, all, factors_of));
    EXPECT_LE(few.size(), 25u);
}

// test(shape, neurons) for every shape (each [b, n] once), reset, and what neurons have beyond the model.
template <class Test>
void for_every_neuron(Test&& test) {
    for (const Shape& shape : ragged_shapes())
        for (const auto& rule : all_reset_rules)
            for (const Extras& extras : all_extras) {
                if (shape.k != 7 || (takes_long(shape.n, extras) && rule.reset != Reset::subtract)) continue;
                SCOPED_TRACE(testing::Message() << shape << ", reset " << rule << ", " << extras);
                test(shape, Neurons({.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, shape.b,
                                    shape.n, 1, extras));
            }
}

// Random where the neurons adapt, else empty.
Floats adaptations(const Neurons& net, std::uint64_t seed) {
    return net.adapts() ? random_floats(static_cast<Index>(net.u.size()), seed, 0.5) : Floats{};
}

// The adjoint of a state in backend memory.
struct Adjoint {
    Buffer<float> di, du, dw;
    Adjoint(Backend& backend, const Neurons& net, std::uint64_t seed)
        : di(backend, random_floats(static_cast<Index>(net.u.size()), seed)),
          du(backend, random_floats(static_cast<Index>(net.u.size()), seed + 1)),
          dw(backend, adaptations(net, seed + 2)) {}
    StateAdjoint pointers() { return {di.data(), du.data(), dw.size() > 0 ? dw.data() : nullptr}; }
};

TEST_P(NeuronOperations, OneStep) {
    for_every_neuron([&](const Shape& shape, const Neurons& net) {
        const Index count = shape.b * shape.n;
        const Floats input = random_floats(count, 11), recurrent = random_floats(count, 12),
                     i = random_floats(count, 13);
        Doubles i_next(count), u_next(count), w_next(net.w.size());
        for (Index at = 0; at < count; ++at) {
            const Index j = at % shape.n;
            double h = i_next[at] = double(net.alpha[j]) * i[at] + input[at] + recurrent[at] + net.bias[j];
            if (net.adapts())
                w_next[at] = double(net.rho[j]) * net.w[at] + net.adapt_membrane[j] * net.after_reset(at, net.u[at]) +
                             net.adapt_spike[j] * net.spike(at);
            if (net.model.adaptation == Adaptation::current) h -= w_next[at];
            const double v = net.beta[j] * net.leaking(at) + (1.0 - net.beta[j]) * h;
            u_next[at] = net.model.reset_delay == 0 ? v : net.after_reset(at, v);
        }
        const Constants constants(backend, net);
        const Buffer<float> input_(backend, input), recurrent_(backend, recurrent);
        Buffer<float> i_(backend, i), i_out(backend, count), u_out(backend, count), w_out(backend, net.w);
        backend.neuron_step(net.model, constants, shape.b, shape.n, input_.data(), recurrent_.data(),
                            constants.state(i_.data()), {i_out.data(), u_out.data(), w_out.data()});
        EXPECT_TRUE(close_to(i_out.to_host(), i_next, 1e-6));
        EXPECT_TRUE(close_to(u_out.to_host(), u_next, 1e-6));
        EXPECT_TRUE(close_to(w_out.to_host(), w_next, 1e-6));
        // The current and the adaptation in place.
        Buffer<float> w_(backend, net.w), u_again(backend, count);
        NeuronState state = constants.state(i_.data());
        if (net.adapts()) state.w = w_.data();
        backend.neuron_step(net.model, constants, shape.b, shape.n, input_.data(), recurrent_.data(), state,
                            {i_.data(), u_again.data(), w_.data()});
        EXPECT_TRUE(all_equal(i_.to_host(), i_out.to_host()));
        EXPECT_TRUE(all_equal(u_again.to_host(), u_out.to_host()));
        EXPECT_TRUE(all_equal(w_.to_host(), w_out.to_host()));
    });
}

// With a_u = a_s = 0 and w = 0 the bits are those without adaptation.
TEST_P(NeuronOperations, AdaptationByNothing) {
    for (const auto& rule : all_reset_rules)
        for (Adaptation adaptation : {Adaptation::threshold, Adaptation::current}) {
            SCOPED_TRACE(testing::Message() << "reset " << rule << ", adaptation " << name_of(adaptation));
            const Index b = 3, n = 301, count = b * n;
            const NeuronModel model{.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay};
            const Neurons plain(model, b, n, 1);
            Neurons adapting(model, b, n, 1, {.adaptation = adaptation});
            adapting.u = plain.u;
            for (Floats* zero : {&adapting.adapt_membrane, &adapting.adapt_spike, &adapting.w})
                std::fill(zero->begin(), zero->end(), 0.0f);
            const Buffer<float> input(backend, random_floats(count, 11)), recurrent(backend, random_floats(count, 12)),
                i(backend, random_floats(count, 13));
            const auto run = [&](const Neurons& net) {
                const Constants constants(backend, net);
                Buffer<float> i_next(backend, count), u_next(backend, count), w_next(backend, net.w);
                Buffer<std::uint32_t> bits(backend, b * spike_words(n));
                backend.neuron_step(net.model, constants, b, n, input.data(), recurrent.data(),
                                    constants.state(i.data()), {i_next.data(), u_next.data(), w_next.data()});
                backend.pack_spikes(net.model, constants, b, n, {nullptr, u_next.data(), w_next.data()}, bits.data());
                EXPECT_TRUE(all_equal(w_next.to_host(), Floats(net.w.size(), 0.0f)));
                return std::tuple(i_next.to_host(), u_next.to_host(), bits.to_host());
            };
            EXPECT_EQ(run(adapting), run(plain));
        }
}

TEST_P(NeuronOperations, SpikesArePackedAndCounted) {
    for (const Shape& shape : ragged_shapes())
        for (const Extras& extras : all_extras) {
            SCOPED_TRACE(testing::Message() << shape << ", " << extras);
            const Neurons net({.threshold = 0.7f}, shape.b, shape.n, 1, extras);
            const Index count = shape.b * shape.n, words = spike_words(shape.n);
            std::vector<std::uint32_t> expected(shape.b * words, 0u);
            double spikes = 0.0;
            for (Index at = 0; at < count; ++at) {
                const Index row = at / shape.n, j = at % shape.n;
                expected[row * words + j / 32] |= static_cast<std::uint32_t>(net.spike(at)) << (j % 32);
                spikes += net.spike(at);
            }
            const Constants constants(backend, net);
            Buffer<std::uint32_t> bits(backend, std::vector<std::uint32_t>(shape.b * words, ~0u));
            backend.pack_spikes(net.model, constants, shape.b, shape.n, constants.state(), bits.data());
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
    for_every_neuron([&](const Shape& shape, const Neurons& net) {
        const Index count = shape.b * shape.n, n = shape.n;
        const bool on_current = net.model.adaptation == Adaptation::current;
        const Floats i_before = random_floats(count, 41), i_now = random_floats(count, 42),
                     w_now = adaptations(net, 43);
        Adjoint d(backend, net, 21);
        const Floats di = d.di.to_host(), du = d.du.to_host(), dw = d.dw.to_host();
        Doubles g(count), own(net.w.size()), di_before(count), du_before(count), dw_before(net.w.size());
        // The sums of alpha, beta, theta, rho, a_u and a_s, which start with these values.
        std::vector<Floats> start;
        for (std::uint64_t seed = 51; seed < 57; ++seed) start.push_back(random_floats(n, seed));
        std::vector<Doubles> sums;
        for (const Floats& values : start) sums.push_back(widened(values));
        for (Index at = 0; at < count; ++at) {
            const Index j = at % n;
            const double c = net.reset_factor(at), beta = net.beta[j], dk = net.f(c) * du[at], s = net.spike(at);
            g[at] = di[at] + (1.0 - beta) * dk;
            di_before[at] = net.alpha[j] * g[at];
            du_before[at] = beta * net.q(c) * dk;
            sums[0][j] += g[at] * i_before[at];
            sums[1][j] += dk * (net.leaking(at) - (on_current ? double(i_now[at]) - w_now[at] : i_now[at]));
            double through_reset = net.model.reset_delay == 0 ? beta * dk : dk;
            if (net.adapts()) {
                const double gw = dw[at] - (on_current ? (1.0 - beta) * dk : 0.0);
                own[at] = net.adapt_spike[j] * gw;
                du_before[at] += net.adapt_membrane[j] * c * gw;
                dw_before[at] = net.rho[j] * gw;
                through_reset += net.adapt_membrane[j] * gw;
                sums[3][j] += gw * net.w[at];
                sums[4][j] += gw * net.after_reset(at, net.u[at]);
                sums[5][j] += gw * s;
            }
            if (net.model.reset == Reset::subtract) sums[2][j] -= through_reset * s;
        }
        const Constants constants(backend, net);
        const Buffer<float> i_before_(backend, i_before), i_now_(backend, i_now), w_now_(backend, w_now);
        for (bool wanted : {true, false}) {
            Adjoint d_(backend, net, 21);
            Buffer<float> g_(backend, count), own_(backend, static_cast<Index>(own.size()));
            std::vector<SumBuffer> sums_;
            for (const Floats& values : start) sums_.push_back(sums_on_backend(values));
            ConstantSums to;
            if (wanted) {
                to = {sums_[0].matrix(1, n), sums_[1].matrix(1, n), sums_[2].matrix(1, n)};
                if (net.adapts())
                    to.rho = sums_[3].matrix(1, n), to.adapt_membrane = sums_[4].matrix(1, n),
                    to.adapt_spike = sums_[5].matrix(1, n);
            }
            backend.neuron_step_backward(
                net.model, constants, shape.b, n, constants.state(wanted ? i_before_.data() : nullptr),
                {wanted ? i_now_.data() : nullptr, nullptr, w_now_.data()}, d_.pointers(), g_.data(), own_.data(), to);
            EXPECT_TRUE(close_to(g_.to_host(), g, 1e-6));
            EXPECT_TRUE(close_to(own_.to_host(), own, 1e-6));
            EXPECT_TRUE(close_to(d_.di.to_host(), di_before, 1e-6));
            EXPECT_TRUE(close_to(d_.du.to_host(), du_before, 1e-6));
            EXPECT_TRUE(close_to(d_.dw.to_host(), dw_before, 1e-6));
            // The terms themselves are floats; membranes of 30 make some of them large.
            for (std::size_t sum = 0; sum < 6; ++sum)
                EXPECT_TRUE(
                    close_to(to_host(sums_[sum]), wanted ? sums[sum] : widened(start[sum]), sum == 0 ? 2e-6 : 1e-5))
                    << "sum " << sum;
        }
    });
}

// Each part alone, and all together, through both readouts.
TEST_P(NeuronOperations, AdjointsAreAdded) {
    for (const Shape& shape : ragged_shapes())
        for (Surrogate surrogate : all_surrogates)
            for (const Extras& extras : all_extras)
                for (int parts = 1; parts < 16; ++parts) {
                    if (shape.k != 7 || (parts & 8 && extras.adaptation == Adaptation::none)) continue;
                    if (left_out(extras, surrogate)) continue;
                    if (takes_long(shape.n, extras) && parts < 7) continue;
                    const Readout readout = parts % 3 ? Readout::spikes : Readout::membrane;
                    SCOPED_TRACE(testing::Message()
                                 << shape << ", surrogate " << int(surrogate) << ", " << extras << ", parts " << parts);
                    const Neurons net({.threshold = 0.7f, .surrogate = surrogate, .sharpness = 3.0f}, shape.b, shape.n,
                                      1, extras);
                    const Index count = shape.b * shape.n;
                    const Floats back = random_floats(count, 31), from = random_floats(count, 32),
                                 extra = random_floats(count, 33), own = random_floats(count, 30),
                                 d_threshold = random_floats(shape.n, 37);
                    Adjoint d(backend, net, 34);
                    Doubles du = widened(d.du.to_host()), dw = widened(d.dw.to_host()), theta = widened(d_threshold);
                    for (Index at = 0; at < count; ++at) {
                        double dv = 0.0;
                        if (parts & 1) dv += net.psi(at) * back[at];
                        if (parts & 8) dv += net.psi(at) * own[at];
                        if (parts & 2 && readout == Readout::spikes) dv += net.psi(at) * from[at];
                        if (parts & 2 && readout == Readout::membrane) du[at] += from[at];
                        if (parts & 4) dv += extra[at];
                        du[at] += dv;
                        if (net.model.adaptation == Adaptation::threshold) dw[at] -= dv;
                        theta[at % shape.n] -= dv;
                    }
                    const Constants constants(backend, net);
                    const Buffer<float> back_(backend, back), own_(backend, own), from_(backend, from),
                        extra_(backend, extra);
                    SumBuffer theta_ = sums_on_backend(d_threshold);
                    const auto add = [&](const StateAdjoint& to, const SumMatrix& sum) {
                        backend.add_adjoints(net.model, constants, readout, shape.b, shape.n, constants.state(),
                                             parts & 1 ? back_.data() : nullptr, parts & 8 ? own_.data() : nullptr,
                                             parts & 2 ? from_.data() : nullptr, parts & 4 ? extra_.data() : nullptr,
                                             to, sum);
                    };
                    Buffer<float> alone(backend, d.du.to_host());
                    add(d.pointers(), theta_.matrix(1, shape.n));
                    EXPECT_TRUE(close_to(d.du.to_host(), du, 1e-6));
                    EXPECT_TRUE(close_to(d.dw.to_host(), dw, 1e-6));
                    EXPECT_TRUE(close_to(to_host(theta_), theta, 2e-6));
                    // du has the same bits if nothing else is wanted.
                    add({nullptr, alone.data()}, {});
                    EXPECT_TRUE(all_equal(alone.to_host(), d.du.to_host()));
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

}  // namespace
}  // namespace spikefloss::testing_support
