// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011; Random123), keyed by (seed, stream) and counted
// by global indices, so that a number depends neither on the process grid nor on earlier numbers.
#pragma once

#include <Random123/philox.h>

#include <array>
#include <cmath>
#include <cstdint>

namespace spikefloss {

// The uses of the numbers. The values are part of the meaning of a seed: append, never renumber.
enum class Stream : std::uint32_t {
    weights = 0,     // counters: parameter, row, column
    task_train = 1,  // counters: step, sequence, then the task's own
    task_test = 2,
    task_floss = 3,
    tangent_bases = 4,  // counters: sequence, row, column
    task_diagnose = 5,
    shuffle = 6,  // counters: epoch, position
    test = 7,
    augmentation = 8,  // counters: position (64 bits), event, use
    synapses = 9,      // counters: target, number, source, copy
};

// Four independent 32-bit words for the 128-bit counter (a, b, c, d).
inline std::array<std::uint32_t, 4> random_words(std::uint64_t seed, Stream stream, std::uint32_t a, std::uint32_t b,
                                                 std::uint32_t c, std::uint32_t d) {
    // The stream is mixed into the high key word; seeds differ in at least one of the two words.
    r123::Philox4x32::ctr_type counter = {{a, b, c, d}};
    r123::Philox4x32::key_type key = {
        {static_cast<std::uint32_t>(seed),
         static_cast<std::uint32_t>(seed >> 32) ^ (0x9E3779B9u * (static_cast<std::uint32_t>(stream) + 1))}};
    const auto words = r123::Philox4x32()(counter, key);
    return {words[0], words[1], words[2], words[3]};
}

// Uniform on (0, 1): the middle of one of 2^32 equal intervals.
inline double uniform(std::uint32_t word) { return (word + 0.5) * 0x1p-32; }

// One standard normal number per counter (Box-Muller on the first two words).
inline double normal(std::uint64_t seed, Stream stream, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                     std::uint32_t d = 0) {
    const auto w = random_words(seed, stream, a, b, c, d);
    return std::sqrt(-2.0 * std::log(uniform(w[0]))) * std::cos(2.0 * 3.14159265358979323846 * uniform(w[1]));
}

}  // namespace spikefloss
