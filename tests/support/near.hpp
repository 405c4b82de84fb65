// Comparisons of arrays for tests: the relative error in norm, the largest difference, and GoogleTest predicates of
// these. NaN and different sizes never pass. An array is any type with size() and [] of numbers (vector, span).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstddef>
#include <limits>

namespace spikefloss::testing_support {

// |a - b| / |b| in the Euclidean norm; |a| if b is 0; infinite if the sizes differ.
template <class A, class B>
double relative_error(const A& actual, const B& expected) {
    if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
    double difference = 0.0, norm = 0.0;
    for (std::size_t j = 0; j < actual.size(); ++j) {
        const double a = static_cast<double>(actual[j]), b = static_cast<double>(expected[j]);
        difference += (a - b) * (a - b);
        norm += b * b;
    }
    return norm == 0.0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

// The largest |a - b|; NaN if any difference is NaN, infinite if the sizes differ.
template <class A, class B>
double largest_difference(const A& actual, const B& expected) {
    if (actual.size() != expected.size()) return std::numeric_limits<double>::infinity();
    double largest = 0.0;
    for (std::size_t j = 0; j < actual.size(); ++j) {
        const double difference = std::abs(static_cast<double>(actual[j]) - static_cast<double>(expected[j]));
        if (!(difference <= largest)) largest = difference;
        if (std::isnan(largest)) return largest;
    }
    return largest;
}

namespace detail {
inline testing::AssertionResult judge(const char* what, double error, double tolerance, std::size_t actual,
                                      std::size_t expected) {
    if (actual == expected && error <= tolerance) return testing::AssertionSuccess();
    if (actual != expected)
        return testing::AssertionFailure() << actual << " elements where " << expected << " are expected";
    return testing::AssertionFailure() << what << " is " << error << ", allowed " << tolerance;
}
}  // namespace detail

// EXPECT_TRUE(near_in_norm(gradient, expected, 1e-3)) << "w_rec";
template <class A, class B>
testing::AssertionResult near_in_norm(const A& actual, const B& expected, double tolerance) {
    return detail::judge("the relative error in norm", relative_error(actual, expected), tolerance, actual.size(),
                         expected.size());
}

// EXPECT_TRUE(all_near(membrane, expected, 1e-5)) << "membrane";
template <class A, class B>
testing::AssertionResult all_near(const A& actual, const B& expected, double tolerance) {
    return detail::judge("the largest difference", largest_difference(actual, expected), tolerance, actual.size(),
                         expected.size());
}

// EXPECT_TRUE(all_equal(bits, expected)): all elements are equal; reports the first that is not.
template <class A, class B>
testing::AssertionResult all_equal(const A& actual, const B& expected) {
    if (actual.size() != expected.size())
        return testing::AssertionFailure() << actual.size() << " elements where " << expected.size() << " are expected";
    std::size_t different = 0, first = 0;
    for (std::size_t j = actual.size(); j-- > 0;)
        if (!(actual[j] == expected[j])) {
            ++different;
            first = j;
        }
    if (different == 0) return testing::AssertionSuccess();
    return testing::AssertionFailure() << different << " of " << actual.size() << " elements differ, first at " << first
                                       << ": " << +actual[first] << " where " << +expected[first] << " is expected";
}

}  // namespace spikefloss::testing_support
