// Properties of the spectrum: closed forms, determinants, QR intervals; derived quantities; random bases.
#include "lyapunov/spectrum.hpp"

#include "backend/backends.hpp"
#include "core/error.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>

namespace spikefloss {
namespace {

using namespace testing_support;

// Without recurrence and reset the exponents are ln alpha and ln beta, for any bases.
TEST(Spectrum, WithoutRecurrenceInClosedForm) {
    reference::Example example{.neurons = 4, .steps = 300, .batch = 2, .exponents = 8, .reset = reference::Reset::none};
    reference::Network net = reference::random_network(example);
    std::fill(net.w_rec.begin(), net.w_rec.end(), 0.0);
    net.alpha = {0.95, 0.7, 0.95, 0.7};
    net.beta = {0.5, 0.3, 0.3, 0.5};
    const reference::Sequences seq = reference::random_sequences(example);
    const FlossRun run =
        run_floss(alone(), Sums::float32, net, seq, {.spectrum = {.warmup = 150}, .through_state = false});
    const std::vector<double> factors = {0.95, 0.95, 0.7, 0.7, 0.5, 0.5, 0.3, 0.3};
    for (std::size_t j = 0; j < 8; ++j)
        for (std::size_t s = 0; s < 2; ++s)
            EXPECT_NEAR(run.lambda_per_sequence[s * 8 + j], std::log(factors[j]), 1e-4) << "exponent " << j;
}

// det of one step without reset is the product of all alpha beta, for any W_rec and inputs.
TEST(Spectrum, FullSpectrumSumsToTheLogDeterminant) {
    for (const Index interval : {1, 2}) {
        const reference::Example example{
            .neurons = 6, .steps = 20, .exponents = 12, .reset = reference::Reset::none, .seed = 3};
        const reference::Network net = reference::random_network(example);
        const FlossRun run = run_floss(alone(), Sums::float32, net, reference::random_sequences(example),
                                       {.spectrum = {.qr_interval = interval}, .through_state = false});
        double log_determinant = 0.0;
        for (std::size_t j = 0; j < 6; ++j) log_determinant += std::log(net.alpha[j] * net.beta[j]);
        const auto& lambda = run.penalty.spectrum.exponents;
        EXPECT_NEAR(std::accumulate(lambda.begin(), lambda.end(), 0.0), log_determinant, 2e-5);
    }
}

double log_determinant(std::vector<double> a, std::size_t N) {
    double sum = 0.0;
    for (std::size_t c = 0; c < N; ++c) {
        std::size_t pivot = c;
        for (std::size_t r = c + 1; r < N; ++r)
            if (std::fabs(a[r * N + c]) > std::fabs(a[pivot * N + c])) pivot = r;
        std::swap_ranges(a.begin() + c * N, a.begin() + (c + 1) * N, a.begin() + pivot * N);
        sum += std::log(std::fabs(a[c * N + c]));
        for (std::size_t r = c + 1; r < N; ++r)
            for (std::size_t j = N; j-- > c;) a[r * N + j] -= a[r * N + c] / a[c * N + c] * a[c * N + j];
    }
    return sum;
}

// Binary units: J = W_rec diag(psi).
TEST(Spectrum, FullSpectrumOfBinaryUnits) {
    const reference::Example example{
        .neurons = 6, .steps = 20, .exponents = 6, .reset = reference::Reset::none, .has_current = false, .seed = 4};
    reference::Network net = reference::random_network(example);
    std::fill(net.beta.begin(), net.beta.end(), 0.0);
    const reference::Sequences seq = reference::random_sequences(example);
    const reference::Trajectory trajectory = reference::forward(net, seq);
    double mean = 0.0;  // over the 20 steps of 2 sequences
    for (std::size_t j = 0; j < 20 * 2 * 6; ++j)
        mean += std::log(reference::psi(net.surrogate, trajectory.membrane[j] - net.threshold, net.sharpness)) / 40.0;
    const FlossRun run = run_floss(alone(), Sums::float32, net, seq, {.through_state = false});
    const auto& lambda = run.penalty.spectrum.exponents;
    EXPECT_NEAR(std::accumulate(lambda.begin(), lambda.end(), 0.0), log_determinant(net.w_rec, 6) + mean, 1e-4);
}

// 10 steps of warm-up and 50 counted ones, for any interval.
TEST(Spectrum, DoesNotDependOnTheQrInterval) {
    const reference::SpectrumOptions every_fifth{.qr_interval = 5, .warmup = 10};
    const Case c = clear_case(
        {.neurons = 6, .steps = 60, .exponents = 4, .reset = reference::Reset::subtract, .seed = 12}, &every_fifth);
    const FlossRun one = run_floss(alone(), Sums::float32, c.net, c.seq, {.spectrum = {.warmup = 10}});
    for (const Index interval : {2, 5}) {
        const FlossRun run = run_floss(alone(), Sums::float32, c.net, c.seq, {.spectrum = {interval, 10}});
        EXPECT_TRUE(all_near(run.lambda_per_sequence, one.lambda_per_sequence, 1e-4)) << "interval " << interval;
    }
}

// All exponents of networks with a reset to 0: a spike removes a direction. A measurement has the same leading
// exponents as without the others, and -infinite ones after them. Flossing of all of them is an error.
TEST(Spectrum, DirectionsThatSpikesTakeAwayAreMinusInfinite) {
    int lost_some = 0, compared = 0;
    for (std::uint64_t seed = 1; seed <= 12; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        reference::Example example{.neurons = 5, .steps = 8, .batch = 2, .exponents = 10, .gain = 0.5, .seed = seed};
        example.has_current = seed % 2 == 0;
        example.reset_delay = seed % 3 == 0 ? 0 : 1;
        if (!example.has_current) example.exponents = 5;
        const Index D = example.exponents;
        const reference::Network net = reference::random_network(example);
        const reference::Sequences seq = reference::random_sequences(example);
        const std::unique_ptr<Backend> backend = make_test_backend(1, Sums::float32);
        const Network network(*backend, alone(), host_network(net, alone()));
        const Buffer<float> x(*backend, host_batch(net, seq, {0, 2}).x);
        StatePass state(*backend, alone(), network, 8, 2);
        state.forward(network, x.data());
        const auto measure = [&](Index k, bool keep, bool whole) {
            reference::Sequences leading = seq;  // q0 [B, D, k]
            leading.exponents = k;
            leading.q0.clear();
            for (Index row = 0; row < 2 * D; ++row)
                leading.q0.insert(leading.q0.end(), seq.q0.begin() + row * D, seq.q0.begin() + row * D + k);
            const TangentOptions options{.exponents = k, .qr_interval = 1, .whole_passes = whole};
            TangentPass tangents(*backend, alone(), network, options, 8, 2, keep);
            tangents.forward(network, state, host_bases(net, leading, {0, 5}, {0, 2}), 0);
            return tangents.exponents();
        };
        // The most neurons that spike in a step of sequence s, or with reset_delay 1 and currents in it or before it.
        const reference::Trajectory tr = reference::forward(net, seq);
        const auto removed = [&](Index s) {
            const bool pairs = example.reset_delay == 1 && example.has_current;
            if (example.reset_delay == 0 && !example.has_current) return Index(0);
            Index most = 0;
            for (Index t = 0; t < 8; ++t) {
                Index count = 0;
                for (Index n = 0; n < 5; ++n)
                    count += tr.spikes[tr.row(t, s) + n] != 0.0 ||
                             (pairs && t > 0 && tr.spikes[tr.row(t - 1, s) + n] != 0.0);
                most = std::max(most, count);
            }
            return most;
        };
        const std::vector<double> all = measure(D, false, true);
        Index left = D;  // in both sequences
        for (Index s = 0; s < 2; ++s) {
            Index finite = 0;
            while (finite < D && std::isfinite(all[s * D + finite])) ++finite;
            EXPECT_LE(finite, D - removed(s));
            if (example.reset_delay == 0) {
                EXPECT_EQ(finite, D - removed(s));  // no weight is 0
            }
            for (Index j = finite; j < D; ++j) EXPECT_EQ(all[s * D + j], -HUGE_VAL);
            left = std::min(left, finite);
        }
        if (left == D) continue;
        EXPECT_EQ(measure(D, false, false), all);  // lost vectors are always left to the loop
        ++lost_some;
        if (left > 0) {
            const std::vector<double> leading = measure(left, true, true);  // throws if a direction is lost
            for (Index s = 0; s < 2; ++s)
                for (Index j = 0; j < left; ++j) {
                    // If less of a vector is left in a step, a float has its direction with a large error.
                    if (leading[s * left + j] < -1.0) break;
                    EXPECT_NEAR(all[s * D + j], leading[s * left + j], 1e-4);
                    ++compared;
                }
        }
        std::string text;
        try {
            measure(left + 1, true, true);
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Exit::numerics);
            text = error.what();
        }
        EXPECT_NE(text.find("-infinite, and flossing cannot change this"), std::string::npos) << text;
    }
    EXPECT_GE(lost_some, 4);
    EXPECT_GE(compared, 20);
}

// The derived quantities if some exponents are lost.
TEST(Spectrum, QuantitiesWithLostExponents) {
    const double lost = -HUGE_VAL;
    const Spectrum some{{0.5, 0.1, lost, lost}, {}, 1, 6}, all{{lost, lost}, {}, 1, 6}, none{{0.5, -0.1}, {}, 1, 6};
    EXPECT_EQ(kaplan_yorke(some).dimension, 2.0);
    EXPECT_FALSE(kaplan_yorke(some).is_bound);
    EXPECT_EQ(kaplan_yorke(all).dimension, 0.0);
    EXPECT_DOUBLE_EQ(entropy_rate(some), 0.6);
    EXPECT_EQ(entropy_rate(all), 0.0);
    EXPECT_EQ(log10_condition_number(some, 10), HUGE_VAL);
    EXPECT_EQ(log10_condition_number(all, 10), HUGE_VAL);
    EXPECT_EQ(lost_text(none.exponents), "");
    EXPECT_NE(lost_text(some.exponents).find("numbers 3 to 4 of the 4 exponents measured are -infinite"),
              std::string::npos);
    EXPECT_NE(lost_text({0.5, lost}).find("number 2 of the 2 exponents measured is -infinite"), std::string::npos);
}

Spectrum spectrum_of(std::vector<double> exponents, Index state_size) {
    Spectrum spectrum;
    spectrum.exponents = std::move(exponents);
    spectrum.state_size = state_size;
    return spectrum;
}

TEST(Spectrum, KaplanYorkeDimension) {
    struct Row {
        std::vector<double> exponents;
        Index state_size;
        double dimension;
        bool is_bound;
    };
    const std::vector<Row> rows = {
        {{-0.1, -0.2}, 5, 0.0, false},         // all negative
        {{0.3, -0.1, -0.4}, 5, 2.5, false},    // 2 + 0.2 / 0.4
        {{0.75, -0.25, -0.5}, 5, 3.0, true},   // exactly 0 with all measured exponents: at least 3
        {{0.75, -0.25, -0.5}, 3, 3.0, false},  // ... with all exponents of the network: exactly 3
        {{0.3, 0.1}, 5, 2.0, true},            // never below 0
        {{0.0, -1.0}, 2, 1.0, false},          // a zero exponent counts
        {{-0.4, 0.3, -0.1}, 5, 2.5, false},    // in any order
        {{0.5}, 1, 1.0, false},
    };
    for (const Row& row : rows) {
        const KaplanYorke found = kaplan_yorke(spectrum_of(row.exponents, row.state_size));
        EXPECT_NEAR(found.dimension, row.dimension, 1e-12);
        EXPECT_EQ(found.is_bound, row.is_bound) << row.dimension;
        EXPECT_NEAR(found.dimension, reference::kaplan_yorke_dimension(row.exponents), 1e-12);
    }
}

TEST(Spectrum, EntropyRateAndConditionNumber) {
    EXPECT_EQ(entropy_rate(spectrum_of({-0.1, -0.2}, 4)), 0.0);
    EXPECT_NEAR(entropy_rate(spectrum_of({0.25, 0.5, 0.0, -3.0}, 4)), 0.75, 1e-15);
    EXPECT_NEAR(log10_condition_number(spectrum_of({0.1, -0.2}, 4), 1000), 300.0 / std::log(10.0), 1e-10);
    EXPECT_EQ(log10_condition_number(spectrum_of({0.1}, 4), 1000), 0.0);
}

TEST(RandomBases, OrthonormalAndTheSameOnEveryGrid) {
    const Index N = 9, k = 5, B = 4;
    for (const bool has_current : {true, false}) {
        const Index D = has_current ? 18 : 9;
        const std::vector<float> whole = random_bases(3, k, N, 1 + has_current, {0, N}, {0, B});
        ASSERT_EQ(static_cast<Index>(whole.size()), B * k * D);
        for (Index s = 0; s < B; ++s)
            for (Index i = 0; i < k; ++i)
                for (Index j = 0; j < k; ++j) {
                    double dot = 0.0;
                    for (Index d = 0; d < D; ++d)
                        dot += static_cast<double>(whole[static_cast<std::size_t>((s * k + i) * D + d)]) *
                               whole[static_cast<std::size_t>((s * k + j) * D + d)];
                    EXPECT_NEAR(dot, i == j ? 1.0 : 0.0, 1e-6);
                }
        for (const Index P : {2, 4})
            for (const BlockRange neurons : block_ranges(N, P))
                for (const BlockRange sequences : block_ranges(B, 3)) {
                    const std::vector<float> part = random_bases(3, k, N, 1 + has_current, neurons, sequences);
                    std::size_t at = 0;
                    for (Index s = sequences.begin; s < sequences.end; ++s)
                        for (Index row = 0; row < k * D / N; ++row)
                            for (Index i = neurons.begin; i < neurons.end; ++i)
                                EXPECT_EQ(part.at(at++),
                                          whole[static_cast<std::size_t>((s * k * D / N + row) * N + i)]);
                    EXPECT_EQ(at, part.size());
                }
        EXPECT_NE(random_bases(4, k, N, 1 + has_current, {0, N}, {0, B}), whole);
        // Different sequences have different bases.
        EXPECT_FALSE(std::equal(whole.begin(), whole.begin() + k * D, whole.begin() + k * D));
    }
}

}  // namespace
}  // namespace spikefloss
