// Counter-based random numbers: known answers, so that a seed keeps its meaning; independence of the counters; the
// shape of both distributions.
#include "core/random.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace spikefloss {
namespace {

using Words = std::array<std::uint32_t, 4>;

// The known answers of Random123 for Philox4x32-10.
TEST(Random, IsPhilox) {
    r123::Philox4x32 philox;
    const auto zero = philox({{0, 0, 0, 0}}, {{0, 0}});
    EXPECT_EQ((Words{zero[0], zero[1], zero[2], zero[3]}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    // The stream enters the high key word as a multiple of the golden ratio.
    const auto expected = philox({{1, 2, 3, 4}}, {{0x89abcdef, 0x01234567u ^ (0x9E3779B9u * 2u)}});
    EXPECT_EQ(random_words(0x0123456789abcdefull, Stream::task_train, 1, 2, 3, 4),
              (Words{expected[0], expected[1], expected[2], expected[3]}));
}

// Every seed bit, stream and counter matters.
TEST(Random, DiffersWithEveryArgument) {
    std::set<Words> seen;
    std::size_t draws = 0;
    const auto draw = [&](std::uint64_t seed, Stream stream, Words c) {
        seen.insert(random_words(seed, stream, c[0], c[1], c[2], c[3]));
        ++draws;
    };
    for (int bit = 0; bit < 64; ++bit) draw(std::uint64_t(1) << bit, Stream::weights, {});
    for (Stream stream : {Stream::weights, Stream::task_train, Stream::task_test, Stream::task_floss,
                          Stream::tangent_bases, Stream::task_diagnose, Stream::shuffle, Stream::test})
        draw(7, stream, {});
    for (std::size_t place = 0; place < 4; ++place)
        for (std::uint32_t bit = 0; bit < 32; ++bit) {
            Words counter{};
            counter[place] = 1u << bit;
            draw(7, Stream::test, counter);
        }
    EXPECT_EQ(seen.size(), draws);
}

// Streams of one seed are not those of another.
TEST(Random, StreamsKeepTheirNumbers) {
    EXPECT_EQ(static_cast<int>(Stream::weights), 0);
    EXPECT_EQ(static_cast<int>(Stream::task_train), 1);
    EXPECT_EQ(static_cast<int>(Stream::task_test), 2);
    EXPECT_EQ(static_cast<int>(Stream::task_floss), 3);
    EXPECT_EQ(static_cast<int>(Stream::tangent_bases), 4);
    EXPECT_EQ(static_cast<int>(Stream::task_diagnose), 5);
    EXPECT_EQ(static_cast<int>(Stream::shuffle), 6);
}

TEST(Random, UniformStaysInside) {
    EXPECT_GT(uniform(0u), 0.0);
    EXPECT_LT(uniform(0xFFFFFFFFu), 1.0);
    EXPECT_EQ(uniform(0x7FFFFFFFu) + uniform(0x80000000u), 1.0);
}

TEST(Random, NormalHasTheMomentsOfANormal) {
    constexpr std::uint32_t count = 200000;
    double mean = 0.0, square = 0.0, fourth = 0.0, neighbours = 0.0, before = 0.0, largest = 0.0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const double x = normal(3, Stream::test, i, 5, 6);
        mean += x / count;
        square += x * x / count;
        fourth += x * x * x * x / count;
        neighbours += x * before / count;
        before = x;
        largest = std::max(largest, std::abs(x));
    }
    EXPECT_NEAR(mean, 0.0, 0.01);
    EXPECT_NEAR(square, 1.0, 0.02);
    EXPECT_NEAR(fourth, 3.0, 0.1);
    EXPECT_NEAR(neighbours, 0.0, 0.01);
    EXPECT_GT(largest, 4.0);
    EXPECT_LT(largest, 7.0);
}

}  // namespace
}  // namespace spikefloss
