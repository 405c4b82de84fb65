// Tangent operations of every backend against plain double loops written from the equations, with and without a
// current.
#include "backend/operation_test.hpp"

namespace spikefloss::testing_support {
namespace {

class TangentOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(TangentOperations);

// Tangent vectors, [b, k, n] each part, in host and backend memory.
struct TangentCase {
    Floats current, membrane;
    Buffer<float> current_, membrane_;
    TangentCase(Backend& backend, const Shape& shape, bool has_current, std::uint64_t seed)
        : current(random_floats(has_current ? shape.b * shape.k * shape.n : 0, seed)),
          membrane(random_floats(shape.b * shape.k * shape.n, seed + 1)),
          current_(backend, current),
          membrane_(backend, membrane) {}
    Tangents view() { return {current.empty() && !membrane.empty() ? nullptr : current_.data(), membrane_.data()}; }
    double current_at(Index at) const { return current.empty() ? 0.0 : current[at]; }
};

// test(shape, neurons, has_current, jacobian reset) for all combinations. Without a current every alpha is 0.
template <class Test>
void for_every_map(Test&& test) {
    for (const Shape& shape : ragged_shapes())
        for (Reset reset : all_resets)
            for (bool has_current : {false, true})
                for (JacobianReset jacobian : {JacobianReset::detached, JacobianReset::ignored}) {
                    SCOPED_TRACE(testing::Message() << shape << ", reset " << int(reset) << ", current " << has_current
                                                    << ", Jacobian " << int(jacobian));
                    Neurons net({.threshold = 0.7f, .reset = reset}, shape.b, shape.n);
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
            TangentCase q(backend, shape, false, 71);
            Doubles x(q.membrane.size());
            for (Index at = 0; at < static_cast<Index>(x.size()); ++at)
                x[at] = net.psi(neuron_of(shape, at)) * q.membrane[at];
            const Buffer<float> u_(backend, net.u);
            Buffer<float> x_(backend, static_cast<Index>(x.size()));
            backend.tangent_input(net.model, shape.b, shape.k, shape.n, u_.data(), q.membrane_.data(), x_.data());
            EXPECT_TRUE(close_to(x_.to_host(), x, 1e-6));
        }
}

TEST_P(TangentOperations, OneStep) {
    for_every_map([&](const Shape& shape, const Neurons& net, bool has_current, JacobianReset jacobian) {
        TangentCase q(backend, shape, has_current, 72), p(backend, shape, has_current, 74);
        const Index count = static_cast<Index>(q.membrane.size());
        const Floats wx = random_floats(count, 76);
        Doubles current(has_current ? count : 0), membrane(count);
        for (Index at = 0; at < count; ++at) {
            const Index j = at % shape.n;
            const double p_i = net.alpha[j] * q.current_at(at) + wx[at];
            if (has_current) current[at] = p_i;
            membrane[at] = factor(net, jacobian, neuron_of(shape, at)) *
                           (double(net.beta[j]) * q.membrane[at] + (1.0 - net.beta[j]) * p_i);
        }
        const Constants constants(backend, net);
        const Buffer<float> u_(backend, net.u), wx_(backend, wx);
        backend.tangent_step(net.model, jacobian, constants, shape.b, shape.k, shape.n, u_.data(), wx_.data(), q.view(),
                             p.view());
        EXPECT_TRUE(all_equal(q.membrane_.to_host(), q.membrane));
        EXPECT_TRUE(close_to(p.current_.to_host(), current, 1e-6));
        EXPECT_TRUE(close_to(p.membrane_.to_host(), membrane, 1e-6));
        // In place.
        backend.tangent_step(net.model, jacobian, constants, shape.b, shape.k, shape.n, u_.data(), wx_.data(), q.view(),
                             q.view());
        EXPECT_TRUE(all_equal(q.current_.to_host(), p.current_.to_host()));
        EXPECT_TRUE(all_equal(q.membrane_.to_host(), p.membrane_.to_host()));
    });
}

TEST_P(TangentOperations, OneStepBackward) {
    for_every_map([&](const Shape& shape, const Neurons& net, bool has_current, JacobianReset jacobian) {
        TangentCase a(backend, shape, has_current, 81);
        const Index count = static_cast<Index>(a.membrane.size());
        Doubles membrane(count), g(count);
        for (Index at = 0; at < count; ++at) {
            membrane[at] = factor(net, jacobian, neuron_of(shape, at)) * a.membrane[at];
            g[at] = a.current_at(at) + (1.0 - net.beta[at % shape.n]) * membrane[at];
        }
        const Constants constants(backend, net);
        const Buffer<float> u_(backend, net.u);
        Buffer<float> g_(backend, count);
        backend.tangent_step_backward(net.model, jacobian, constants, shape.b, shape.k, shape.n, u_.data(), a.view(),
                                      g_.data());
        EXPECT_TRUE(close_to(g_.to_host(), g, 1e-6));
        EXPECT_TRUE(close_to(a.membrane_.to_host(), membrane, 1e-6));
        EXPECT_TRUE(all_equal(a.current_.to_host(), a.current));
    });
}

TEST_P(TangentOperations, InputBackward) {
    for (const Shape& shape : ragged_shapes())
        for (Surrogate surrogate : all_surrogates)
            for (bool has_current : {false, true}) {
                SCOPED_TRACE(testing::Message()
                             << shape << ", surrogate " << int(surrogate) << ", current " << has_current);
                const Neurons net({.threshold = 0.7f, .surrogate = surrogate, .sharpness = 3.0f}, shape.b, shape.n);
                TangentCase a(backend, shape, has_current, 91), q(backend, shape, false, 93);
                const Index count = static_cast<Index>(a.membrane.size());
                const Floats back = random_floats(count, 94), g = random_floats(count, 95),
                             e = random_floats(shape.b * shape.n, 96);
                Doubles current(has_current ? count : 0), membrane(count), extra = widened(e);
                for (Index at = 0; at < count; ++at) {
                    const Index j = at % shape.n, neuron = neuron_of(shape, at);
                    if (has_current) current[at] = double(net.alpha[j]) * g[at];
                    membrane[at] = double(net.beta[j]) * a.membrane[at] + net.psi(neuron) * back[at];
                    extra[neuron] += net.slope(neuron) * back[at] * q.membrane[at];
                }
                const Constants constants(backend, net);
                const Buffer<float> u_(backend, net.u), back_(backend, back), g_(backend, g);
                Buffer<float> e_(backend, e);
                backend.tangent_input_backward(net.model, constants, shape.b, shape.k, shape.n, u_.data(),
                                               q.membrane_.data(), back_.data(), g_.data(), a.view(), e_.data());
                EXPECT_TRUE(close_to(a.current_.to_host(), current, 1e-6));
                EXPECT_TRUE(close_to(a.membrane_.to_host(), membrane, 1e-6));
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
        backend.tangent_input_backward(net.model, constants, 1, 1, 10, u_.data(), ones.data(), ones.data(), ones.data(),
                                       {nullptr, membrane.data()}, e.data());
        EXPECT_TRUE(close_to(e.to_host(), expected, 1e-5)) << "surrogate " << int(surrogate);
    }
}

TEST_P(TangentOperations, GradientsOfTheTimeConstants) {
    for (const Shape& shape : ragged_shapes())
        for (bool has_current : {false, true}) {
            SCOPED_TRACE(testing::Message() << shape << ", current " << has_current);
            const Neurons net({}, shape.b, shape.n);
            TangentCase q(backend, shape, has_current, 97);
            const Index count = static_cast<Index>(q.membrane.size());
            const Floats wx = random_floats(count, 98), a = random_floats(count, 99), g = random_floats(count, 100),
                         alpha = random_floats(shape.n, 101), beta = random_floats(shape.n, 102);
            Doubles d_alpha = widened(alpha), d_beta = widened(beta);
            for (Index at = 0; at < count; ++at) {
                const Index j = at % shape.n;
                d_alpha[j] += g[at] * q.current_at(at);
                d_beta[j] += a[at] * (q.membrane[at] - (net.alpha[j] * q.current_at(at) + wx[at]));
            }
            const Constants constants(backend, net);
            const Buffer<float> wx_(backend, wx), a_(backend, a), g_(backend, g);
            SumBuffer alpha_ = sums_on_backend(alpha), beta_ = sums_on_backend(beta);
            backend.tangent_time_constants_backward(constants, shape.b, shape.k, shape.n, q.view(), wx_.data(),
                                                    a_.data(), g_.data(), alpha_.matrix(1, shape.n),
                                                    beta_.matrix(1, shape.n));
            EXPECT_TRUE(close_to(to_host(alpha_), d_alpha, 1e-5));
            EXPECT_TRUE(close_to(to_host(beta_), d_beta, 1e-5));
        }
}

}  // namespace
}  // namespace spikefloss::testing_support
