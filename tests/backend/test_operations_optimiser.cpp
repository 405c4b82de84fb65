// Optimiser updates of every backend against the reference.
#include "backend/operation_test.hpp"
#include "core/flush_denormals.hpp"
#include "reference/optimisers.hpp"

#include <algorithm>

namespace spikefloss::testing_support {
namespace {

class OptimiserOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(OptimiserOperations);

// Values and `moments` moments, 0.
struct Arrays {
    Buffer<float> m, v, values;

    Arrays(Backend& backend, const Floats& start, int moments) : values(backend, start) {
        if (moments > 0) m = Buffer<float>(backend, values.size());
        if (moments > 1) v = Buffer<float>(backend, values.size());
    }
    void update(Backend& backend, const UpdateRule& rule, const Floats& gradient,
                Constraint constraint = Constraint::none, float scale = 1.0f) {
        const Buffer<float> g(backend, gradient);
        const UpdateView all{1, g.size(), g.size(), g.data(), m.data(), v.data(), values.data(), constraint};
        backend.update(rule, scale, {&all, 1});
    }
};

reference::AdamSettings settings_of(const Adam& rule) {
    return {rule.rate, rule.beta1, rule.beta2, rule.eps, rule.decay};
}

// Four updates with gradients of the given size. The changes are compared, not the values, so small changes count.
void compare_adam(Backend& backend, const Adam& rule, Index count, double gradient_size) {
    const Floats start = rule.decay > 0.0f ? random_floats(count, 1) : Floats(count, 0.0f);
    Doubles m(count), v(count), values = widened(start);
    Arrays arrays(backend, start, 2);
    for (std::int64_t step = 1; step <= 4; ++step) {
        const Floats gradient = random_floats(count, static_cast<std::uint64_t>(step) + 1, gradient_size);
        reference::adam(settings_of(rule), step, widened(gradient), m, v, values);
        arrays.update(backend, Adam{rule.rate, rule.beta1, rule.beta2, rule.eps, rule.decay, step}, gradient);
    }
    Doubles expected(count), moved(count);
    const Floats end = arrays.values.to_host();
    for (Index i = 0; i < count; ++i) {
        expected[i] = (values[i] - start[i]) / rule.rate;
        moved[i] = (double(end[i]) - start[i]) / rule.rate;
    }
    // With weight decay the values are up to 4, and four roundings of a value are divided by the learning rate.
    const double tolerance = rule.decay > 0.0f ? 1e-6 / rule.rate : 5e-6;
    EXPECT_TRUE(close_to(moved, expected, tolerance));
    EXPECT_TRUE(near_in_norm(arrays.m.to_host(), m, 1e-6));
    EXPECT_TRUE(near_in_norm(arrays.v.to_host(), v, 1e-5));
}

TEST_P(OptimiserOperations, Adam) {
    for (Index count : {0, 1, 31, 33, 67, 7001}) {
        SCOPED_TRACE(count);
        compare_adam(backend, {1e-3f, 0.9f, 0.999f, 1e-8f, 0.0f, 1}, count, 1.0);
        compare_adam(backend, {0.1f, 0.5f, 0.9f, 1e-3f, 0.1f, 1}, count, 1e-2);
    }
}

// Gradients at long lags are this small; with a small eps they must still move the weights.
TEST_P(OptimiserOperations, AdamWithTinyGradients) {
    compare_adam(backend, {1e-3f, 0.9f, 0.999f, 1e-24f, 0.0f, 1}, 33, 1e-16);
}

// Squares that are infinite in float32 act like that of the largest allowed gradient. The values continue to move.
// While a command flushes denormal numbers, v = 1e-43 is still not 0, so no value moves by more than the rate allows.
TEST_P(OptimiserOperations, AdamKeepsDenormals) {
    if (backend.name() != "cpu") GTEST_SKIP() << "a GPU has denormal numbers at any time";
    const FlushDenormals flush;
    Arrays arrays(backend, Floats(33, 0.0f), 2);
    arrays.update(backend, Adam{1e-3f, 0.9f, 0.999f, 1e-20f, 0.0f, 1}, Floats(33, 1e-20f));
    for (const float value : arrays.values.to_host()) EXPECT_NEAR(value, -0.5e-3f, 0.02e-3f);
}

TEST_P(OptimiserOperations, AdamWithHugeGradients) {
    const Floats huge = {1e30f, -1e38f, 2e19f, -0x1p63f, 1.0f}, small(5, 1e-3f);
    Doubles m(5), v(5), values(5);
    Arrays arrays(backend, Floats(5, 0.0f), 2);
    for (std::int64_t step = 1; step <= 3; ++step) {
        const Floats& gradient = step == 1 ? huge : small;
        const Adam rule{1e-3f, 0.9f, 0.999f, 1e-8f, 0.0f, step};
        Doubles limited = widened(gradient);
        for (double& g : limited) g = std::clamp<double>(g, -largest_adam_gradient, largest_adam_gradient);
        reference::adam(settings_of(rule), step, limited, m, v, values);
        arrays.update(backend, rule, gradient);
        if (step > 1) continue;
        const Floats first = arrays.values.to_host();
        for (std::size_t i = 0; i < first.size(); ++i)
            EXPECT_NEAR(first[i], std::copysign(1e-3, -huge[i]), 1e-9) << "element " << i;
    }
    EXPECT_TRUE(close_to(arrays.values.to_host(), values, 1e-8));
    EXPECT_TRUE(near_in_norm(arrays.m.to_host(), m, 1e-6));
    EXPECT_TRUE(near_in_norm(arrays.v.to_host(), v, 1e-5));
}

TEST_P(OptimiserOperations, AdamLeavesValuesWithoutGradient) {
    const Floats start = random_floats(33, 1);
    Arrays arrays(backend, start, 2);
    arrays.update(backend, Adam{1e-3f, 0.9f, 0.999f, 1e-8f, 0.0f, 1}, Floats(33, 0.0f));
    EXPECT_TRUE(all_equal(arrays.values.to_host(), start));
}

TEST_P(OptimiserOperations, StochasticGradientDescent) {
    for (Index count : {0, 1, 31, 33, 67, 7001})
        for (float momentum : {0.0f, 0.9f}) {
            const Floats start = random_floats(count, 1);
            Doubles velocity(count), values = widened(start);
            Arrays arrays(backend, start, momentum > 0.0f ? 1 : 0);
            for (std::uint64_t step = 1; step <= 4; ++step) {
                const Floats gradient = random_floats(count, step + 1);
                reference::sgd(0.1f, momentum, widened(gradient), velocity, values);
                arrays.update(backend, Sgd{0.1f, momentum}, gradient);
            }
            EXPECT_TRUE(close_to(arrays.values.to_host(), values, 1e-6)) << count << " values, momentum " << momentum;
            if (momentum == 0.0f) continue;
            EXPECT_TRUE(close_to(arrays.m.to_host(), velocity, 1e-6)) << count << " values, momentum " << momentum;
        }
}

TEST_P(OptimiserOperations, TheGradientIsScaledWithOneRounding) {
    for (Index count : {1, 31, 33, 67, 40001}) {
        const Floats start = random_floats(count, 1), gradient = random_floats(count, 2);
        Floats expected(start);
        for (Index i = 0; i < count; ++i) expected[i] = std::fma(-0.1f, gradient[i] * 0.3f, start[i]);
        Arrays arrays(backend, start, 0);
        arrays.update(backend, Sgd{0.1f, 0.0f}, gradient, Constraint::none, 0.3f);
        EXPECT_TRUE(all_equal(arrays.values.to_host(), expected)) << count;
    }
}

// Dale's law: the update without constraint, then 0 in place of a wrong sign; moments as without, and NaN stays.
TEST_P(OptimiserOperations, SignsAreKept) {
    for (const UpdateRule& rule : {UpdateRule(Adam{0.5f, 0.9f, 0.999f, 1e-8f, 0.01f, 1}), UpdateRule(Sgd{0.5f, 0.9f})})
        for (double sign : {1.0, -1.0}) {
            const Constraint constraint = sign > 0.0 ? Constraint::non_negative : Constraint::non_positive;
            Floats start = random_floats(67, 1), gradient = random_floats(67, 2);
            for (float& w : start) w = static_cast<float>(sign * std::abs(w));
            start[3] = 0.0f;
            gradient[5] = nan_value;
            Arrays kept(backend, start, 2), free(backend, start, 2);
            kept.update(backend, rule, gradient, constraint);
            free.update(backend, rule, gradient);
            const Floats w = kept.values.to_host(), without = free.values.to_host(), m = kept.m.to_host(),
                         m_without = free.m.to_host();
            Index zeros = 0;
            for (std::size_t i = 0; i < w.size(); ++i) {
                zeros += w[i] == 0.0f;
                if (i == 5) continue;
                EXPECT_EQ(w[i], sign * without[i] < 0.0 ? 0.0f : without[i]) << i;
                EXPECT_EQ(m[i], m_without[i]) << i;
            }
            EXPECT_GT(zeros, 5);
            EXPECT_TRUE(std::isnan(w[5]) && std::isnan(m[5]));
        }
}

TEST_P(OptimiserOperations, FractionsChangeByTheirLogit) {
    for (Index count : {0, 1, 31, 33, 67})
        for (int moments : {1, 2}) {
            const Floats start = uniform_floats(count, 1, 0.01, 0.99);
            Doubles m(count), v(count), values = widened(start);
            Arrays arrays(backend, start, moments);
            for (std::int64_t step = 1; step <= 3; ++step) {
                const Adam adam{0.1f, 0.9f, 0.999f, 1e-8f, 0.01f, step};
                const Sgd sgd{0.5f, 0.9f};
                const Floats gradient = random_floats(count, static_cast<std::uint64_t>(step) + 1);
                Doubles scaled = widened(gradient);
                for (double& g : scaled) g *= 0.25;
                reference::update_fraction(scaled, values, [&](const Doubles& g, Doubles& x) {
                    if (moments == 1) return reference::sgd(sgd.rate, sgd.momentum, g, m, x);
                    reference::adam(settings_of(adam), step, g, m, v, x);
                });
                arrays.update(backend, moments == 1 ? UpdateRule(sgd) : adam, gradient, Constraint::fraction, 0.25f);
            }
            EXPECT_TRUE(close_to(arrays.values.to_host(), values, 1e-6)) << count << " values";
            EXPECT_TRUE(close_to(arrays.m.to_host(), m, 1e-6)) << count << " values";
        }
}

// Arrays of any size and constraint in one call change as each alone does. What lies between their rows stays.
TEST_P(OptimiserOperations, ManyArraysAtOnce) {
    constexpr Index shapes[][3] = {{1, 67, 67}, {5, 31, 33}, {3, 1, 8}, {0, 4, 4}, {2, 1500, 1501}};
    constexpr Constraint constraints[] = {Constraint::none, Constraint::fraction, Constraint::non_negative,
                                          Constraint::non_positive};
    for (const UpdateRule& rule : {UpdateRule(Adam{0.1f, 0.9f, 0.999f, 1e-8f, 0.01f, 1}), UpdateRule(Sgd{0.1f, 0.9f}),
                                   UpdateRule(Sgd{0.1f, 0.0f})}) {
        std::vector<Arrays> alone, together;
        std::vector<Buffer<float>> gradients;
        std::vector<UpdateView> views;
        const int moments = std::holds_alternative<Adam>(rule) ? 2 : std::get<Sgd>(rule).momentum > 0.0f;
        for (Index i = 0; i < 70; ++i) {
            const auto [rows, cols, stride] = shapes[i % 5];
            const Constraint constraint = constraints[i % 4];
            const Floats start = uniform_floats(rows * stride, static_cast<std::uint64_t>(i) + 1, 0.01, 0.99);
            Floats gradient = random_floats(rows * stride, static_cast<std::uint64_t>(i) + 2);
            const Buffer<float>& g = gradients.emplace_back(backend, gradient);
            Arrays& many = together.emplace_back(backend, start, moments);
            views.push_back(
                {rows, cols, stride, g.data(), many.m.data(), many.v.data(), many.values.data(), constraint});
            alone.emplace_back(backend, start, moments).update(backend, rule, gradient, constraint, 0.25f);
        }
        backend.update(rule, 0.25f, views);
        for (std::size_t i = 0; i < views.size(); ++i) {
            const auto [rows, cols, stride] = shapes[i % 5];
            Floats expected = alone[i].values.to_host();
            const Floats start = uniform_floats(rows * stride, i + 1, 0.01, 0.99),
                         values = together[i].values.to_host();
            for (std::size_t at = 0; at < expected.size(); ++at)
                if (static_cast<Index>(at) % stride >= cols) expected[at] = start[at];
            EXPECT_TRUE(all_equal(values, expected)) << "array " << i;
        }
    }
}

TEST_P(OptimiserOperations, FractionsStayBetween0And1) {
    const Floats start = {0.0f, 1.0f, 0.5f, 1e-30f, 1.0f - 0x1p-24f};
    for (float rate : {0.0f, 1.0f, 1e4f, 1e30f})
        for (float gradient : {-1.0f, 1.0f})
            for (const UpdateRule& rule :
                 {UpdateRule(Adam{rate, 0.9f, 0.999f, 1e-8f, 0.0f, 1}), UpdateRule(Sgd{rate, 0.0f})}) {
                Arrays arrays(backend, start, 2);
                arrays.update(backend, rule, Floats(5, gradient), Constraint::fraction);
                for (float w : arrays.values.to_host()) EXPECT_TRUE(w > 0.0f && w < 1.0f) << w << " at rate " << rate;
            }
}

}  // namespace
}  // namespace spikefloss::testing_support
