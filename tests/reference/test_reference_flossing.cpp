// Both gradients of the flossing penalty against finite differences of the network with the smooth spike, for every
// parameter, all surrogates and resets, D = N and D = 2N, two QR intervals, and the reset in the tangent map or not.
#include "reference/finite_differences.hpp"
#include "support/near.hpp"

#include <gtest/gtest.h>

namespace spikefloss::reference {
namespace {

using namespace testing_support;

class ReferenceFlossing : public testing::TestWithParam<Surrogate> {};

// With the reset in the tangent map, simultaneous resets of neurons may leave fewer than k directions. The seed is one
// for which the exponents are well conditioned.
bool well_conditioned(const SmoothCase& c, const SpectrumOptions& options) {
    try {
        const Spectrum s = spectrum(c.net, c.seq, c.trajectory, options);
        for (const auto& factors : s.r)
            for (const auto& r : factors)
                for (std::size_t j = 0; j < r.size(); j += static_cast<std::size_t>(s.exponents) + 1)
                    if (r[j] < 0.1) return false;
        return true;
    } catch (const std::runtime_error&) {
        return false;
    }
}

void check(const Example& example, const SpectrumOptions& options) {
    const std::vector<double> target = {0.1, -0.2, 0.05};
    const SmoothCase c =
        find_smooth_case(example, [&](const SmoothCase& candidate) { return well_conditioned(candidate, options); });
    const Floss f = floss(c.net, c.seq, c.trajectory, options, target);
    Network net = c.net;
    // The tangent map has the parameters of `tangent`, the trajectory those of net.
    const auto value = [&](const Network& tangent, const Trajectory& trajectory) {
        return penalty(spectrum(tangent, c.seq, trajectory, options).lambda, target);
    };
    EXPECT_NEAR(f.value, value(c.net, c.trajectory), 1e-15);
    // The trajectory held fixed is that of the state; v = u - theta changes with theta.
    const auto held = [&](const Network& with) {
        Trajectory tr = c.trajectory;
        for (std::size_t at = 0; at < tr.v.size(); ++at) {
            const Index n = static_cast<Index>(at) % net.neurons;
            tr.v[at] += c.net.theta(n) - with.theta(n);
        }
        return tr;
    };
    const auto check_all = [&](const auto& parameters) {
        for (const auto& [name, values] : parameters) {
            if ((net.*values).empty()) continue;
            // With D = N the tangent map has no current, so alpha acts only through the trajectory.
            const bool no_direct = values == &Parameters::alpha && !c.net.has_current();
            const auto direct =
                finite_differences(net.*values, [&] { return no_direct ? f.value : value(net, held(net)); });
            EXPECT_TRUE(near_in_norm(f.direct.*values, direct, 2e-8)) << "direct, " << name;
            const auto whole =
                finite_differences(net.*values, [&] { return value(no_direct ? c.net : net, c.run(net)); });
            EXPECT_TRUE(near_in_norm(f.through_state.*values, whole, 2e-8)) << "through the state, " << name;
        }
    };
    check_all(all_parameters);
    check_all(adaptation_parameters);
    // e[t] is the derivative with respect to v in the tangent map.
    Trajectory tr = c.trajectory;
    const auto e = finite_differences(tr.v, [&] { return value(c.net, tr); });
    EXPECT_TRUE(near_in_norm(f.e, e, 2e-8)) << "e";
}

TEST_P(ReferenceFlossing, GradientsAreTheTrueGradientsOfTheSmoothNetwork) {
    for (const auto& rule : all_reset_rules)
        for (bool has_current : {true, false})
            for (Index qr_interval : {1, 3})
                for (JacobianReset jacobian_reset : {JacobianReset::detached, JacobianReset::ignored}) {
                    SCOPED_TRACE(testing::Message()
                                 << rule << ", " << (has_current ? "D = 2N" : "D = N") << ", QR every " << qr_interval
                                 << ", reset " << (jacobian_reset == JacobianReset::ignored ? "ignored" : "detached"));
                    Example example;
                    example.neurons = 6;
                    example.steps = 11;  // the last two steps belong to no QR of interval 3
                    example.surrogate = GetParam();
                    example.sharpness = 0.8;
                    example.reset = rule.reset;
                    example.reset_delay = rule.delay;
                    example.has_current = has_current;
                    example.initial_state = true;
                    check(example, {.qr_interval = qr_interval, .warmup = 2, .jacobian_reset = jacobian_reset});
                }
}

TEST_P(ReferenceFlossing, GradientsOfAdaptingNeuronsAreTheTrueGradients) {
    for (const auto& rule : all_reset_rules)
        for (Adaptation adaptation : all_adaptations)
            for (Index refractory : {0, 2}) {
                SCOPED_TRACE(testing::Message()
                             << rule << ", adaptation " << name_of(adaptation) << ", refractory " << refractory);
                Example example;
                example.steps = 9;
                example.surrogate = GetParam();
                example.sharpness = 0.8;
                example.reset = rule.reset;
                example.reset_delay = rule.delay;
                example.has_current = refractory == 0;
                example.initial_state = true;
                example.own_thresholds = true;
                example.adaptation = adaptation;
                example.refractory = refractory;
                check(example, {.qr_interval = 2,
                                .warmup = 2,
                                .jacobian_reset = refractory == 0 ? JacobianReset::detached : JacobianReset::ignored});
            }
}

INSTANTIATE_TEST_SUITE_P(Surrogates, ReferenceFlossing, testing::ValuesIn(all_surrogates),
                         [](const auto& test) { return name_of(test.param); });

TEST(ReferenceFlossingPenalty, ByHand) {
    EXPECT_DOUBLE_EQ(penalty({1.0, -3.0}), 5.0);
    EXPECT_DOUBLE_EQ(penalty({1.0, -3.0}, {0.0, -2.0}), 1.0);
}

}  // namespace
}  // namespace spikefloss::reference
