// permuted(): a bijection for every size, different for every epoch, purpose and seed, and without preferred places.
#include "tasks/permutation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace spikefloss {
namespace {

std::vector<Index> order(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, Index size) {
    std::vector<Index> result;
    for (Index p = 0; p < size; ++p) result.push_back(permuted(seed, purpose, epoch, size, p));
    return result;
}

TEST(Permutation, IsABijection) {
    for (const Index size : {1, 2, 3, 7, 10, 1000, 60000})
        for (const std::uint32_t epoch : {0u, 1u, 4000000000u}) {
            auto elements = order(3, Purpose::train, epoch, size);
            std::sort(elements.begin(), elements.end());
            for (Index i = 0; i < size; ++i) ASSERT_EQ(elements[i], i) << "size " << size << ", epoch " << epoch;
        }
}

TEST(Permutation, StaysInRangeForTheLargestSize) {
    const Index size = Index{1} << 32;
    for (const Index position : {Index{0}, size / 3, size - 1}) {
        const Index element = permuted(1, Purpose::train, 0, size, position);
        EXPECT_GE(element, 0);
        EXPECT_LT(element, size);
    }
}

TEST(Permutation, DiffersBetweenEpochsPurposesAndSeeds) {
    for (const Index size : {1000, 60000}) {
        const auto reference = order(3, Purpose::train, 0, size);
        for (const auto& other : {order(3, Purpose::train, 1, size), order(3, Purpose::floss, 0, size),
                                  order(3, Purpose::diagnose, 0, size), order(4, Purpose::train, 0, size)}) {
            // The number of places at which two random permutations are equal is Poisson distributed with mean 1.
            Index same = 0;
            for (Index i = 0; i < size; ++i) same += reference[i] == other[i];
            EXPECT_LT(same, 8) << size;
        }
    }
}

TEST(Permutation, EveryElementIsEverywhereEquallyOften) {
    const Index size = 7, epochs = 7000;
    std::vector<double> count(size * size), follows(size * size);
    for (Index epoch = 0; epoch < epochs; ++epoch) {
        const auto elements = order(1, Purpose::train, static_cast<std::uint32_t>(epoch), size);
        for (Index p = 0; p < size; ++p) {
            count[p * size + elements[p]] += 1;
            if (p > 0) follows[elements[p - 1] * size + elements[p]] += 1;
        }
    }
    const double p = 1.0 / size;
    for (const double n : count) EXPECT_NEAR(n / epochs, p, 4.5 * std::sqrt(p * (1 - p) / epochs));
    // 6 neighbours per permutation, 42 ordered pairs.
    for (Index a = 0; a < size; ++a)
        for (Index b = 0; b < size; ++b) EXPECT_NEAR(follows[a * size + b] / epochs, a == b ? 0 : p, 0.019);
}

}  // namespace
}  // namespace spikefloss
