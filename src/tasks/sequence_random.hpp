// The random numbers of one global sequence. Each depends only on the counters (step, sequence, c, d):
//
//   spikes    c = time step, d = an input below 2^31       (draw_spikes)
//   the rest  c = a block of 128 bits, or 0, d = 2^32 - 1  (a sequence's bits or its class)
//
// So a batch can be divided over ranks in any way. Steps and sequences are below 2^32.
#pragma once

#include "tasks/task.hpp"

namespace spikefloss {

// Limits of steps and inputs that keep the counters above apart.
inline constexpr Index max_steps = Index{1} << 31, max_inputs = Index{1} << 31;

struct SequenceRandom {
    std::uint64_t seed;
    Stream stream;
    std::uint32_t step, sequence;

    // Throws Error(Exit::usage) for a step or sequence that does not fit 32 bits.
    SequenceRandom(std::uint64_t seed, Purpose purpose, std::int64_t step, Index sequence);

    // Bit m is bit m % 32 of word m / 32.
    std::vector<std::uint8_t> bits(Index count) const;
    // Uniform on 0 .. choices - 1 (to within choices / 2^32).
    std::int32_t choice(Index choices) const;
    // x[0 .. count) = 1 with the given probability, else 0: the spikes of inputs first .. first + count - 1 at `time`.
    // One call of the generator draws four inputs, a quarter of the range apart, so that the loop is vectorised.
    // The probability is rounded to a multiple of 2^-32; 0 and 1 draw nothing.
    void draw_spikes(Index time, Index first, Index count, double probability, float* x) const;
};

// The mask [T, b] that is 1 from step `begin` on and 0 before.
std::vector<float> mask_from(Index begin, Index steps, Index sequences);

}  // namespace spikefloss
