// Adjoint identities <J x, y> = <x, J' y> of the forward and backward operations. The forward side uses the forward
// operations: a step is linear between spikes, so a difference of two steps is J x without truncation error.
#include "backend/operation_test.hpp"

namespace spikefloss::testing_support {
namespace {

class Adjoints : public OperationTest {
protected:
    // [rows, n] x W' and [rows, n] x W for W [n, n].
    Buffer<float> times_transposed(Index rows, Index n, const Buffer<float>& x, const Buffer<float>& w) {
        Buffer<float> out(backend, rows * n);
        backend.project({n, n, w.data(), n}, {.values = x.data(), .stride = n}, Matrix<float>(out.data(), rows, n),
                        false);
        return out;
    }
    Buffer<float> times(Index rows, Index n, const Buffer<float>& x, const Buffer<float>& w) {
        Buffer<float> out(backend, rows * n);
        backend.project_transposed({n, n, w.data(), n}, {x.data(), rows, n}, Matrix<float>(out.data(), rows, n), false);
        return out;
    }
};
SPIKEFLOSS_ON_EVERY_BACKEND(Adjoints);

// |left - right| relative to the sizes of the two vectors of each product.
void expect_equal_products(double left, double right, double size) { EXPECT_NEAR(left, right, 2e-6 * size); }

double norm(const Floats& x) { return std::sqrt(dot(x, x)); }

// Membranes at least 0.5 away from threshold, on both sides, so a smaller change does not change the spikes.
Neurons away_from_threshold(NeuronModel model, Index b, Index n, const Extras& extras) {
    Neurons net(model, b, n, 1, extras);
    net.u = uniform_floats(b * n, 7, 0.5, 1.5);
    for (std::size_t i = 0; i < net.u.size(); ++i)
        net.u[i] = net.threshold_of(static_cast<Index>(i)) + (i % 3 == 0 ? net.u[i] : -net.u[i]);
    return net;
}

struct State {
    Floats current, membrane, adaptation;
};

State step(Backend& backend, const Neurons& net, Index b, Index n, const Floats& input, const Floats& recurrent,
           const Floats& i) {
    const Constants constants(backend, net);
    const Buffer<float> input_(backend, input), recurrent_(backend, recurrent), i_(backend, i);
    Buffer<float> i_next(backend, b * n), u_next(backend, b * n), w_next(backend, net.w);
    backend.neuron_step(net.model, constants, b, n, input_.data(), recurrent_.data(), constants.state(i_.data()),
                        {i_next.data(), u_next.data(), w_next.data()});
    return {i_next.to_host(), u_next.to_host(), w_next.to_host()};
}

Floats sum(const Floats& a, const Floats& b, float factor = 1.0f) {
    Floats result(a);
    for (std::size_t i = 0; i < a.size(); ++i) result[i] += factor * b[i];
    return result;
}

// The sums over the parts.
double norm(const State& x) { return norm(x.current) + norm(x.membrane) + norm(x.adaptation); }
using testing_support::dot;
double dot(const State& x, const State& y) {
    return dot(x.current, y.current) + dot(x.membrane, y.membrane) + dot(x.adaptation, y.adaptation);
}
State difference(const State& a, const State& b) {
    return {sum(a.current, b.current, -1.0f), sum(a.membrane, b.membrane, -1.0f),
            sum(a.adaptation, b.adaptation, -1.0f)};
}
State random_state(const Neurons& net, std::uint64_t seed, double scale) {
    const auto count = static_cast<Index>(net.u.size());
    return {random_floats(count, seed), uniform_floats(count, seed + 1, -scale, scale),
            net.adapts() ? uniform_floats(count, seed + 2, -scale, scale) : Floats{}};
}

// The whole step with its recurrence. The derivative of the spike is psi, as in the backward pass.
TEST_P(Adjoints, StepOfTheState) {
    for (Index n : {1, 31, 67})
        for (const auto& rule : all_reset_rules)
            for (Surrogate surrogate : all_surrogates)
                for (const Extras& extras : all_extras) {
                    SCOPED_TRACE(testing::Message() << "n " << n << ", reset " << rule << ", surrogate "
                                                    << int(surrogate) << ", " << extras);
                    const Index b = 3, count = b * n;
                    const Neurons net = away_from_threshold({.threshold = 0.7f,
                                                             .reset = rule.reset,
                                                             .reset_delay = rule.delay,
                                                             .surrogate = surrogate,
                                                             .sharpness = 2.0f},
                                                            b, n, extras);
                    const Floats input = random_floats(count, 1), i = random_floats(count, 2),
                                 x_input = random_floats(count, 5), zeros(count, 0.0f);
                    const State x = random_state(net, 3, 0.2), y = random_state(net, 11, 2.0);
                    const Buffer<float> w(backend, random_floats(n * n, 9, 1.0 / std::sqrt(double(n))));
                    const Constants constants(backend, net);

                    // J (x, x_input) = step(at + x) - step(at), where the spikes change by psi (x_u - x_w).
                    const Floats x_v = net.model.adaptation == Adaptation::threshold
                                           ? sum(x.membrane, x.adaptation, -1.0f)
                                           : x.membrane;
                    Buffer<float> moved_spikes(backend, count);
                    const Buffer<float> x_v_(backend, x_v);
                    backend.add_adjoints(net.model, constants, Readout::membrane, b, n, constants.state(), x_v_.data(),
                                         nullptr, nullptr, nullptr, {nullptr, moved_spikes.data()}, {});
                    const Floats recurrent = times_transposed(b, n, moved_spikes, w).to_host();
                    Neurons moved(net);
                    moved.u = sum(net.u, x.membrane);
                    if (net.adapts()) moved.w = sum(net.w, x.adaptation);
                    const State before = step(backend, net, b, n, input, zeros, i);
                    State after = step(backend, moved, b, n, sum(input, x_input), recurrent, sum(i, x.current));
                    // a_s psi x_v reaches w, and through the current the membrane.
                    const Floats moved_by = moved_spikes.to_host();
                    for (Index at = 0; net.adapts() && at < count; ++at) {
                        const Index j = at % n;
                        const float by = net.adapt_spike[j] * moved_by[at];
                        after.adaptation[at] += by;
                        if (net.model.adaptation == Adaptation::current)
                            after.membrane[at] -=
                                static_cast<float>(net.f(net.reset_factor(at))) * (1.0f - net.beta[j]) * by;
                    }
                    const State jx = difference(after, before);

                    Buffer<float> di(backend, y.current), du(backend, y.membrane), dw(backend, y.adaptation),
                        g(backend, count), own(backend, net.w);
                    const StateAdjoint d{di.data(), du.data(), net.adapts() ? dw.data() : nullptr};
                    backend.neuron_step_backward(net.model, constants, b, n, constants.state(), {}, d, g.data(),
                                                 own.data(), {});
                    const Buffer<float> back = times(b, n, g, w);
                    backend.add_adjoints(net.model, constants, Readout::membrane, b, n, constants.state(), back.data(),
                                         net.adapts() ? own.data() : nullptr, nullptr, nullptr, d, {});
                    expect_equal_products(
                        dot(jx, y), dot(x, State{di.to_host(), du.to_host(), dw.to_host()}) + dot(x_input, g.to_host()),
                        (norm(before) + norm(jx)) * norm(y));
                }
}

// The step is linear in every constant of the neurons, as long as the spikes do not change.
TEST_P(Adjoints, Constants) {
    for (Index n : {1, 31, 67})
        for (const auto& rule : all_reset_rules)
            for (const Extras& extras : all_extras) {
                SCOPED_TRACE(testing::Message() << "n " << n << ", reset " << rule << ", " << extras);
                const Index b = 3, count = b * n;
                const Neurons net = away_from_threshold(
                    {.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, b, n, extras);
                const Floats input = random_floats(count, 1), zeros(count, 0.0f), i = random_floats(count, 2),
                             x = uniform_floats(n, 5, -0.2, 0.2);
                const State y = random_state(net, 3, 2.0), at = step(backend, net, b, n, input, zeros, i);

                const Constants constants(backend, net);
                const Buffer<float> i_(backend, i), i_now(backend, at.current), w_now(backend, at.adaptation);
                Buffer<float> di(backend, y.current), du(backend, y.membrane), dw(backend, y.adaptation),
                    g(backend, count), own(backend, net.w);
                struct Constant {
                    const char* name;
                    Floats Neurons::*values;
                    SumBuffer sum;
                };
                std::vector<Constant> all;
                const auto add = [&](const char* name, Floats Neurons::*values) {
                    all.push_back({name, values, SumBuffer(backend, n)});
                    return all.back().sum.matrix(1, n);
                };
                ConstantSums sums{.alpha = add("alpha", &Neurons::alpha), .beta = add("beta", &Neurons::beta)};
                if (extras.own_thresholds) sums.threshold = add("threshold", &Neurons::threshold);
                if (net.adapts()) {
                    sums.rho = add("rho", &Neurons::rho);
                    sums.adapt_membrane = add("a_u", &Neurons::adapt_membrane);
                    sums.adapt_spike = add("a_s", &Neurons::adapt_spike);
                }
                backend.neuron_step_backward(
                    net.model, constants, b, n, constants.state(i_.data()), {i_now.data(), nullptr, w_now.data()},
                    {di.data(), du.data(), net.adapts() ? dw.data() : nullptr}, g.data(), own.data(), sums);
                const double size = norm(at) * norm(y);
                for (Constant& constant : all) {
                    Neurons other(net);
                    other.*constant.values = sum(net.*constant.values, x);
                    const State to = step(backend, other, b, n, input, zeros, i);
                    SCOPED_TRACE(constant.name);
                    expect_equal_products(dot(difference(to, at), y), dot(x, to_host(constant.sum)), size);
                }
            }
}

// tangent_input, W and tangent_step against tangent_step_backward, W' and tangent_input_backward.
TEST_P(Adjoints, StepOfTheTangents) {
    for (Index n : {1, 33, 67})
        for (const auto& rule : all_reset_rules)
            for (const Extras& extras : all_extras)
                for (JacobianReset jacobian : {JacobianReset::detached, JacobianReset::ignored})
                    for (bool has_current : {false, true}) {
                        SCOPED_TRACE(testing::Message()
                                     << "n " << n << ", reset " << rule << ", " << extras << ", Jacobian "
                                     << int(jacobian) << ", current " << has_current);
                        const Index b = 3, k = 5, rows = b * k, count = rows * n;
                        Neurons net({.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, b, n, 1,
                                    extras);
                        if (!has_current) net.alpha.assign(net.alpha.size(), 0.0f);
                        const Floats w_host = random_floats(n * n, 9, 1.0 / std::sqrt(double(n)));
                        const BasisShape shape{b, k, n, has_current, net.adapts()};
                        const Floats x = random_floats(shape.size(), 1), y = random_floats(shape.size(), 3);
                        const Constants constants(backend, net);
                        const Buffer<float> w(backend, w_host), q(backend, x);
                        Buffer<float> p(backend, shape.size()), a(backend, y);
                        Buffer<float> input(backend, count), g(backend, count), e(backend, b * n);

                        const NeuronState state = constants.state();
                        backend.tangent_input(net.model, constants, shape, state, q.data(), input.data());
                        const Buffer<float> wx = times_transposed(rows, n, input, w);
                        backend.tangent_step(net.model, jacobian, constants, shape, state, input.data(), wx.data(),
                                             q.data(), p.data());

                        backend.tangent_step_backward(net.model, jacobian, constants, shape, state, nullptr, nullptr,
                                                      nullptr, a.data(), g.data(), {});
                        const Buffer<float> back = times(rows, n, g, w);
                        backend.tangent_input_backward(net.model, jacobian, constants, shape, state, q.data(),
                                                       back.data(), g.data(), a.data(), e.data());
                        const Floats jx = p.to_host();
                        expect_equal_products(dot(jx, y), dot(x, a.to_host()), norm(jx) * norm(y));
                    }
}

TEST_P(Adjoints, ReadoutFilter) {
    for (Index T : {1, 2, 40})
        for (Index O : {1, 33}) {
            const Index b = 3, count = T * b * O;
            Floats kappa = uniform_floats(O, 1, 0.0, 0.9);
            kappa[0] = 0.0f;
            const Floats x = random_floats(count, 2), y = random_floats(count, 3);
            const Buffer<float> kappa_(backend, kappa), bias(backend, O), x_(backend, x), y_(backend, y);
            Buffer<float> jx(backend, count), jty(backend, count);
            SumBuffer d_kappa(backend, O);
            backend.readout_filter(T, b, O, kappa_.data(), bias.data(), x_.data(), jx.data());
            backend.readout_filter_backward(T, b, O, kappa_.data(), jx.data(), y_.data(), jty.data(),
                                            d_kappa.matrix(1, O));
            expect_equal_products(dot(jx.to_host(), y), dot(x, jty.to_host()), norm(x) * norm(y));
        }
}

// dL/dA of L = <Q, Qb> + sum of w_j ln R_jj along a direction, against central differences of the reference's QR.
TEST_P(Adjoints, Qr) {
    for (Index k : {1, 2, 7}) {
        const Index n = 33;
        const Floats a = random_floats(k * n, 1), qb = random_floats(k * n, 2), direction = random_floats(k * n, 3);
        const Doubles weight = widened(random_floats(k, 4));
        Buffer<float> q(backend, a), adjoint(backend, qb);
        Buffer<double> r(backend, k * k), c(backend, k * k), logs(backend, k);
        const Buffer<double> weight_(backend, weight);
        Buffer<std::int32_t> info(backend, 1);
        backend.householder(1, k, n, q.data(), r.data(), logs.data(), info.data());
        backend.gram({1, k, n, false}, adjoint.data(), q.data(), c.data());
        backend.qr_backward(1, k, n, q.data(), r.data(), weight_.data(), c.data(), adjoint.data());

        const auto value = [&](double h) {
            Doubles columns(n * k);
            for (Index j = 0; j < k; ++j)
                for (Index i = 0; i < n; ++i) columns[i * k + j] = a[j * n + i] + h * direction[j * n + i];
            const reference::QR f = reference::qr(n, k, columns);
            double L = 0.0;
            for (Index j = 0; j < k; ++j) {
                for (Index i = 0; i < n; ++i) L += f.q[i * k + j] * qb[j * n + i];
                L += weight[j] * std::log(f.r[j * k + j]);
            }
            return L;
        };
        const double h = 1e-5, slope = (value(h) - value(-h)) / (2.0 * h);
        EXPECT_NEAR(dot(adjoint.to_host(), direction), slope, 2e-6 * norm(qb)) << "k " << k;
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
