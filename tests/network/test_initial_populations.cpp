// Initial networks of populations: the same on every grid, with the synapses, signs and statistics of the settings.
#include "network/initialise.hpp"

#include "core/error.hpp"
#include "core/random.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace spikefloss {
namespace {

// A global array; NaN where there is no synapse.
struct Array {
    Index rows = 0, cols = 0;
    std::vector<double> values;
    double at(Index r, Index c) const { return values[static_cast<std::size_t>(r * cols + c)]; }
    bool operator==(const Array& other) const {
        return rows == other.rows && cols == other.cols && values.size() == other.values.size() &&
               std::equal(values.begin(), values.end(), other.values.begin(),
                          [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); });
    }
};
using Arrays = std::map<std::string, Array>;

// The parts of all shards put together, by the names of the file.
Arrays whole(InitialNetwork settings, Index shards, std::uint64_t seed = 11) {
    settings.seed = seed;
    Arrays all;
    std::map<std::string, Index> entries;
    for (Index shard = 0; shard < shards; ++shard) {
        const HostNetwork part = initial_network(settings, shards, shard);
        const HostNetwork plan = planned_network(settings, shards, shard);
        EXPECT_EQ(static_cast<Index>(part.values.size()), part.layout.size());
        EXPECT_EQ(plan.layout.size(), part.layout.size());
        const Topology& topology = part.layout.topology();
        for (const Segment& s : part.layout.segments()) {
            const bool sparse =
                s.projection >= 0 && topology.projections[static_cast<std::size_t>(s.projection)].sparse;
            Array& array = all[s.name];
            array.rows = s.global_rows, array.cols = s.global_cols;
            BlockRange target, source;
            if (sparse) {
                const Projection& p = topology.projections[static_cast<std::size_t>(s.projection)];
                target = topology.target_of(p), source = topology.source_of(p);
                array.rows = target.size(), array.cols = source.size();
            }
            array.values.resize(static_cast<std::size_t>(array.rows * array.cols), std::nan(""));
            if (!sparse) {
                for (Index r = 0; r < s.rows; ++r)
                    for (Index c = 0; c < s.cols; ++c)
                        array.values[static_cast<std::size_t>((s.row + r) * s.global_cols + s.col + c)] =
                            part.values[static_cast<std::size_t>(s.offset + r * s.stride + c)];
                continue;
            }
            const Synapses& own = part.layout.synapses(s.projection);
            const Index first = std::max<Index>(0, part.layout.neurons().begin - target.begin);
            if (own.count()) {
                EXPECT_EQ(own.first, entries[s.name]) << s.name << " shard " << shard;
            }
            entries[s.name] += own.count();
            for (Index r = 0; r + 1 < static_cast<Index>(own.row_begin.size()); ++r)
                for (Index e = own.row_begin[static_cast<std::size_t>(r)];
                     e < own.row_begin[static_cast<std::size_t>(r + 1)]; ++e) {
                    const Index c = own.column[static_cast<std::size_t>(e)];
                    double& value = array.values[static_cast<std::size_t>((first + r) * array.cols + c)];
                    EXPECT_TRUE(std::isnan(value)) << "the same synapse twice";
                    EXPECT_TRUE(e == own.row_begin[static_cast<std::size_t>(r)] ||
                                own.column[static_cast<std::size_t>(e - 1)] < c);
                    value = part.values[static_cast<std::size_t>(s.offset + e)];
                }
            if (shard == shards - 1) {
                EXPECT_EQ(topology.projections[static_cast<std::size_t>(s.projection)].synapses, entries[s.name]);
            }
        }
    }
    return all;
}

std::vector<double> row_of(const Array& array, Index row) {
    std::vector<double> there;
    for (Index c = 0; c < array.cols; ++c)
        if (!std::isnan(array.at(row, c))) there.push_back(array.at(row, c));
    return there;
}

// E and I with every kind of connectivity; the names say which.
InitialNetwork two_populations(Index E = 40, Index I = 11, Index M = 9) {
    InitialNetwork s;
    s.shape = {E + I, M, 2};
    s.plain = false;
    s.populations = {{.name = "exc", .neurons = E}, {.name = "inh", .neurons = I}};
    s.projections = {{.name = "dense"},
                     {.name = "fixed", .source = 0, .target = 0, .in_degree = 7, .autapses = false},
                     {.name = "pairs", .source = 1, .target = 0, .delay = 3, .sign = Sign::inhibitory, .density = 0.3},
                     {.name = "again", .source = 1, .target = 0, .density = 0.3},
                     {.name = "all", .source = 0, .target = 1, .sign = Sign::excitatory, .sparse = true},
                     {.name = "own", .source = 1, .target = 1, .init = WeightInit::orthogonal}};
    return s;
}

TEST(InitialPopulations, TheSameOnEveryGrid) {
    InitialNetwork settings = two_populations();
    settings.readout_from = 1;
    settings.thresholds = true;
    settings.model.neuron.adaptation = Adaptation::threshold;
    settings.populations[1].threshold = 2.0, settings.populations[1].tau_mem_spread = 0.3;
    settings.populations[0].adapt_spike = 0.25, settings.populations[0].adapt_membrane = -0.5;
    settings.populations[1].tau_adapt = 50.0;
    const Arrays one = whole(settings, 1);
    for (const Index shards : {2, 3, 51}) {
        const Arrays more = whole(settings, shards);
        ASSERT_EQ(more.size(), one.size());
        for (const auto& [name, array] : one) EXPECT_TRUE(more.at(name) == array) << name << ' ' << shards;
    }
    EXPECT_FALSE(whole(settings, 1, 12).at("projections/fixed") == one.at("projections/fixed"));
    EXPECT_FALSE(one.at("projections/pairs") == one.at("projections/again"));
    EXPECT_EQ(one.at("w_out").cols, 11);
    EXPECT_EQ(one.at("threshold").at(0, 39), 1.0);
    EXPECT_EQ(one.at("threshold").at(0, 40), 2.0);
    EXPECT_EQ(one.at("adapt_spike").at(0, 39), 0.25);
    EXPECT_EQ(one.at("adapt_membrane").at(0, 39), -0.5);
    EXPECT_EQ(one.at("adapt_spike").at(0, 40), 0.0);
    EXPECT_NEAR(one.at("rho").at(0, 39), std::exp(-1.0 / 200.0), 1e-7);
    EXPECT_NEAR(one.at("rho").at(0, 40), std::exp(-1.0 / 50.0), 1e-7);
}

TEST(InitialPopulations, OneDensePopulationIsThePlainForm) {
    InitialNetwork plain;
    plain.shape = {13, 3, 2};
    InitialNetwork settings = plain;
    settings.plain = false;
    const Arrays all = whole(settings, 2), matrices = whole(plain, 1);
    EXPECT_TRUE(all.at("projections/w_in") == matrices.at("w_in"));
    EXPECT_TRUE(all.at("projections/w_rec") == matrices.at("w_rec"));
    for (const char* name : {"bias", "alpha", "w_out"}) EXPECT_TRUE(all.at(name) == matrices.at(name)) << name;
    // Stored as sparse: the same numbers.
    settings.projections[1].sparse = true;
    EXPECT_TRUE(whole(settings, 3).at("projections/w_rec") == matrices.at("w_rec"));
}

TEST(InitialPopulations, DegreesAndSigns) {
    const Arrays all = whole(two_populations(), 2);
    const Array &fixed = all.at("projections/fixed"), &every = all.at("projections/all");
    for (Index r = 0; r < 40; ++r) {
        EXPECT_EQ(row_of(fixed, r).size(), 7u);
        EXPECT_TRUE(std::isnan(fixed.at(r, r))) << "an autapse";
        for (const double w : row_of(all.at("projections/pairs"), r)) EXPECT_LE(w, 0.0);
    }
    for (Index r = 0; r < 11; ++r) {
        EXPECT_EQ(row_of(every, r).size(), 40u);
        for (const double w : row_of(every, r)) EXPECT_GE(w, 0.0);
    }
}

// Each set of sources is equally probable: the number of targets of each source, and of each pair of sources, are those
// of independent draws. Bounds at 5 standard errors.
TEST(InitialPopulations, SourcesAreUniform) {
    const Index N = 4000, K = 6, n = 13;
    for (const bool binomial : {false, true}) {
        InitialNetwork s;
        s.shape = {N + n, 1, 1};
        s.plain = false;
        s.populations = {{.name = "many", .neurons = N}, {.name = "few", .neurons = n}};
        s.projections = {{.name = "x", .source = 1, .target = 0}};
        const double p = static_cast<double>(K) / static_cast<double>(n);
        (binomial ? s.projections[0].density : s.projections[0].weight_mean) = p;
        if (!binomial) s.projections[0].in_degree = K;
        const Array x = whole(s, 1).at("projections/x");
        const double pair = binomial ? p * p : p * static_cast<double>(K - 1) / static_cast<double>(n - 1);
        double total = 0.0, squares = 0.0;
        for (Index a = 0; a < n; ++a)
            for (Index b = a; b < n; ++b) {
                double both = 0.0;
                for (Index r = 0; r < N; ++r) both += !std::isnan(x.at(r, a)) && !std::isnan(x.at(r, b));
                const double q = a == b ? p : pair;
                EXPECT_NEAR(both, q * N, 5.0 * std::sqrt(q * (1.0 - q) * N)) << a << ' ' << b;
            }
        for (Index r = 0; r < N; ++r) {
            const auto degree = static_cast<double>(row_of(x, r).size());
            total += degree, squares += degree * degree;
        }
        const double variance = squares / N - total / N * total / N, wish = binomial ? n * p * (1.0 - p) : 0.0;
        EXPECT_NEAR(variance, wish, 5.0 * wish * std::sqrt(2.0 / N));
    }
}

TEST(InitialPopulations, BalancedWeights) {
    InitialNetwork s = two_populations(100, 25, 60);
    const auto balanced = [](const char* name, Index source, Index target, Sign sign, Index K, double gain) {
        InitialProjection p;
        p.name = name, p.source = source, p.target = target, p.sign = sign, p.in_degree = K, p.gain = gain;
        p.init = WeightInit::balanced;
        return p;
    };
    s.projections = {balanced("x", from_input, 0, Sign::excitatory, 50, 1.5),
                     balanced("ee", 0, 0, Sign::excitatory, 64, 1.0), balanced("ei", 1, 0, Sign::inhibitory, 16, 5.0),
                     balanced("xi", from_input, 1, Sign::excitatory, 25, 1.5)};
    const Arrays all = whole(s, 2);
    const std::pair<const char*, double> wishes[] = {
        {"x", 1.5 / 8.0}, {"ee", 1.0 / 8.0}, {"ei", -5.0 / 8.0}, {"xi", 1.5 / 5.0}};
    for (const auto& [name, weight] : wishes)
        for (const double w : row_of(all.at(std::string("projections/") + name), 3)) EXPECT_NEAR(w, weight, 1e-7);
}

// Runs the membranes of population 0, which never spike, on spikes of all its sources with the expected rates.
struct Fluctuation {
    double mean = 0.0, deviation = 0.0;
};
Fluctuation measured(const InitialNetwork& settings, Index steps) {
    const Arrays all = whole(settings, 1);
    const InitialPopulation& target = settings.populations[0];
    const double alpha = std::exp(-1.0 / target.tau_syn), beta = std::exp(-1.0 / target.tau_mem);
    const auto n = static_cast<std::size_t>(target.neurons);
    std::vector<double> i(n), u(n), sum(n), squares(n);
    const Index skip = 200;
    // Of each projection and source: targets and weights.
    std::vector<std::vector<std::vector<std::pair<std::size_t, double>>>> out;
    for (const InitialProjection& projection : settings.projections) {
        const Array& w = all.at("projections/" + projection.name);
        auto& sources = out.emplace_back(static_cast<std::size_t>(w.cols));
        for (Index c = 0; c < w.cols; ++c)
            for (Index r = 0; r < w.rows; ++r)
                if (!std::isnan(w.at(r, c)))
                    sources[static_cast<std::size_t>(c)].emplace_back(static_cast<std::size_t>(r), w.at(r, c));
    }
    for (Index t = 0; t < steps + skip; ++t) {
        for (double& value : i) value *= alpha;
        for (std::size_t p = 0; p < out.size(); ++p)
            for (std::size_t c = 0; c < out[p].size(); ++c) {
                const auto words = random_words(5, Stream::test, static_cast<std::uint32_t>(t),
                                                static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(p), 0);
                if (uniform(words[0]) >= settings.projections[p].rate) continue;
                for (const auto& [row, weight] : out[p][c]) i[row] += weight;
            }
        for (std::size_t r = 0; r < n; ++r) {
            u[r] = beta * u[r] + (1.0 - beta) * i[r];
            if (t >= skip) sum[r] += u[r], squares[r] += u[r] * u[r];
        }
    }
    Fluctuation result;
    double variance = 0.0;
    const auto T = static_cast<double>(steps);
    for (std::size_t r = 0; r < n; ++r) {
        result.mean += sum[r] / T / static_cast<double>(n);
        variance += (squares[r] / T - sum[r] / T * sum[r] / T) / static_cast<double>(n);
    }
    result.deviation = std::sqrt(variance);
    return result;
}

TEST(InitialPopulations, FluctuationsAreThoseAskedFor) {
    InitialNetwork s;
    s.plain = false;
    s.populations = {{.name = "exc", .neurons = 500, .tau_syn = 5.0, .tau_mem = 20.0},
                     {.name = "inh", .neurons = 500, .tau_syn = 5.0, .tau_mem = 20.0}};
    s.shape = {1000, 400, 1};
    const auto add = [&](const char* name, Index source, Index degree, double rate, Sign sign) {
        InitialProjection p;
        p.name = name, p.source = source, p.in_degree = degree, p.rate = rate, p.sign = sign;
        p.init = WeightInit::fluctuation;
        s.projections.push_back(p);
    };
    // Weights of any sign, with a mean.
    s.projections.clear();
    add("x", from_input, 200, 0.02, Sign::any);
    add("r", 0, 300, 0.01, Sign::any);
    s.populations[0].threshold = 1.5, s.populations[0].fluctuation_mean = 0.3, s.populations[0].fluctuation_xi = 2.0;
    Fluctuation f = measured(s, 4000);
    EXPECT_NEAR(f.mean, 0.3, 0.13);  // 5 standard errors: the means of single neurons differ
    EXPECT_NEAR(f.deviation, 0.6, 0.005 * 0.6);
    // The mean over 10 networks at low rates, where they differ less.
    for (InitialProjection& p : s.projections) p.rate *= 0.02;
    double mean = 0.0;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const Arrays all = whole(s, 1, seed);
        for (const InitialProjection& p : s.projections)
            for (const double w : all.at("projections/" + p.name).values)
                if (!std::isnan(w)) mean += p.rate * w / (1.0 - std::exp(-1.0 / 5.0)) / 500.0 / 10.0;
    }
    EXPECT_NEAR(mean, 0.3, 0.005 * 1.5);
    // Dale's law.
    s.projections.clear();
    add("x", from_input, 200, 0.02, Sign::excitatory);
    add("e", 0, 300, 0.01, Sign::excitatory);
    add("i", 1, 100, 0.03, Sign::inhibitory);
    s.populations[0].fluctuation_mean = 0.0;
    f = measured(s, 4000);
    EXPECT_NEAR(f.mean, 0.0, 0.13);  // 5 standard errors
    EXPECT_NEAR(f.deviation, 0.75, 0.005 * 0.75);
    for (const char* name : {"x", "e", "i"})
        for (const double w : row_of(whole(s, 1).at(std::string("projections/") + name), 0))
            EXPECT_TRUE(name[0] == 'i' ? w <= 0.0 : w >= 0.0);
}

TEST(InitialPopulations, WhatCannotBeMadeIsAnError) {
    const auto error = [](const InitialNetwork& settings) -> std::string {
        try {
            initial_network(settings, 1, 0);
        } catch (const Error& fault) {
            EXPECT_EQ(fault.code(), Exit::usage);
            return fault.what();
        }
        return "";
    };
    InitialNetwork s = two_populations();
    EXPECT_EQ(error(s), "");
    s.projections[0].in_degree = 10;
    EXPECT_NE(error(s).find("projection.dense.in_degree = 10 is more than the 9 inputs"), std::string::npos);
    s = two_populations();
    for (InitialProjection& p : s.projections) p.init = WeightInit::fluctuation, p.sign = Sign::any;
    s.populations[0].fluctuation_mean = 0.99;
    EXPECT_NE(error(s).find("no weights of projection dense give the membrane of exc"), std::string::npos);
}

}  // namespace
}  // namespace spikefloss
