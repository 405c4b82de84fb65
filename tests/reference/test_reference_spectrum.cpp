// The surrogate Lyapunov spectrum: QR and its adjoint, the tangent map against perturbed trajectories, exponents in
// closed form, the sum rule, and independence of the QR interval.
#include "reference/finite_differences.hpp"
#include "support/near.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace spikefloss::reference {
namespace {

using namespace testing_support;

std::vector<double> wavy(Index count, double phase) {
    std::vector<double> values;
    for (Index j = 0; j < count; ++j) values.push_back(std::sin(phase + 1.7 * static_cast<double>(j * j % 101)));
    return values;
}

TEST(ReferenceQR, IsAFactorisation) {
    for (auto [D, k] : {std::pair<Index, Index>{1, 1}, {7, 3}, {6, 6}, {40, 17}}) {
        std::vector<double> a = wavy(D * k, 0.3);
        for (Index d = 0; d < D && k > 2; ++d) a[d * k + 2] = a[d * k + 1] + 1e-9 * a[d * k + 2];  // nearly dependent
        const QR f = qr(D, k, a);
        double worst_orthogonality = 0.0, worst_product = 0.0;
        for (Index i = 0; i < k; ++i)
            for (Index j = 0; j < k; ++j) {
                double dot = i == j ? -1.0 : 0.0;
                for (Index d = 0; d < D; ++d) dot += f.q[d * k + i] * f.q[d * k + j];
                worst_orthogonality = std::max(worst_orthogonality, std::abs(dot));
                if (i > j) {
                    EXPECT_EQ(f.r[i * k + j], 0.0);
                }
            }
        for (Index d = 0; d < D; ++d)
            for (Index j = 0; j < k; ++j) {
                double product = -a[d * k + j];
                for (Index i = 0; i < k; ++i) product += f.q[d * k + i] * f.r[i * k + j];
                worst_product = std::max(worst_product, std::abs(product));
            }
        EXPECT_LT(worst_orthogonality, 1e-14) << D << " x " << k;
        EXPECT_LT(worst_product, 1e-14) << D << " x " << k;
        for (Index j = 0; j < k; ++j) EXPECT_GT(f.r[j * k + j], 0.0);
    }
}

TEST(ReferenceQR, RefusesDependentColumns) {
    EXPECT_THROW(qr(2, 2, {1.0, 0.0, 2.0, 0.0}), std::runtime_error);
    EXPECT_THROW(qr(2, 1, {NAN, 1.0}), std::runtime_error);
}

// L = sum of W * Q + sum of w_j R_jj for fixed W, w.
TEST(ReferenceQR, AdjointIsTheTrueGradient) {
    for (auto [D, k] : {std::pair<Index, Index>{5, 1}, {8, 4}, {5, 5}}) {
        std::vector<double> a = wavy(D * k, 0.9);
        const std::vector<double> weight_q = wavy(D * k, 2.0), weight_r = wavy(k, 3.0);
        const auto adjoint = qr_backward(D, k, qr(D, k, a), weight_q, weight_r);
        const auto expected = finite_differences(a, [&] {
            const QR f = qr(D, k, a);
            double total = std::inner_product(f.q.begin(), f.q.end(), weight_q.begin(), 0.0);
            for (Index j = 0; j < k; ++j) total += weight_r[j] * f.r[j * k + j];
            return total;
        });
        EXPECT_TRUE(near_in_norm(adjoint, expected, 1e-7)) << D << " x " << k;
    }
}

// The product of the tangent maps over all steps is the derivative of the last state with respect to the first.
TEST(ReferenceTangent, IsTheDerivativeOfTheSmoothTrajectory) {
    for (Surrogate surrogate : all_surrogates)
        for (const auto& rule : all_reset_rules)
            for (int variant = 0; variant < 6; ++variant) {
                const bool has_current = variant % 2 == 0;
                Example example;
                example.adaptation = all_adaptations[static_cast<std::size_t>(variant / 2)];
                example.own_thresholds = variant > 0;
                example.refractory = variant / 2;
                example.surrogate = surrogate;
                example.sharpness = 0.8;
                example.reset = rule.reset;
                example.reset_delay = rule.delay;
                example.has_current = has_current;
                example.initial_state = true;
                example.batch = 1;
                const SmoothCase c = find_smooth_case(example, [](const SmoothCase&) { return true; });
                const Index N = c.net.neurons, D = c.net.state_size(), T = c.seq.steps;
                const std::vector<double> direction = wavy(D, 1.0);
                std::vector<double> tangent = direction;
                for (Index t = 0; t < T; ++t)
                    tangent = tangent_step(c.net, JacobianReset::detached, StepView(c.trajectory, t, 0), 1, tangent);
                const BasisRows rows(c.net);
                const auto shifted = [&](double h) {
                    Network net = c.net;
                    for (Index n = 0; n < N; ++n) {
                        if (has_current) net.initial_current[n] += h * direction[n];
                        net.initial_membrane[n] += h * direction[rows.u + n];
                        if (net.adapts()) net.initial_adaptation[n] += h * direction[rows.w + n];
                    }
                    const Trajectory tr = c.run(net);
                    std::vector<double> state(tr.membrane.end() - N, tr.membrane.end());
                    if (has_current) state.insert(state.begin(), tr.current.end() - N, tr.current.end());
                    if (net.adapts()) state.insert(state.end(), tr.adaptation.end() - N, tr.adaptation.end());
                    return state;
                };
                std::vector<double> difference = shifted(1e-5), backwards = shifted(-1e-5);
                for (Index d = 0; d < D; ++d) difference[d] = (difference[d] - backwards[d]) / 2e-5;
                EXPECT_TRUE(near_in_norm(tangent, difference, 1e-7))
                    << name_of(surrogate) << " " << rule << " D = " << D;
            }
}

// Without recurrence and reset the exponents are ln alpha and ln beta of all neurons.
TEST(ReferenceSpectrum, OfUncoupledNeuronsIsInClosedForm) {
    for (bool has_current : {true, false}) {
        Example example;
        example.neurons = 3;
        example.reset = Reset::none;
        example.has_current = has_current;
        example.exponents = has_current ? 6 : 3;
        example.steps = 500;
        Network net = random_network(example);
        std::fill(net.w_rec.begin(), net.w_rec.end(), 0.0);
        if (has_current) net.alpha = {0.9, 0.5, 0.7};
        net.beta = {0.6, 0.8, 0.4};
        const Sequences seq = random_sequences(example);
        const Spectrum s = spectrum(net, seq, forward(net, seq), {.warmup = 400});  // (8/9)^400 is negligible
        std::vector<double> expected;
        for (double decay : net.beta) expected.push_back(std::log(decay));
        if (has_current)
            for (double decay : net.alpha) expected.push_back(std::log(decay));
        std::sort(expected.begin(), expected.end(), std::greater<>());
        EXPECT_EQ(s.counted_steps, 100);
        EXPECT_TRUE(all_near(s.lambda, expected, 1e-12));
    }
}

// ln |det| by elimination with pivots, of a [D, D] matrix.
double log_abs_det(std::vector<double> a, Index D) {
    double total = 0.0;
    for (Index c = 0; c < D; ++c) {
        Index pivot = c;
        for (Index r = c; r < D; ++r)
            if (std::abs(a[r * D + c]) > std::abs(a[pivot * D + c])) pivot = r;
        for (Index j = 0; j < D; ++j) std::swap(a[c * D + j], a[pivot * D + j]);
        total += std::log(std::abs(a[c * D + c]));
        for (Index r = c + 1; r < D; ++r) {
            const double factor = a[r * D + c] / a[c * D + c];
            for (Index j = c; j < D; ++j) a[r * D + j] -= factor * a[c * D + j];
        }
    }
    return total;
}

// The blocks of the Jacobian written out: d(i', u') / d(i, u), or du'/du alone.
std::vector<double> step_jacobian(const Network& net, const double* u, const double* factor) {
    const Index N = net.neurons, D = net.state_size();
    std::vector<double> jacobian(D * D, 0.0);
    for (Index n = 0; n < N; ++n)
        for (Index l = 0; l < N; ++l) {
            const double coupling = net.w_rec[n * N + l] * psi(net.surrogate, u[l] - net.threshold, net.sharpness);
            const double same = n == l ? 1.0 : 0.0;
            jacobian[(D - N + n) * D + D - N + l] = factor[n] * (net.beta[n] * same + (1.0 - net.beta[n]) * coupling);
            if (D == N) continue;
            jacobian[n * D + l] = net.alpha[n] * same;
            jacobian[n * D + N + l] = coupling;
            jacobian[(N + n) * D + l] = factor[n] * (1.0 - net.beta[n]) * net.alpha[n] * same;
        }
    return jacobian;
}

TEST(ReferenceSpectrum, SumsToTheMeanLogDeterminant) {
    for (const auto& rule : all_reset_rules)
        for (bool has_current : {true, false}) {
            Example example;
            example.reset = rule.reset;
            example.reset_delay = rule.delay;
            example.has_current = has_current;
            example.exponents = has_current ? 10 : 5;
            example.steps = 40;
            const Network net = random_network(example);
            const Sequences seq = random_sequences(example);
            const Trajectory tr = forward(net, seq);
            // A neuron that was reset to zero makes the Jacobian singular unless the reset is left out of it.
            SpectrumOptions options{.qr_interval = 2, .warmup = 4};
            if (rule.reset == Reset::zero) options.jacobian_reset = JacobianReset::ignored;
            const Spectrum s = spectrum(net, seq, tr, options);
            double expected = 0.0;
            const std::vector<double> ones(net.neurons, 1.0);
            for (Index b = 0; b < seq.batch; ++b)
                for (Index t = 4; t < seq.steps; ++t)
                    expected +=
                        log_abs_det(step_jacobian(net, &tr.membrane[tr.row(t, b)], ones.data()), net.state_size()) /
                        static_cast<double>(36 * seq.batch);
            EXPECT_NEAR(std::accumulate(s.lambda.begin(), s.lambda.end(), 0.0), expected, 1e-11)
                << rule << " D = " << net.state_size();
        }
}

TEST(ReferenceTangent, IsTheProductWithTheJacobian) {
    for (bool has_current : {true, false})
        for (JacobianReset jacobian_reset : {JacobianReset::detached, JacobianReset::ignored}) {
            Example example;
            example.has_current = has_current;
            const Network net = random_network(example);
            const Index N = net.neurons, D = net.state_size(), k = 4;
            const std::vector<double> u = {0.2, 1.3, -0.4, 2.0, 0.9}, s = {0.0, 1.0, 0.0, 1.0, 0.0};
            Trajectory tr;
            tr.batch = 1, tr.neurons = N;
            tr.m.assign(N, 1.0);
            tr.reset_spikes = s;
            for (double u_n : u) tr.v.push_back(u_n - net.threshold);
            std::vector<double> factor(N, 1.0);
            for (Index n = 0; n < N; ++n)
                if (jacobian_reset == JacobianReset::detached) factor[n] = 1.0 - s[n];
            const auto jacobian = step_jacobian(net, u.data(), factor.data());
            const std::vector<double> q = wavy(D * k, 0.5);
            std::vector<double> expected(D * k, 0.0);
            for (Index d = 0; d < D; ++d)
                for (Index l = 0; l < D; ++l)
                    for (Index j = 0; j < k; ++j) expected[d * k + j] += jacobian[d * D + l] * q[l * k + j];
            EXPECT_TRUE(all_near(tangent_step(net, jacobian_reset, StepView(tr, 0, 0), k, q), expected, 1e-14));
        }
}

TEST(ReferenceSpectrum, DoesNotDependOnTheQRInterval) {
    Example example;
    example.neurons = 12;
    example.exponents = 5;
    example.steps = 60;
    const Network net = random_network(example);
    const Sequences seq = random_sequences(example);
    const Trajectory tr = forward(net, seq);
    const Floss every = floss(net, seq, tr, {.qr_interval = 1, .warmup = 10});
    EXPECT_EQ(every.spectrum.counted_qrs, 50);
    for (Index interval : {2, 5, 10}) {
        const Floss some = floss(net, seq, tr, {.qr_interval = interval, .warmup = 10});
        EXPECT_EQ(some.spectrum.counted_qrs, 50 / interval);
        EXPECT_EQ(some.spectrum.counted_steps, 50);
        EXPECT_TRUE(all_near(some.spectrum.lambda, every.spectrum.lambda, 1e-12)) << interval;
        EXPECT_TRUE(near_in_norm(some.through_state.w_rec, every.through_state.w_rec, 1e-9)) << interval;
    }
}

// A QR counts if all the steps it covers come after the warm-up. Steps after the last QR are not covered.
TEST(ReferenceSpectrum, CountsWholeIntervalsAfterTheWarmup) {
    const SpectrumOptions options{.qr_interval = 4, .warmup = 10};
    std::vector<Index> counted;
    for (Index t = 0; t < 31; ++t)
        if (is_counted(options, t)) counted.push_back(t + 1);
    EXPECT_EQ(counted, (std::vector<Index>{16, 20, 24, 28}));
    const Example example;
    const Network net = random_network(example);
    const Sequences seq = random_sequences(example);
    EXPECT_THROW(spectrum(net, seq, forward(net, seq), {.warmup = example.steps}), std::invalid_argument);
}

TEST(ReferenceSpectrum, DerivedQuantities) {
    EXPECT_DOUBLE_EQ(kaplan_yorke_dimension({0.5, 0.0, -0.25, -1.0}), 3.25);
    EXPECT_DOUBLE_EQ(kaplan_yorke_dimension({-1.0, 0.5, -0.25, 0.0}), 3.25);  // any order
    EXPECT_DOUBLE_EQ(kaplan_yorke_dimension({-0.1, -0.2}), 0.0);
    EXPECT_DOUBLE_EQ(kaplan_yorke_dimension({0.3, -0.2}), 2.0);
    EXPECT_DOUBLE_EQ(entropy_rate({0.5, 0.25, -3.0}), 0.75);
    EXPECT_DOUBLE_EQ(condition_number({0.5, 0.25, -0.5}, 2), std::exp(2.0));
}

}  // namespace
}  // namespace spikefloss::reference
