// sequence_random.hpp lists the counters.
#include "tasks/sequence_random.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {

namespace {

constexpr std::uint32_t per_sequence = 0xFFFFFFFFu;  // counter d of all numbers except spikes
constexpr Index lanes = 8;                           // calls of the generator at a time: one AVX2 register of words

Stream stream_of(Purpose purpose) {
    switch (purpose) {
        case Purpose::train: return Stream::task_train;
        case Purpose::test: return Stream::task_test;
        case Purpose::floss: return Stream::task_floss;
        case Purpose::diagnose: return Stream::task_diagnose;
        case Purpose::validation: break;  // no generated task has any
    }
    throw Error(Exit::internal, "a Purpose without a random stream");
}

std::uint32_t counter(Index value, const char* what) {
    require(
        value >= 0 && value < (Index{1} << 32), Exit::usage,
        fmt::format("{} number {} is outside 0 .. 2^32 - 1, the range of the random numbers' counters", what, value),
        "use fewer training steps or a smaller batch");
    return static_cast<std::uint32_t>(value);
}

// x[0 .. count) = 1 where a word is below the threshold, else 0. Compiled for two instruction sets, as the CPU kernels
// are, because it takes a tenth of the time of a small network.
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
__attribute__((target_clones("default", "avx2"), flatten))
#endif
void draw_below(const SequenceRandom random, std::uint32_t time, Index first, Index count, std::uint32_t threshold,
                float* x) {
    const Index quarter = (count + 3) / 4;
    for (Index begin = 0; begin < quarter; begin += lanes) {
        float drawn[4][lanes];
        for (Index lane = 0; lane < lanes; ++lane) {
            const auto words = random_words(random.seed, random.stream, random.step, random.sequence, time,
                                            static_cast<std::uint32_t>(first + begin + lane));
            for (int w = 0; w < 4; ++w) drawn[w][lane] = words[w] < threshold ? 1.0f : 0.0f;
        }
        const Index length = std::min(lanes, quarter - begin);
        for (Index w = 0; w < 4; ++w) {
            const Index to = w * quarter + begin;
            if (to < count) std::copy_n(drawn[w], std::min(length, count - to), x + to);
        }
    }
}

}  // namespace

SequenceRandom::SequenceRandom(std::uint64_t seed_, Purpose purpose, std::int64_t step_, Index sequence_)
    : seed(seed_), stream(stream_of(purpose)), step(counter(step_, "step")), sequence(counter(sequence_, "sequence")) {}

std::vector<std::uint8_t> SequenceRandom::bits(Index count) const {
    std::vector<std::uint8_t> result(static_cast<std::size_t>(count));
    for (Index begin = 0; begin < count; begin += 128) {
        const auto words =
            random_words(seed, stream, step, sequence, static_cast<std::uint32_t>(begin / 128), per_sequence);
        for (Index m = begin; m < std::min(begin + 128, count); ++m)
            result[m] = (words[(m - begin) / 32] >> (m % 32)) & 1;
    }
    return result;
}

std::int32_t SequenceRandom::choice(Index choices) const {
    const std::uint64_t word = random_words(seed, stream, step, sequence, 0, per_sequence)[0];
    return static_cast<std::int32_t>((word * static_cast<std::uint64_t>(choices)) >> 32);
}

void SequenceRandom::draw_spikes(Index time, Index first, Index count, double probability, float* x) const {
    if (probability <= 0 || probability >= 1) {
        std::fill_n(x, count, probability > 0 ? 1.0f : 0.0f);
        return;
    }
    const auto threshold = static_cast<std::uint32_t>(std::clamp(std::round(probability * 0x1p32), 1.0, 0x1p32 - 1));
    draw_below(*this, static_cast<std::uint32_t>(time), first, count, threshold, x);
}

std::vector<float> mask_from(Index begin, Index steps, Index sequences) {
    std::vector<float> mask(static_cast<std::size_t>(steps * sequences), 1.0f);
    std::fill_n(mask.begin(), begin * sequences, 0.0f);
    return mask;
}

}  // namespace spikefloss
