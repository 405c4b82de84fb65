// Optimiser updates of every backend against the reference.
#include "backend/operation_test.hpp"
#include "reference/optimisers.hpp"

#include <algorithm>

namespace spikefloss::testing_support {
namespace {

class OptimiserOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(OptimiserOperations);

// Four updates with gradients of the given size. The changes are compared, not the values, so small changes count.
void compare_adam(Backend& backend, AdamSettings settings, Index count, double gradient_scale) {
    const Floats start = settings.weight_decay > 0.0f ? random_floats(count, 1) : Floats(count, 0.0f);
    Doubles m(count), v(count), values = widened(start);
    Buffer<float> m_(backend, count), v_(backend, count), values_(backend, start);
    for (std::int64_t step = 1; step <= 4; ++step) {
        const Floats gradient = random_floats(count, static_cast<std::uint64_t>(step) + 1, gradient_scale);
        reference::adam({settings.learning_rate, settings.beta1, settings.beta2, settings.eps, settings.weight_decay},
                        step, widened(gradient), m, v, values);
        const Buffer<float> gradient_(backend, gradient);
        settings.step = step;
        backend.adam(count, settings, gradient_.data(), m_.data(), v_.data(), values_.data());
    }
    Doubles expected(count), moved(count);
    const Floats end = values_.to_host();
    for (Index i = 0; i < count; ++i) {
        expected[i] = (values[i] - start[i]) / settings.learning_rate;
        moved[i] = (double(end[i]) - start[i]) / settings.learning_rate;
    }
    // With weight decay the values are up to 4, and four roundings of a value are divided by the learning rate.
    const double tolerance = settings.weight_decay > 0.0f ? 1e-6 / settings.learning_rate : 5e-6;
    EXPECT_TRUE(close_to(moved, expected, tolerance));
    EXPECT_TRUE(near_in_norm(m_.to_host(), m, 1e-6));
    EXPECT_TRUE(near_in_norm(v_.to_host(), v, 1e-5));
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
TEST_P(OptimiserOperations, AdamWithHugeGradients) {
    const Floats huge = {1e30f, -1e38f, 2e19f, -0x1p63f, 1.0f}, small(5, 1e-3f);
    Doubles m(5), v(5), values(5);
    Buffer<float> m_(backend, 5), v_(backend, 5), values_(backend, 5);
    for (std::int64_t step = 1; step <= 3; ++step) {
        const Floats& gradient = step == 1 ? huge : small;
        Doubles limited = widened(gradient);
        for (double& g : limited) g = std::clamp<double>(g, -largest_adam_gradient, largest_adam_gradient);
        reference::adam({1e-3f, 0.9f, 0.999f, 1e-8f}, step, limited, m, v, values);
        const Buffer<float> gradient_(backend, gradient);
        backend.adam(5, {1e-3f, 0.9f, 0.999f, 1e-8f, 0.0f, step}, gradient_.data(), m_.data(), v_.data(),
                     values_.data());
        if (step > 1) continue;
        const Floats first = values_.to_host();
        for (std::size_t i = 0; i < first.size(); ++i)
            EXPECT_NEAR(first[i], std::copysign(1e-3, -huge[i]), 1e-9) << "element " << i;
    }
    EXPECT_TRUE(close_to(values_.to_host(), values, 1e-8));
    EXPECT_TRUE(near_in_norm(m_.to_host(), m, 1e-6));
    EXPECT_TRUE(near_in_norm(v_.to_host(), v, 1e-5));
}

TEST_P(OptimiserOperations, AdamLeavesValuesWithoutGradient) {
    const Floats start = random_floats(33, 1);
    Buffer<float> gradient(backend, 33), m(backend, 33), v(backend, 33), values(backend, start);
    backend.adam(33, {1e-3f, 0.9f, 0.999f, 1e-8f, 0.0f, 1}, gradient.data(), m.data(), v.data(), values.data());
    EXPECT_TRUE(all_equal(values.to_host(), start));
}

TEST_P(OptimiserOperations, StochasticGradientDescent) {
    for (Index count : {0, 1, 31, 33, 67, 7001})
        for (float momentum : {0.0f, 0.9f}) {
            const Floats start = random_floats(count, 1);
            Doubles velocity(count), values = widened(start);
            Buffer<float> velocity_(backend, count), values_(backend, start);
            for (std::uint64_t step = 1; step <= 4; ++step) {
                const Floats gradient = random_floats(count, step + 1);
                reference::sgd(0.1f, momentum, widened(gradient), velocity, values);
                const Buffer<float> gradient_(backend, gradient);
                backend.sgd(count, 0.1f, momentum, gradient_.data(), velocity_.data(), values_.data());
            }
            EXPECT_TRUE(close_to(values_.to_host(), values, 1e-6)) << count << " values, momentum " << momentum;
            EXPECT_TRUE(close_to(velocity_.to_host(), velocity, 1e-6)) << count << " values, momentum " << momentum;
        }
}

TEST_P(OptimiserOperations, LogitAndBack) {
    for (Index count : {0, 1, 31, 33, 67}) {
        const Floats a = uniform_floats(count, 1, 0.01, 0.99), gradient = random_floats(count, 2);
        Doubles raw(count), d_raw(count);
        for (Index i = 0; i < count; ++i) {
            raw[i] = std::log(double(a[i]) / (1.0 - a[i]));
            d_raw[i] = gradient[i] * double(a[i]) * (1.0 - a[i]);
        }
        Buffer<float> values(backend, a), gradients(backend, gradient);
        backend.to_logit(count, values.data(), gradients.data());
        EXPECT_TRUE(close_to(values.to_host(), raw, 1e-7));
        EXPECT_TRUE(close_to(gradients.to_host(), d_raw, 1e-7));
        backend.from_logit(count, values.data());
        EXPECT_TRUE(close_to(values.to_host(), widened(a), 2e-7));
    }
    // For every input the output is in (0, 1).
    Buffer<float> ends(backend, Floats{0.0f, 1.0f, 0.5f}), gradients(backend, Floats(3, 1.0f));
    backend.to_logit(3, ends.data(), gradients.data());
    for (float raw : ends.to_host()) EXPECT_TRUE(std::isfinite(raw)) << raw;
    Buffer<float> far(backend, Floats{-1e4f, 1e4f, 100.0f, -100.0f, 17.0f});
    backend.from_logit(5, far.data());
    for (float a : far.to_host()) {
        EXPECT_GT(a, 0.0f);
        EXPECT_LT(a, 1.0f);
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
