// Tangent operations of every backend against plain double loops written from the equations, with and without a
// current.
#include "backend/operation_test.hpp"

namespace spikefloss::testing_support {
namespace {

class TangentOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(TangentOperations);

BasisShape basis_of(const Shape& shape, bool current) { return {shape.b, shape.k, shape.n, current}; }

// A basis in host and backend memory. Its elements are addressed by `at` of [b, k, n].
struct TangentCase {
    BasisShape shape;
    Floats q;
    Buffer<float> q_;
    TangentCase(Backend& backend, const Shape& size, bool current, std::uint64_t seed)
        : shape(basis_of(size, current)), q(random_floats(shape.size(), seed)), q_(backend, q) {}
    Index count() const { return shape.rows() * shape.n; }
    Index membrane(Index at) const { return at / shape.n * shape.D() + shape.membrane() + at % shape.n; }
    double membrane_at(Index at) const { return q[membrane(at)]; }
    double current_at(Index at) const { return shape.current ? q[membrane(at) - shape.n] : 0.0; }
    // A basis of these values.
    Doubles joined(const Doubles& current, const Doubles& membranes) const {
        Doubles all(shape.size());
        for (Index at = 0; at < count(); ++at) {
            all[membrane(at)] = membranes[at];
            if (shape.current) all[membrane(at) - shape.n] = current[at];
        }
        return all;
    }
};

// test(shape, neurons, has_current, jacobian reset) for all combinations. Without a current every alpha is 0.
template <class Test>
void for_every_map(Test&& test) {
    for (const Shape& shape : ragged_shapes())
        for (const auto& rule : all_reset_rules)
            for (bool has_current : {false, true})
                for (JacobianReset jacobian : {JacobianReset::detached, JacobianReset::ignored}) {
                    SCOPED_TRACE(testing::Message() << shape << ", reset " << rule << ", current " << has_current
                                                    << ", Jacobian " << int(jacobian));
                    Neurons net({.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, shape.b, shape.n);
                    if (!has_current) net.alpha.assign(net.alpha.size(), 0.0f);
                    test(shape, net, has_current, jacobian);
                }
}

// The neuron of sequence s that element `at` of [b, k, n] belongs to, as an index of [b, n].
Index neuron_of(const Shape& shape, Index at) { return at / (shape.k * shape.n) * shape.n + at % shape.n; }

double factor(const Neurons& net, JacobianReset jacobian, Index neuron) {
    return jacobian == JacobianReset::detached ? net.reset_factor(neuron) : 1.0;
}

TEST_P(TangentOperations, Input) {
    for (const Shape& shape : ragged_shapes())
        for (Surrogate surrogate : all_surrogates) {
            SCOPED_TRACE(testing::Message() << shape << ", surrogate " << int(surrogate));
            const Neurons net({.threshold = 0.7f, .surrogate = surrogate, .sharpness = 3.0f}, shape.b, shape.n);
            for (bool has_current : {false, true}) {
                const TangentCase q(backend, shape, has_current, 71);
                Doubles x(q.count());
                for (Index at = 0; at < q.count(); ++at) x[at] = net.psi(neuron_of(shape, at)) * q.membrane_at(at);
                const Buffer<float> u_(backend, net.u);
                Buffer<float> x_(backend, q.count());
                backend.tangent_input(net.model, {}, q.shape, {nullptr, u_.data()}, q.q_.data(), x_.data());
                EXPECT_TRUE(close_to(x_.to_host(), x, 1e-6)) << "current " << has_current;
            }
        }
}

TEST_P(TangentOperations, OneStep) {
    for_every_map([&](const Shape& shape, const Neurons& net, bool has_current, JacobianReset jacobian) {
        TangentCase q(backend, shape, has_current, 72), p(backend, shape, has_current, 74);
        const Floats wx = random_floats(q.count(), 76);
        Doubles current(q.count()), membrane(q.count());
        for (Index at = 0; at < q.count(); ++at) {
            const Index j = at % shape.n;
            current[at] = net.alpha[j] * q.current_at(at) + wx[at];
            const double c = factor(net, jacobian, neuron_of(shape, at));
            membrane[at] = net.f(c) * (net.beta[j] * net.q(c) * q.membrane_at(at) + (1.0 - net.beta[j]) * current[at]);
        }
        const Constants constants(backend, net);
        const Buffer<float> u_(backend, net.u), wx_(backend, wx);
        backend.tangent_step(net.model, jacobian, constants, q.shape, {nullptr, u_.data()}, nullptr, wx_.data(),
                             q.q_.data(), p.q_.data());
        EXPECT_TRUE(all_equal(q.q_.to_host(), q.q));
        EXPECT_TRUE(close_to(p.q_.to_host(), q.joined(current, membrane), 1e-6));
        // In place.
        backend.tangent_step(net.model, jacobian, constants, q.shape, {nullptr, u_.data()}, nullptr, wx_.data(),
                             q.q_.data(), q.q_.data());
        EXPECT_TRUE(all_equal(q.q_.to_host(), p.q_.to_host()));
    });
}

TEST_P(TangentOperations, OneStepBackward) {
    for_every_map([&](const Shape& shape, const Neurons& net, bool has_current, JacobianReset jacobian) {
        TangentCase a(backend, shape, has_current, 81);
        const TangentCase q(backend, shape, has_current, 97);
        const Floats wx = random_floats(q.count(), 98), alpha = random_floats(shape.n, 101),
                     beta = random_floats(shape.n, 102);
        Doubles current(a.count()), membrane(a.count()), g(a.count()), d_alpha = widened(alpha), d_beta = widened(beta);
        for (Index at = 0; at < a.count(); ++at) {
            const Index j = at % shape.n;
            current[at] = a.current_at(at);
            const double c = factor(net, jacobian, neuron_of(shape, at));
            membrane[at] = net.f(c) * a.membrane_at(at);
            g[at] = current[at] + (1.0 - net.beta[j]) * membrane[at];
            d_alpha[j] += g[at] * q.current_at(at);
            d_beta[j] += membrane[at] * (net.q(c) * q.membrane_at(at) - (net.alpha[j] * q.current_at(at) + wx[at]));
        }
        const Constants constants(backend, net);
        const Buffer<float> u_(backend, net.u), wx_(backend, wx);
        for (bool time_constants : {false, true}) {
            Buffer<float> a_(backend, a.q), g_(backend, a.count());
            SumBuffer alpha_ = sums_on_backend(alpha), beta_ = sums_on_backend(beta);
            ConstantSums sums;
            if (time_constants) sums = {.alpha = alpha_.matrix(1, shape.n), .beta = beta_.matrix(1, shape.n)};
            backend.tangent_step_backward(net.model, jacobian, constants, a.shape, {nullptr, u_.data()}, q.q_.data(),
                                          nullptr, wx_.data(), a_.data(), g_.data(), sums);
            EXPECT_TRUE(close_to(g_.to_host(), g, 1e-6));
            EXPECT_TRUE(close_to(a_.to_host(), a.joined(current, membrane), 1e-6));
            EXPECT_TRUE(close_to(to_host(alpha_), time_constants ? d_alpha : widened(alpha), 1e-5));
            EXPECT_TRUE(close_to(to_host(beta_), time_constants ? d_beta : widened(beta), 1e-5));
        }
    });
}

TEST_P(TangentOperations, InputBackward) {
    for (const Shape& shape : ragged_shapes())
        for (Surrogate surrogate : all_surrogates)
            for (bool has_current : {false, true}) {
                SCOPED_TRACE(testing::Message()
                             << shape << ", surrogate " << int(surrogate) << ", current " << has_current);
                const Neurons net({.threshold = 0.7f, .reset_delay = 0, .surrogate = surrogate, .sharpness = 3.0f},
                                  shape.b, shape.n);
                TangentCase a(backend, shape, has_current, 91), q(backend, shape, has_current, 93);
                const Floats back = random_floats(a.count(), 94), g = random_floats(a.count(), 95),
                             e = random_floats(shape.b * shape.n, 96);
                Doubles current(a.count()), membrane(a.count()), extra = widened(e);
                for (Index at = 0; at < a.count(); ++at) {
                    const Index j = at % shape.n, neuron = neuron_of(shape, at);
                    current[at] = double(net.alpha[j]) * g[at];
                    membrane[at] =
                        net.beta[j] * net.reset_factor(neuron) * a.membrane_at(at) + net.psi(neuron) * back[at];
                    extra[neuron] += net.slope(neuron) * back[at] * q.membrane_at(at);
                }
                const Constants constants(backend, net);
                const Buffer<float> u_(backend, net.u), back_(backend, back), g_(backend, g);
                Buffer<float> e_(backend, e);
                backend.tangent_input_backward(net.model, JacobianReset::detached, constants, a.shape,
                                               {nullptr, u_.data()}, q.q_.data(), back_.data(), g_.data(), a.q_.data(),
                                               e_.data());
                EXPECT_TRUE(close_to(a.q_.to_host(), a.joined(current, membrane), 1e-6));
                EXPECT_TRUE(close_to(e_.to_host(), extra, 1e-5));
            }
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
