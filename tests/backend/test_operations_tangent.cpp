// Tangent operations of every backend against plain double loops written from the equations, with and without a
// current, and with what neurons may have beyond the model.
#include "backend/operation_test.hpp"

namespace spikefloss::testing_support {
namespace {

class TangentOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(TangentOperations);

// A basis in host and backend memory. Its elements are addressed by `at` of [b, k, n].
struct TangentCase {
    BasisShape shape;
    Floats q;
    Buffer<float> q_;
    TangentCase(Backend& backend, const BasisShape& shape_, std::uint64_t seed)
        : shape(shape_), q(random_floats(shape.size(), seed)), q_(backend, q) {}
    Index count() const { return shape.rows() * shape.n; }
    Index membrane(Index at) const { return at / shape.n * shape.D() + shape.membrane() + at % shape.n; }
    double membrane_at(Index at) const { return q[membrane(at)]; }
    double current_at(Index at) const { return shape.current ? q[membrane(at) - shape.n] : 0.0; }
    double adaptation_at(Index at) const { return shape.adaptation ? q[membrane(at) + shape.n] : 0.0; }
    // The tangent of v = u - A.
    double v_at(const Neurons& net, Index at) const {
        return membrane_at(at) - (net.model.adaptation == Adaptation::threshold ? adaptation_at(at) : 0.0);
    }
    // A basis of these values.
    Doubles joined(const Doubles& current, const Doubles& membranes, const Doubles& adaptations) const {
        Doubles all(shape.size());
        for (Index at = 0; at < count(); ++at) {
            all[membrane(at)] = membranes[at];
            if (shape.current) all[membrane(at) - shape.n] = current[at];
            if (shape.adaptation) all[membrane(at) + shape.n] = adaptations[at];
        }
        return all;
    }
};

// test(shape, neurons, Jacobian reset) for all combinations, and a basis with and without a current. Without a current
// every alpha is 0.
template <class Test>
void for_every_map(Test&& test) {
    for (const Shape& shape : ragged_shapes())
        for (const auto& rule : all_reset_rules)
            for (const Extras& extras : all_extras)
                for (bool has_current : {false, true})
                    for (JacobianReset jacobian : {JacobianReset::detached, JacobianReset::ignored}) {
                        if (&extras != all_extras && has_current != (jacobian == JacobianReset::detached)) continue;
                        if (takes_long(shape.n, extras) &&
                            (rule.reset != Reset::zero || rule.delay != 1 || !has_current))
                            continue;
                        SCOPED_TRACE(testing::Message() << shape << ", reset " << rule << ", " << extras << ", current "
                                                        << has_current << ", Jacobian " << int(jacobian));
                        Neurons net({.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, shape.b,
                                    shape.n, 1, extras);
                        if (!has_current) net.alpha.assign(net.alpha.size(), 0.0f);
                        test(BasisShape{shape.b, shape.k, shape.n, has_current, net.adapts()}, net, jacobian);
                    }
}

// test(shape, neurons, trace) for every surrogate and what neurons have beyond the model.
template <class Test>
void for_every_surrogate(Test&& test) {
    for (const Shape& shape : ragged_shapes())
        for (Surrogate surrogate : all_surrogates)
            for (const Extras& extras : all_extras)
                for (bool has_current : {false, true}) {
                    if (left_out(extras, surrogate)) continue;
                    if (takes_long(shape.n, extras) && (surrogate != Surrogate::exponential || !has_current)) continue;
                    SCOPED_TRACE(testing::Message() << shape << ", surrogate " << int(surrogate) << ", " << extras
                                                    << ", current " << has_current);
                    const Neurons net({.threshold = 0.7f, .reset_delay = 0, .surrogate = surrogate, .sharpness = 3.0f},
                                      shape.b, shape.n, 1, extras);
                    test(BasisShape{shape.b, shape.k, shape.n, has_current, net.adapts()}, net);
                }
}

// The neuron of sequence s that element `at` of [b, k, n] belongs to, as an index of [b, n].
Index neuron_of(const BasisShape& shape, Index at) { return at / (shape.k * shape.n) * shape.n + at % shape.n; }

double factor(const Neurons& net, JacobianReset jacobian, Index neuron) {
    return jacobian == JacobianReset::detached ? net.reset_factor(neuron) : 1.0;
}

// P of one element.
struct Image {
    double current, membrane, adaptation;
};
Image image(const Neurons& net, JacobianReset jacobian, const TangentCase& q, const Floats& x, const Floats& wx,
            Index at) {
    const Index j = at % q.shape.n;
    const double c = factor(net, jacobian, neuron_of(q.shape, at)), beta = net.beta[j];
    Image p{net.alpha[j] * q.current_at(at) + wx[at], 0.0, 0.0};
    if (net.adapts())
        p.adaptation = net.rho[j] * q.adaptation_at(at) + net.adapt_membrane[j] * c * q.membrane_at(at) +
                       double(net.adapt_spike[j]) * x[at];
    const double h = net.model.adaptation == Adaptation::current ? p.current - p.adaptation : p.current;
    p.membrane = net.f(c) * (beta * net.q(c) * q.membrane_at(at) + (1.0 - beta) * h);
    return p;
}

TEST_P(TangentOperations, Input) {
    for_every_surrogate([&](const BasisShape& shape, const Neurons& net) {
        const TangentCase q(backend, shape, 71);
        Doubles x(q.count());
        for (Index at = 0; at < q.count(); ++at) x[at] = net.psi(neuron_of(shape, at)) * q.v_at(net, at);
        const Constants constants(backend, net);
        Buffer<float> x_(backend, q.count());
        backend.tangent_input(net.model, constants, shape, constants.state(), q.q_.data(), x_.data());
        EXPECT_TRUE(close_to(x_.to_host(), x, 1e-6));
    });
}

TEST_P(TangentOperations, OneStep) {
    for_every_map([&](const BasisShape& shape, const Neurons& net, JacobianReset jacobian) {
        TangentCase q(backend, shape, 72), p(backend, shape, 74);
        const Floats wx = random_floats(q.count(), 76), x = random_floats(q.count(), 77);
        Doubles current(q.count()), membrane(q.count()), adaptation(q.count());
        for (Index at = 0; at < q.count(); ++at) {
            const Image expected = image(net, jacobian, q, x, wx, at);
            current[at] = expected.current, membrane[at] = expected.membrane, adaptation[at] = expected.adaptation;
        }
        const Constants constants(backend, net);
        const Buffer<float> wx_(backend, wx), x_(backend, x);
        const float* const x_given = net.adapts() ? x_.data() : nullptr;
        backend.tangent_step(net.model, jacobian, constants, shape, constants.state(), x_given, wx_.data(), q.q_.data(),
                             p.q_.data());
        EXPECT_TRUE(all_equal(q.q_.to_host(), q.q));
        EXPECT_TRUE(close_to(p.q_.to_host(), q.joined(current, membrane, adaptation), 1e-6));
        // In place.
        backend.tangent_step(net.model, jacobian, constants, shape, constants.state(), x_given, wx_.data(), q.q_.data(),
                             q.q_.data());
        EXPECT_TRUE(all_equal(q.q_.to_host(), p.q_.to_host()));
    });
}

TEST_P(TangentOperations, OneStepBackward) {
    for_every_map([&](const BasisShape& shape, const Neurons& net, JacobianReset jacobian) {
        const TangentCase a(backend, shape, 81), q(backend, shape, 97);
        const bool on_current = net.model.adaptation == Adaptation::current;
        const Floats wx = random_floats(a.count(), 98), x = random_floats(a.count(), 99);
        Doubles current(a.count()), membrane(a.count()), adaptation(a.count()), g(a.count());
        // The sums of alpha, beta, rho, a_u and a_s, which start with these values.
        std::vector<Floats> start;
        for (std::uint64_t seed = 101; seed < 106; ++seed) start.push_back(random_floats(shape.n, seed));
        std::vector<Doubles> sums;
        for (const Floats& values : start) sums.push_back(widened(values));
        for (Index at = 0; at < a.count(); ++at) {
            const Index j = at % shape.n;
            const double c = factor(net, jacobian, neuron_of(shape, at));
            const Image p = image(net, jacobian, q, x, wx, at);
            current[at] = a.current_at(at);
            const double dk = membrane[at] = net.f(c) * a.membrane_at(at), through = (1.0 - net.beta[j]) * dk;
            g[at] = current[at] + through;
            const double gw = adaptation[at] = a.adaptation_at(at) - (on_current ? through : 0.0);
            sums[0][j] += g[at] * q.current_at(at);
            sums[1][j] += dk * (net.q(c) * q.membrane_at(at) - (p.current - (on_current ? p.adaptation : 0.0)));
            if (!net.adapts()) continue;
            sums[2][j] += gw * q.adaptation_at(at);
            sums[3][j] += gw * c * q.membrane_at(at);
            sums[4][j] += gw * x[at];
        }
        const Constants constants(backend, net);
        const Buffer<float> wx_(backend, wx), x_(backend, x);
        for (bool wanted : {false, true}) {
            Buffer<float> a_(backend, a.q), g_(backend, a.count());
            std::vector<SumBuffer> sums_;
            for (const Floats& values : start) sums_.push_back(sums_on_backend(values));
            const auto sum = [&](std::size_t which, bool present) {
                return present ? sums_[which].matrix(1, shape.n) : SumMatrix{};
            };
            const bool of_adaptation = wanted && net.adapts();
            backend.tangent_step_backward(net.model, jacobian, constants, shape, constants.state(), q.q_.data(),
                                          of_adaptation ? x_.data() : nullptr, wanted ? wx_.data() : nullptr, a_.data(),
                                          g_.data(),
                                          {.alpha = sum(0, wanted),
                                           .beta = sum(1, wanted),
                                           .rho = sum(2, of_adaptation),
                                           .adapt_membrane = sum(3, of_adaptation),
                                           .adapt_spike = sum(4, of_adaptation)});
            EXPECT_TRUE(close_to(g_.to_host(), g, 1e-6));
            EXPECT_TRUE(close_to(a_.to_host(), a.joined(current, membrane, adaptation), 1e-6));
            for (std::size_t which = 0; which < 5; ++which)
                EXPECT_TRUE(close_to(to_host(sums_[which]), wanted ? sums[which] : widened(start[which]), 1e-5))
                    << "sum " << which;
        }
    });
}

TEST_P(TangentOperations, InputBackward) {
    for_every_surrogate([&](const BasisShape& shape, const Neurons& net) {
        TangentCase a(backend, shape, 91), q(backend, shape, 93);
        const Floats back = random_floats(a.count(), 94), g = random_floats(a.count(), 95),
                     e = random_floats(shape.b * shape.n, 96);
        Doubles current(a.count()), membrane(a.count()), adaptation(a.count()), extra = widened(e);
        for (Index at = 0; at < a.count(); ++at) {
            const Index j = at % shape.n, neuron = neuron_of(shape, at);
            const double c = net.reset_factor(neuron), gw = a.adaptation_at(at);
            const double y = back[at] + (net.adapts() ? net.adapt_spike[j] * gw : 0.0), through = net.psi(neuron) * y;
            current[at] = double(net.alpha[j]) * g[at];
            membrane[at] = net.beta[j] * c * a.membrane_at(at) + through;
            extra[neuron] += net.slope(neuron) * y * q.v_at(net, at);
            if (!net.adapts()) continue;
            membrane[at] += net.adapt_membrane[j] * c * gw;
            adaptation[at] = net.rho[j] * gw - (net.model.adaptation == Adaptation::threshold ? through : 0.0);
        }
        const Constants constants(backend, net);
        const Buffer<float> back_(backend, back), g_(backend, g);
        Buffer<float> e_(backend, e);
        backend.tangent_input_backward(net.model, JacobianReset::detached, constants, shape, constants.state(),
                                       q.q_.data(), back_.data(), g_.data(), a.q_.data(), e_.data());
        EXPECT_TRUE(close_to(a.q_.to_host(), a.joined(current, membrane, adaptation), 1e-6));
        EXPECT_TRUE(close_to(e_.to_host(), extra, 1e-5));
    });
}

// psi' near threshold and far away, where exp(g v) overflows a float.
TEST_P(TangentOperations, SurrogateSlopesDoNotOverflow) {
    for (Surrogate surrogate : all_surrogates) {
        Neurons net({.threshold = 1.0f, .surrogate = surrogate, .sharpness = 25.0f}, 1, 10);
        net.u = {1.0f, 1.01f, 0.99f, 1.05f, 0.95f, 11.0f, -9.0f, 1e4f, -1e4f, 1e9f};
        Doubles expected;
        for (Index at = 0; at < 10; ++at) expected.push_back(net.slope(at));
        const Constants constants(backend, net);
        const Buffer<float> u_(backend, net.u), ones(backend, Floats(10, 1.0f));
        Buffer<float> membrane(backend, 10), e(backend, 10);
        backend.tangent_input_backward(net.model, JacobianReset::detached, constants, {1, 1, 10, false},
                                       {nullptr, u_.data()}, ones.data(), ones.data(), ones.data(), membrane.data(),
                                       e.data());
        EXPECT_TRUE(close_to(e.to_host(), expected, 1e-5)) << "surrogate " << int(surrogate);
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
