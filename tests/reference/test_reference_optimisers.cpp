// The updates of the optimisers in cases computed by hand.
#include "reference/optimisers.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace spikefloss::reference {
namespace {

// With bias correction the first step is rate * sign(g) except for eps. A constant gradient gives equal steps.
TEST(ReferenceOptimisers, AdamWithAConstantGradient) {
    std::vector<double> m(2, 0.0), v(2, 0.0), x = {1.0, 1.0};
    const AdamSettings settings{.learning_rate = 0.1, .eps = 1e-3};
    for (int step = 1; step <= 5; ++step) {
        adam(settings, step, {0.5, -2.0}, m, v, x);
        EXPECT_NEAR(x[0], 1.0 - step * 0.1 * 0.5 / (0.5 + 1e-3), 1e-14);
        EXPECT_NEAR(x[1], 1.0 + step * 0.1 * 2.0 / (2.0 + 1e-3), 1e-14);
    }
}

TEST(ReferenceOptimisers, AdamWithAChangingGradient) {
    std::vector<double> m(1, 0.0), v(1, 0.0), x = {0.0};
    const AdamSettings settings{.learning_rate = 1.0, .beta1 = 0.5, .beta2 = 0.75, .eps = 0.0};
    adam(settings, 1, {1.0}, m, v, x);
    EXPECT_DOUBLE_EQ(x[0], -1.0);
    // m = 0.25 - 1.5 = -1.25, corrected by 0.75; v = 0.1875 + 2.25 = 2.4375, corrected by 0.4375.
    adam(settings, 2, {-3.0}, m, v, x);
    EXPECT_DOUBLE_EQ(x[0], -1.0 + (1.25 / 0.75) / std::sqrt(2.4375 / 0.4375));
}

TEST(ReferenceOptimisers, WeightDecayIsDecoupled) {
    std::vector<double> m(1, 0.0), v(1, 0.0), x = {2.0};
    adam({.learning_rate = 0.1, .weight_decay = 0.5}, 1, {0.0}, m, v, x);
    EXPECT_DOUBLE_EQ(x[0], 2.0 * (1.0 - 0.1 * 0.5));
    EXPECT_EQ(m[0], 0.0);
    EXPECT_EQ(v[0], 0.0);
}

TEST(ReferenceOptimisers, MomentumIsAGeometricSum) {
    std::vector<double> velocity(1, 0.0), x = {0.0};
    for (int step = 0; step < 3; ++step) sgd(0.25, 0.5, {1.0}, velocity, x);
    EXPECT_DOUBLE_EQ(velocity[0], 1.75);
    EXPECT_DOUBLE_EQ(x[0], -0.25 * (1.0 + 1.5 + 1.75));
}

// At 1/2 the logit is 0 and its gradient a quarter of that of the value; at 3/4 they are ln 3 and 3/16. So the logits
// become -ln 3 and -2 ln 3.
TEST(ReferenceOptimisers, AFractionChangesByItsLogit) {
    std::vector<double> values = {0.5, 0.75};
    update_fraction({4.0, 16.0}, values, [](const std::vector<double>& gradient, std::vector<double>& x) {
        for (std::size_t j : {0, 1}) x[j] -= std::log(3.0) * gradient[j];
    });
    EXPECT_DOUBLE_EQ(values[0], 0.25);
    EXPECT_DOUBLE_EQ(values[1], 0.1);
}

}  // namespace
}  // namespace spikefloss::reference
