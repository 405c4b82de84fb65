// The six surrogates: psi is the derivative of its primitive, psi' that of psi, and nothing overflows.
#include "reference/surrogate.hpp"

#include <gtest/gtest.h>

#include <cmath>

namespace spikefloss::reference {
namespace {

constexpr double sharpnesses[] = {0.3, 1.0, 5.0};
constexpr double points[] = {-7.3, -1.9, -0.71, -0.13, -0.011, 0.017, 0.12, 0.83, 2.3, 9.1};

template <class F>
double slope(F&& f, double v) {
    const double h = 1e-4;
    return (8.0 * (f(v + h) - f(v - h)) - (f(v + 2.0 * h) - f(v - 2.0 * h))) / (12.0 * h);
}

TEST(ReferenceSurrogates, AreTheDerivativesOfTheirPrimitives) {
    for (Surrogate surrogate : all_surrogates)
        for (double g : sharpnesses)
            for (double v : points) {
                if (distance_to_kink(surrogate, v, g) < 1e-3) continue;
                EXPECT_NEAR(slope([&](double x) { return psi_primitive(surrogate, x, g); }, v), psi(surrogate, v, g),
                            1e-10)
                    << name_of(surrogate) << " g " << g << " v " << v;
                EXPECT_NEAR(slope([&](double x) { return psi(surrogate, x, g); }, v), psi_derivative(surrogate, v, g),
                            1e-9)
                    << name_of(surrogate) << " g " << g << " v " << v;
            }
}

TEST(ReferenceSurrogates, AreEvenAndOneAtThreshold) {
    for (Surrogate surrogate : all_surrogates)
        for (double g : sharpnesses) {
            EXPECT_DOUBLE_EQ(psi(surrogate, 0.0, g), 1.0) << name_of(surrogate);
            EXPECT_EQ(psi_derivative(surrogate, 0.0, g), 0.0) << name_of(surrogate);
            EXPECT_DOUBLE_EQ(psi_primitive(surrogate, 0.0, g), 0.5) << name_of(surrogate);
            for (double v : points) {
                EXPECT_DOUBLE_EQ(psi(surrogate, v, g), psi(surrogate, -v, g)) << name_of(surrogate);
                EXPECT_DOUBLE_EQ(psi_derivative(surrogate, v, g), -psi_derivative(surrogate, -v, g));
            }
        }
}

TEST(ReferenceSurrogates, DoNotOverflowFarFromThreshold) {
    for (Surrogate surrogate : all_surrogates)
        for (double v : {-1e6, 1e6}) {
            EXPECT_TRUE(std::isfinite(psi_primitive(surrogate, v, 5.0))) << name_of(surrogate);
            EXPECT_GE(psi(surrogate, v, 5.0), 0.0) << name_of(surrogate);
            EXPECT_LT(psi(surrogate, v, 5.0), 1e-12) << name_of(surrogate);
            EXPECT_LT(std::abs(psi_derivative(surrogate, v, 5.0)), 1e-12) << name_of(surrogate);
        }
}

// Values computed by hand at g = 2, v = 1/2: g v = 1.
TEST(ReferenceSurrogates, HaveTheirNamedForms) {
    const double e = 1.0 / (1.0 + std::exp(-1.0));
    EXPECT_DOUBLE_EQ(psi(Surrogate::fast_sigmoid, 0.5, 2.0), 0.25);
    EXPECT_DOUBLE_EQ(psi(Surrogate::arctan, 0.5, 2.0), 0.5);
    EXPECT_DOUBLE_EQ(psi(Surrogate::sigmoid, 0.5, 2.0), 4.0 * e * (1.0 - e));
    EXPECT_DOUBLE_EQ(psi(Surrogate::gaussian, 0.5, 2.0), std::exp(-0.5));
    EXPECT_DOUBLE_EQ(psi(Surrogate::exponential, 0.5, 2.0), std::exp(-1.0));
    EXPECT_DOUBLE_EQ(psi(Surrogate::triangle, 0.25, 2.0), 0.5);
    EXPECT_EQ(psi(Surrogate::triangle, 0.5, 2.0), 0.0);
}

}  // namespace
}  // namespace spikefloss::reference
