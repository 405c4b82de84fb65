// Initial networks: the same on every grid, orthogonal if requested, with the statistics of the settings.
#include "network/initialise.hpp"

#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace spikefloss {
namespace {

using namespace testing_support;

InitialNetwork settings_of(Index N, Index M = 3, Index O = 2) {
    InitialNetwork settings;
    settings.shape = {N, M, O};
    return settings;
}

// The parts of all shards put together as global arrays, in double.
reference::Parameters whole(InitialNetwork settings, std::uint64_t seed, Index shards) {
    settings.seed = seed;
    reference::Parameters all;
    for (Index shard = 0; shard < shards; ++shard) {
        const HostNetwork part = initial_network(settings, shards, shard);
        EXPECT_EQ(static_cast<Index>(part.values.size()), part.layout.size());
        for (const Segment& s : part.layout.segments())
            for (const auto& [name, member] : reference::all_parameters) {
                if (name != name_of(s.parameter)) continue;
                auto& global = all.*member;
                global.resize(static_cast<std::size_t>(s.global_rows * s.global_cols));
                for (Index r = 0; r < s.rows; ++r)
                    for (Index c = 0; c < s.cols; ++c)
                        global[static_cast<std::size_t>((s.row + r) * s.global_cols + s.col + c)] =
                            part.values[static_cast<std::size_t>(s.offset + r * s.cols + c)];
            }
    }
    return all;
}

struct Moments {
    double mean = 0.0, deviation = 0.0;
};
Moments moments(const std::vector<double>& x) {
    Moments m;
    for (double v : x) m.mean += v / static_cast<double>(x.size());
    for (double v : x) m.deviation += (v - m.mean) * (v - m.mean) / static_cast<double>(x.size());
    m.deviation = std::sqrt(m.deviation);
    return m;
}

TEST(InitialNetwork, DoesNotDependOnTheGrid) {
    for (const WeightInit init : {WeightInit::gaussian, WeightInit::orthogonal})
        for (const bool zero_row_sums : {false, true}) {
            InitialNetwork settings = settings_of(13);
            settings.projections[1].init = init;
            settings.projections[1].zero_row_sums = zero_row_sums;
            settings.populations[0].bias_mean = 0.2, settings.populations[0].bias_std = 0.1, settings.tau_out = 3.0;
            settings.populations[0].tau_syn_spread = settings.populations[0].tau_mem_spread = 0.4;
            const auto one = whole(settings, 42, 1);
            for (const Index shards : {2, 5, 13}) expect_gradients_equal(whole(settings, 42, shards), one);
        }
}

TEST(InitialNetwork, ChangesWithTheSeedAndParametersAreIndependent) {
    const auto one = whole(settings_of(40, 40, 40), 1, 1), two = whole(settings_of(40, 40, 40), 2, 1);
    EXPECT_GT(relative_error(one.w_rec, two.w_rec), 1.0);
    // Correlation of two independent sets of 1600 numbers; 1/40 is one standard deviation.
    const auto correlation = [](const std::vector<double>& a, const std::vector<double>& b) {
        double ab = 0.0, aa = 0.0, bb = 0.0;
        for (std::size_t j = 0; j < a.size(); ++j) ab += a[j] * b[j], aa += a[j] * a[j], bb += b[j] * b[j];
        return std::fabs(ab / std::sqrt(aa * bb));
    };
    EXPECT_LT(correlation(one.w_rec, one.w_in), 0.1);
    EXPECT_LT(correlation(one.w_rec, one.w_out), 0.1);
    EXPECT_LT(correlation(one.w_rec, two.w_rec), 0.1);
}

// Bounds at 5 standard errors.
TEST(InitialNetwork, GaussianStatistics) {
    InitialNetwork settings = settings_of(200, 50, 20);
    settings.projections[1].gain = 1.5, settings.projections[0].gain = 2.0, settings.readout_gain = 0.5;
    settings.populations[0].bias_mean = 0.3, settings.populations[0].bias_std = 0.2;
    const auto net = whole(settings, 7, 1);
    const auto expect = [](const std::vector<double>& x, double mean, double deviation, const char* name) {
        const double root = std::sqrt(static_cast<double>(x.size()));
        const Moments m = moments(x);
        EXPECT_NEAR(m.mean, mean, 5.0 * deviation / root) << name;
        EXPECT_NEAR(m.deviation, deviation, 5.0 * deviation / root / std::sqrt(2.0)) << name;
        double fourth = 0.0;  // of a normal distribution: 3
        for (double v : x) fourth += std::pow((v - m.mean) / m.deviation, 4) / static_cast<double>(x.size());
        EXPECT_NEAR(fourth, 3.0, 5.0 * std::sqrt(24.0) / root) << name;
    };
    expect(net.w_rec, 0.0, 1.5 / std::sqrt(200.0), "w_rec");
    expect(net.w_in, 0.0, 2.0 / std::sqrt(50.0), "w_in");
    expect(net.w_out, 0.0, 0.5 / std::sqrt(200.0), "w_out");
    expect(net.bias, 0.3, 0.2, "bias");
    EXPECT_EQ(net.bias_out, std::vector<double>(20, 0.0));
    EXPECT_EQ(net.initial_current, std::vector<double>(200, 0.0));
    EXPECT_EQ(net.initial_membrane, std::vector<double>(200, 0.0));
}

TEST(InitialNetwork, OrthogonalTimesGain) {
    const Index N = 61;
    InitialNetwork settings = settings_of(N);
    settings.projections[1].init = WeightInit::orthogonal;
    settings.projections[1].gain = 1.5;
    const auto w = whole(settings, 3, 4).w_rec;
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j) {
            double dot = 0.0;
            for (Index l = 0; l < N; ++l)
                dot += w[static_cast<std::size_t>(i * N + l)] * w[static_cast<std::size_t>(j * N + l)];
            EXPECT_NEAR(dot, i == j ? 2.25 : 0.0, 1e-6);
        }
    // Haar measure: Q of the Gaussian matrix of the same seed, with the signs that make R = Q'A positive on the
    // diagonal.
    settings.projections[1].init = WeightInit::gaussian;
    const auto a = whole(settings, 3, 1).w_rec;
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j <= i; ++j) {
            double r = 0.0;
            for (Index l = 0; l < N; ++l)
                r += w[static_cast<std::size_t>(l * N + i)] * a[static_cast<std::size_t>(l * N + j)];
            if (i == j) {
                EXPECT_GT(r, 0.0);
            } else {
                EXPECT_NEAR(r, 0.0, 2e-6);
            }
        }
}

TEST(InitialNetwork, ZeroRowSums) {
    for (const WeightInit init : {WeightInit::gaussian, WeightInit::orthogonal}) {
        const Index N = 30;
        InitialNetwork settings = settings_of(N);
        settings.projections[1].init = init;
        settings.projections[1].zero_row_sums = true;
        const auto w = whole(settings, 3, 3).w_rec;
        for (Index i = 0; i < N; ++i) {
            double sum = 0.0;
            for (Index j = 0; j < N; ++j) sum += w[static_cast<std::size_t>(i * N + j)];
            EXPECT_NEAR(sum, 0.0, 1e-6);
        }
        EXPECT_GT(moments(w).deviation, 0.1);
    }
}

TEST(InitialNetwork, WeightStepMakesWeightsDyadic) {
    InitialNetwork settings = settings_of(20);
    settings.populations[0].bias_std = 0.3;
    const auto exact = whole(settings, 3, 1);
    settings.weight_step = 0x1p-10;
    const auto rounded = whole(settings, 3, 1);
    for (const auto member : {&reference::Parameters::w_in, &reference::Parameters::w_rec,
                              &reference::Parameters::w_out, &reference::Parameters::bias}) {
        for (double w : rounded.*member) EXPECT_EQ(w * 1024.0, std::round(w * 1024.0));
        EXPECT_TRUE(all_near(rounded.*member, exact.*member, 0x1p-11 + 1e-7));
    }
}

TEST(InitialNetwork, DecayFactorsFromTimeConstants) {
    InitialNetwork settings = settings_of(500);
    settings.populations[0].tau_syn = 5.0, settings.populations[0].tau_mem = 10.0, settings.tau_out = 20.0;
    auto net = whole(settings, 3, 1);
    EXPECT_TRUE(all_near(net.alpha, std::vector<double>(500, std::exp(-1.0 / 5.0)), 1e-7));
    EXPECT_TRUE(all_near(net.beta, std::vector<double>(500, std::exp(-1.0 / 10.0)), 1e-7));
    EXPECT_TRUE(all_near(net.kappa, std::vector<double>(2, std::exp(-1.0 / 20.0)), 1e-7));
    settings.populations[0].tau_syn = settings.tau_out = 0.0;
    settings.populations[0].tau_mem_spread = 0.5;
    net = whole(settings, 3, 1);
    EXPECT_EQ(net.alpha, std::vector<double>(500, 0.0));
    EXPECT_EQ(net.kappa, std::vector<double>(2, 0.0));
    std::vector<double> tau;  // uniform between 5 and 15
    for (double beta : net.beta) tau.push_back(-1.0 / std::log(beta));
    const auto [low, high] = std::minmax_element(tau.begin(), tau.end());
    EXPECT_GE(*low, 5.0 - 1e-4);
    EXPECT_LE(*high, 15.0 + 1e-4);
    EXPECT_LT(*low, 5.3);
    EXPECT_GT(*high, 14.7);
    EXPECT_NEAR(moments(tau).mean, 10.0, 5.0 * 10.0 / std::sqrt(12.0 * 500.0));
    EXPECT_EQ(std::set<double>(tau.begin(), tau.end()).size(), 500u);
}

}  // namespace
}  // namespace spikefloss
