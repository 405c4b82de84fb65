// The cases that a test with many cases runs. SPIKEFLOSS_TESTS=all, or unset: every case. quick: a subset with every
// value of every factor, and every pair of values of two factors, that occurs in all cases. A factor is a property that
// varies: a size, a reset, a surrogate. The subset is computed, and is the same on every machine and rank.
#pragma once

#include <cstdlib>
#include <set>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace spikefloss::testing_support {

// The value of each factor of one case.
using Factors = std::vector<long long>;
// A pair of values: factor, value, later factor, value. A factor paired with itself means a single value.
using FactorPair = std::tuple<std::size_t, long long, std::size_t, long long>;

inline std::set<FactorPair> pairs_of(const Factors& factors) {
    std::set<FactorPair> pairs;
    for (std::size_t i = 0; i < factors.size(); ++i)
        for (std::size_t j = i; j < factors.size(); ++j) pairs.insert({i, factors[i], j, factors[j]});
    return pairs;
}

// Indices, ascending, of cases that together have every pair. The loop always takes the first case with the most pairs
// that are still missing.
inline std::vector<std::size_t> covering_subset(const std::vector<Factors>& cases) {
    std::vector<std::set<FactorPair>> missing;  // of each case
    for (const Factors& factors : cases) missing.push_back(pairs_of(factors));
    std::set<std::size_t> taken;
    while (true) {
        std::size_t best = 0;
        for (std::size_t at = 0; at < cases.size(); ++at)
            if (missing[at].size() > missing[best].size()) best = at;
        if (cases.empty() || missing[best].empty()) break;
        taken.insert(best);
        const std::set<FactorPair> found = missing[best];
        for (std::set<FactorPair>& pairs : missing)
            for (const FactorPair& pair : found) pairs.erase(pair);
    }
    return {taken.begin(), taken.end()};
}

inline bool quick_asked() {
    const char* value = std::getenv("SPIKEFLOSS_TESTS");
    const std::string asked = value ? value : "all";
    if (asked != "quick" && asked != "all")
        throw std::runtime_error("SPIKEFLOSS_TESTS is \"" + asked + "\" but must be quick or all");
    return asked == "quick";
}

// The covering subset of `all`; factors(case) has the value of each factor.
template <class Case, class FactorsOf>
std::vector<Case> few_of(const std::vector<Case>& all, FactorsOf&& factors) {
    std::vector<Factors> values;
    for (const Case& c : all) values.push_back(factors(c));
    std::vector<Case> chosen;
    for (std::size_t at : covering_subset(values)) chosen.push_back(all[at]);
    return chosen;
}

// As chosen by SPIKEFLOSS_TESTS.
template <class Case, class FactorsOf>
std::vector<Case> chosen_of(const std::vector<Case>& all, FactorsOf&& factors) {
    return quick_asked() ? few_of(all, factors) : all;
}

// Whether `few` has the same pairs of values of two factors as `all`, counted for each pair of factors.
template <class Case, class FactorsOf>
bool covers_every_pair(const std::vector<Case>& few, const std::vector<Case>& all, FactorsOf&& factors) {
    const auto together = [&](const std::vector<Case>& cases, std::size_t i, std::size_t j) {
        std::set<std::pair<long long, long long>> values;
        for (const Case& c : cases) values.insert({factors(c)[i], factors(c)[j]});
        return values;
    };
    for (std::size_t i = 0; i < factors(all.at(0)).size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (together(few, i, j) != together(all, i, j)) return false;
    return true;
}

}  // namespace spikefloss::testing_support
