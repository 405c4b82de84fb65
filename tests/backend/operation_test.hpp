// Common code of the operation tests: a fixture over the available backends, input values, neurons with planted corner
// cases, and copies from backend memory. All arrays are in backend memory, so that the guard words around each array
// are checked when it is freed.
#pragma once

#include "backend/backends.hpp"
#include "backend/buffer.hpp"
#include "backend/shapes.hpp"
#include "core/random.hpp"
#include "reference/lyapunov.hpp"
#include "reference/surrogate.hpp"
#include "support/near.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <ostream>
#include <vector>

namespace spikefloss::testing_support {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

inline constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
inline constexpr std::array all_surrogates = {Surrogate::fast_sigmoid, Surrogate::arctan,   Surrogate::sigmoid,
                                              Surrogate::gaussian,     Surrogate::triangle, Surrogate::exponential};
using ResetRule = reference::ResetRuleOf<Reset>;
inline constexpr auto& all_reset_rules = reference::reset_rules_of<Reset>;

// Normal numbers times scale. Most tests ask for the first of the same few seeds again and again, so these are kept.
inline Floats random_floats(Index count, std::uint64_t seed, double scale = 1.0) {
    constexpr std::size_t most_kept = 1 << 18;
    thread_local std::map<std::uint64_t, Doubles> of_seeds;
    Doubles& kept = of_seeds[seed];
    const auto compute = [seed](std::size_t i) {
        return normal(seed, Stream::test, static_cast<std::uint32_t>(i), 0, 0);
    };
    Floats values(static_cast<std::size_t>(count));
    while (kept.size() < std::min(values.size(), most_kept)) kept.push_back(compute(kept.size()));
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(scale * (i < kept.size() ? kept[i] : compute(i)));
    return values;
}

// Uniform in (low, high).
inline Floats uniform_floats(Index count, std::uint64_t seed, double low, double high) {
    Floats values(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i)
        values[static_cast<std::size_t>(i)] = static_cast<float>(
            low + (high - low) * uniform(random_words(seed, Stream::test, static_cast<std::uint32_t>(i), 1, 0, 0)[0]));
    return values;
}

// Multiples of 2^-10 in [-2, 2): sums of their products are exact in double.
inline Floats dyadic_floats(Index count, std::uint64_t seed) {
    Floats values(static_cast<std::size_t>(count));
    for (Index i = 0; i < count; ++i) {
        const auto word = random_words(seed, Stream::test, static_cast<std::uint32_t>(i), 2, 0, 0)[0];
        values[static_cast<std::size_t>(i)] = (static_cast<float>(word % 4096u) - 2048.0f) * 0x1p-10f;
    }
    return values;
}

inline Doubles widened(const Floats& values) { return {values.begin(), values.end()}; }

// Every |actual - expected| <= tolerance (1 + |expected|); reports the first violation. NaN never passes.
template <class A>
testing::AssertionResult close_to(const A& actual, const Doubles& expected, double tolerance) {
    if (actual.size() != expected.size())
        return testing::AssertionFailure() << actual.size() << " elements where " << expected.size() << " are expected";
    for (std::size_t i = 0; i < expected.size(); ++i)
        if (!(std::abs(static_cast<double>(actual[i]) - expected[i]) <= tolerance * (1.0 + std::abs(expected[i]))))
            return testing::AssertionFailure() << "element " << i << " is " << actual[i] << " where " << expected[i]
                                               << " is expected, allowed " << tolerance;
    return testing::AssertionSuccess();
}

// The sum over i of a[i] b[i].
template <class A, class B>
double dot(const A& a, const B& b) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    return sum;
}

inline reference::Surrogate to_reference(Surrogate surrogate) {
    return static_cast<reference::Surrogate>(static_cast<int>(surrogate));
}

// What neurons may have beyond the model.
struct Extras {
    Adaptation adaptation = Adaptation::none;
    bool own_thresholds = false;
    Index refractory = 0;  // steps
    friend std::ostream& operator<<(std::ostream& out, const Extras& extras) {
        return out << "adaptation " << name_of(extras.adaptation) << (extras.own_thresholds ? ", own thresholds" : "")
                   << ", refractory " << extras.refractory;
    }
};
inline constexpr Extras all_extras[] = {{},
                                        {Adaptation::none, true, 0},
                                        {Adaptation::none, false, 1},
                                        {Adaptation::threshold, false, 0},
                                        {Adaptation::threshold, true, 2},
                                        {Adaptation::current, false, 0},
                                        {Adaptation::current, true, 1}};

// Every combination of every extra would take minutes: whether one with this surrogate is left out.
inline bool left_out(const Extras& extras, Surrogate surrogate) {
    return &extras != all_extras && surrogate != Surrogate::fast_sigmoid && surrogate != Surrogate::exponential;
}
// ... at the large size. There neurons with extras are tested in few combinations.
inline bool takes_long(Index n, const Extras& extras) { return n > 1000 && &extras != all_extras; }

// Constants and state of b x n neurons. Some membranes are exactly at threshold (no spike), some just above it, some
// far away. The first alpha is 0, the last beta is 0.
struct Neurons {
    NeuronModel model;
    Floats alpha, beta, bias, u;
    Floats threshold, rho, adapt_membrane, adapt_spike, w;  // empty without
    Index refractory = 0;
    std::vector<std::uint32_t> spikes;  // [refractory][b, spike_words(n)], those of the last step last

    Neurons(NeuronModel model_, Index b, Index n, std::uint64_t seed = 1, const Extras& extras = {})
        : model(model_),
          alpha(uniform_floats(n, seed + 1, 0.05, 0.95)),
          beta(uniform_floats(n, seed + 2, 0.05, 0.95)),
          bias(random_floats(n, seed + 3)),
          u(random_floats(b * n, seed + 4, 1.5)),
          refractory(extras.refractory) {
        model.adaptation = extras.adaptation;
        if (n > 1) alpha.front() = beta.back() = 0.0f;
        if (extras.own_thresholds) threshold = uniform_floats(n, seed + 5, 0.3, 1.1);
        if (adapts()) {
            rho = uniform_floats(n, seed + 6, 0.05, 0.95);
            adapt_membrane = random_floats(n, seed + 7, 0.5);
            adapt_spike = random_floats(n, seed + 8, 0.5);
            w = random_floats(b * n, seed + 9, 0.5);
        }
        for (Index at = 0; at < refractory * b * spike_words(n); ++at) {
            const Index first = at % std::max<Index>(1, spike_words(n)) * 32;
            const std::uint32_t used = n - first < 32 ? (1u << (n - first)) - 1u : ~0u;
            const auto random = random_words(seed, Stream::test, static_cast<std::uint32_t>(at), 3, 0, 0);
            spikes.push_back(random[0] & random[1] & used);
        }
        for (std::size_t i = 0; i < 5 && 7 * i < u.size(); ++i) {
            const float A = threshold_of(static_cast<Index>(7 * i));
            const float planted[] = {A, std::nextafter(A, 10.0f), std::nextafter(A, -10.0f), 30.0f, -30.0f};
            u[7 * i] = planted[i];
        }
    }

    bool adapts() const { return model.adaptation != Adaptation::none; }
    Index n() const { return static_cast<Index>(alpha.size()); }
    float theta(Index at) const { return threshold.empty() ? model.threshold : threshold[at % n()]; }
    // A
    float threshold_of(Index at) const {
        return model.adaptation == Adaptation::threshold ? theta(at) + w[at] : theta(at);
    }
    double m(Index at) const {
        if (refractory == 0) return 1.0;
        const Index words = spike_words(n()), rows = static_cast<Index>(u.size()) / n(), j = at % n();
        for (Index l = 0; l < refractory; ++l)
            if (spikes[(l * rows + at / n()) * words + j / 32] >> (j % 32) & 1u) return 0.0;
        return 1.0;
    }
    double spike(Index at) const { return u[at] > threshold_of(at) ? m(at) : 0.0; }
    // c = dR/dv of the reset R, and its places in u[t+1] = f (beta q u[t] + ...).
    double reset_factor(Index at) const { return model.reset == Reset::zero ? 1.0 - spike(at) : 1.0; }
    double f(double c) const { return model.reset_delay == 0 ? 1.0 : c; }
    double q(double c) const { return model.reset_delay == 0 ? c : 1.0; }
    double after_reset(Index at, double v) const {
        if (model.reset == Reset::zero) return v * (1.0 - spike(at));
        return model.reset == Reset::subtract ? v - theta(at) * spike(at) : v;
    }
    // The membrane that beta multiplies.
    double leaking(Index at) const { return model.reset_delay == 0 ? after_reset(at, u[at]) : u[at]; }
    double psi(Index at) const {
        return m(at) * reference::psi(to_reference(model.surrogate), double(u[at]) - threshold_of(at), model.sharpness);
    }
    double slope(Index at) const {
        return m(at) * reference::psi_derivative(to_reference(model.surrogate), double(u[at]) - threshold_of(at),
                                                 model.sharpness);
    }
};

// Constants and state in backend memory.
struct Constants {
    Buffer<float> alpha, beta, bias, threshold, rho, adapt_membrane, adapt_spike, u, w;
    Buffer<std::uint32_t> spikes;
    Index words, step_words, refractory;  // words of a row and of a step
    Constants(Backend& backend, const Neurons& net)
        : alpha(backend, net.alpha),
          beta(backend, net.beta),
          bias(backend, net.bias),
          threshold(backend, net.threshold),
          rho(backend, net.rho),
          adapt_membrane(backend, net.adapt_membrane),
          adapt_spike(backend, net.adapt_spike),
          u(backend, net.u),
          w(backend, net.w),
          spikes(backend, net.spikes),
          words(spike_words(net.n())),
          step_words(net.n() > 0 ? static_cast<Index>(net.u.size()) / net.n() * words : 0),
          refractory(net.refractory) {}
    operator NeuronVectors() const {
        const auto given = [](const Buffer<float>& buffer) { return buffer.size() > 0 ? buffer.data() : nullptr; };
        return {alpha.data(), beta.data(),           bias.data(),       given(threshold),
                given(rho),   given(adapt_membrane), given(adapt_spike)};
    }
    NeuronState state(const float* i = nullptr) const {
        NeuronState state{i, u.data(), w.size() > 0 ? w.data() : nullptr};
        if (refractory > 0)
            state.refractory = {spikes.data() + (refractory - 1) * step_words, words, refractory, step_words};
        return state;
    }
};

// For SetUp. If something is missing, skips the running test with the reason. Where a GPU is required, this is a
// failure instead.
inline void skip_where_missing(const std::string& what) {
    if (what.empty()) return;
    if (gpu_is_required()) FAIL() << what;
    GTEST_SKIP() << "skipped: " << what;
}

class OperationTest : public testing::TestWithParam<BackendCase> {
protected:
    // Sums that start with these values.
    SumBuffer sums_on_backend(const Floats& host) {
        SumBuffer sums(backend, static_cast<Index>(host.size()));
        const Doubles wide = widened(host);
        if (sums.type() == Scalar::float32)
            backend.copy_in(sums.data(), host.data(), host.size() * sizeof(float));
        else
            backend.copy_in(sums.data(), wide.data(), wide.size() * sizeof(double));
        return sums;
    }

    Doubles to_host(SumBuffer& sums) {
        const auto count = static_cast<std::size_t>(sums.size());
        if (sums.type() == Scalar::float32) {
            Floats narrow(count);
            backend.copy_out(narrow.data(), sums.data(), count * sizeof(float));
            return widened(narrow);
        }
        Doubles wide(count);
        backend.copy_out(wide.data(), sums.data(), count * sizeof(double));
        return wide;
    }

    // The largest error of a sum of `terms` products of floats of size 1.
    double sum_tolerance(Index terms) const {
        const double root = std::sqrt(static_cast<double>(terms + 1));
        return backend.sums() == Sums::float32 ? 1e-6 * root : 1e-13 * root;
    }

    void SetUp() override { skip_where_missing(GetParam().missing); }

    // If the backend cannot run here, the CPU backend takes its place until SetUp skips the test.
    std::unique_ptr<Backend> owner =
        GetParam().missing.empty() ? GetParam().make() : make_backend(BackendKind::cpu, 1, Sums::float32);
    Backend& backend = *owner;
};

// Use this once in each test file. Its cases run on every backend.
#define SPIKEFLOSS_ON_EVERY_BACKEND(Fixture)                                                         \
    INSTANTIATE_TEST_SUITE_P(Backends, Fixture,                                                      \
                             testing::ValuesIn(::spikefloss::testing_support::available_backends()), \
                             [](const auto& instance) { return instance.param.name; })

}  // namespace spikefloss::testing_support
