// A Feistel network on pairs (l, r) in Z_a x Z_b with a b >= size, the rounds alternating between
//
//   l += F(round, r) mod a     and     r += F(round, l) mod b,      F a word of Philox.
//
// Every round has an inverse, so the network is a bijection of the a b pairs. It is applied again until the result is
// below `size`; this gives a bijection of 0 .. size-1. With a, b near sqrt(size), a second application is rare.
#include "tasks/permutation.hpp"

#include "core/error.hpp"

#include <cmath>

namespace spikefloss {

Index permuted(std::uint64_t seed, Purpose purpose, std::uint32_t epoch, Index size, Index position) {
    SPIKEFLOSS_ASSERT(size >= 1 && size <= (Index{1} << 32) && position >= 0 && position < size);
    const auto a = static_cast<Index>(std::ceil(std::sqrt(static_cast<double>(size))));
    const Index b = (size + a - 1) / a;
    const auto shift = [&](std::uint32_t round, Index from, Index modulus) {
        const std::uint64_t word = random_words(seed, Stream::shuffle, epoch, static_cast<std::uint32_t>(from), round,
                                                static_cast<std::uint32_t>(purpose))[0];
        return static_cast<Index>((word * static_cast<std::uint64_t>(modulus)) >> 32);
    };
    do {
        Index l = position / b, r = position % b;
        for (std::uint32_t round = 0; round < 8; round += 2) {
            l = (l + shift(round, r, a)) % a;
            r = (r + shift(round + 1, l, b)) % b;
        }
        position = l * b + r;
    } while (position >= size);
    return position;
}

}  // namespace spikefloss
