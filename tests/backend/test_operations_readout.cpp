// Readout filter and losses of every backend against double loops and the reference.
#include "backend/operation_test.hpp"
#include "reference/dynamics.hpp"

namespace spikefloss::testing_support {
namespace {

class ReadoutOperations : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(ReadoutOperations);

struct Steps {
    Index T, b, O;
};
std::ostream& operator<<(std::ostream& out, const Steps& s) {
    return out << "T " << s.T << ", b " << s.b << ", O " << s.O;
}

std::vector<Steps> all_steps() {
    std::vector<Steps> all;
    for (Index T : {1, 2, 7, 40})
        for (Index b : {0, 1, 3, 5})
            for (Index O : {1, 2, 33}) all.push_back({T, b, O});
    return all;
}

// Decays from none to slow.
Floats kappas(Index O) {
    Floats kappa = uniform_floats(O, 51, 0.0, 0.9);
    kappa[0] = 0.0f;
    if (O > 1) kappa[1] = 0.9f;
    return kappa;
}

TEST_P(ReadoutOperations, FilterAndItsAdjoint) {
    for (const Steps& s : all_steps()) {
        SCOPED_TRACE(testing::Message() << s);
        const Index count = s.T * s.b * s.O, row = s.b * s.O;
        const Floats kappa = kappas(s.O), bias = random_floats(s.O, 52), z = random_floats(count, 53),
                     dy = random_floats(count, 54), start = random_floats(s.O, 55);
        Doubles y(count), dz(count), d_kappa = widened(start), dr(row);
        for (Index at = 0; at < count; ++at) {
            const double k = kappa[at % s.O];
            y[at] = k * (at >= row ? y[at - row] : 0.0) + (1.0 - k) * (double(z[at]) + bias[at % s.O]);
        }
        for (Index at = count; at-- > 0;) {
            const Index o = at % s.O;
            double& r = dr[at % row];
            r = kappa[o] * r + dy[at];
            dz[at] = (1.0 - kappa[o]) * r;
            d_kappa[o] += r * ((at >= row ? y[at - row] : 0.0) - (double(z[at]) + bias[o]));
        }
        const Buffer<float> kappa_(backend, kappa), bias_(backend, bias), z_(backend, z), dy_(backend, dy);
        Buffer<float> y_(backend, count), y_in_place(backend, z), dz_(backend, count), dz_in_place(backend, dy);
        backend.readout_filter(s.T, s.b, s.O, kappa_.data(), bias_.data(), z_.data(), y_.data());
        backend.readout_filter(s.T, s.b, s.O, kappa_.data(), bias_.data(), y_in_place.data(), y_in_place.data());
        EXPECT_TRUE(close_to(y_.to_host(), y, 1e-6));
        EXPECT_TRUE(all_equal(y_in_place.to_host(), y_.to_host()));

        SumBuffer sums = sums_on_backend(start), sums_in_place = sums_on_backend(start);
        backend.readout_filter_backward(s.T, s.b, s.O, kappa_.data(), y_.data(), dy_.data(), dz_.data(),
                                        sums.matrix(1, s.O));
        backend.readout_filter_backward(s.T, s.b, s.O, kappa_.data(), y_.data(), dz_in_place.data(), dz_in_place.data(),
                                        sums_in_place.matrix(1, s.O));
        EXPECT_TRUE(close_to(dz_.to_host(), dz, 2e-6));
        EXPECT_TRUE(all_equal(dz_in_place.to_host(), dz_.to_host()));
        // z + bias is computed from y by a division by 1 - kappa, and there are T b terms.
        EXPECT_TRUE(close_to(to_host(sums), d_kappa, 1e-5 * std::sqrt(1.0 + double(s.T * s.b))));
        EXPECT_TRUE(all_equal(to_host(sums_in_place), to_host(sums)));
    }
}

// Masks: all steps, one step, every third step, other steps and another number of them in each sequence.
std::vector<Floats> masks(const Steps& s) {
    std::vector<Floats> all(4, Floats(s.T * s.b, 0.0f));
    for (Index row = 0; row < s.T * s.b; ++row) {
        const Index t = row / s.b, sequence = row % s.b;
        all[0][row] = 1.0f;
        all[1][row] = t == s.T - 1;
        all[2][row] = t % 3 == 0;
        all[3][row] = t % (sequence + 1) == 0;
    }
    return all;
}

// Logits, with some at exactly 0 and some so large that exp overflows.
Floats logits(Index count) {
    Floats y = random_floats(count, 61, 2.0);
    const Floats planted = {1e4f, -1e4f, 0.0f, 1e4f, -1e4f, 90.0f, -90.0f};
    for (std::size_t i = 0; i < planted.size() && i < y.size(); ++i) y[i] = planted[i];
    return y;
}

constexpr float weight = 0.37f;

// Result and dy of both operations, and what the reference gives.
TEST_P(ReadoutOperations, EveryLoss) {
    for (const reference::LossKind kind : reference::all_losses) {
        const auto own = find_choice<LossKind>(reference::name_of(kind)).value();
        for (const Steps& s : all_steps())
            for (const Floats& mask : masks(s)) {
                SCOPED_TRACE(testing::Message() << reference::name_of(kind) << ", " << s);
                const Index count = s.T * s.b * s.O;
                // Sums of logits that are too large for exp are tested by the other kinds.
                const bool plain = kind == reference::LossKind::cross_entropy_sum;
                const Floats y = plain ? random_floats(count, 61, 2.0) : logits(count);
                const bool labels = reference::takes_labels(kind);
                Floats target(count);
                for (Index at = 0; at < count; ++at) target[at] = static_cast<float>(at / 2 % 2);
                std::vector<std::int32_t> label(s.b);
                for (Index i = 0; i < s.b; ++i) label[i] = static_cast<std::int32_t>(i % s.O);
                Doubles dy(count), result(2);
                reference::Sequences seq;
                if (count > 0) {
                    seq.steps = s.T;
                    seq.batch = s.b;
                    seq.mask = widened(mask);
                    seq.target = widened(target);
                    seq.label.assign(label.begin(), label.end());
                    seq.loss = kind;
                    const reference::Loss loss = reference::task_loss(seq, widened(y));
                    const double terms = static_cast<double>(loss.terms);
                    result = {loss.value * terms, loss.accuracy * terms};
                    for (Index at = 0; at < count; ++at) dy[at] = weight * terms * loss.gradient[at];
                }
                const Buffer<float> y_(backend, y), target_(backend, target), mask_(backend, mask);
                const Buffer<std::int32_t> label_(backend, label);
                Buffer<float> dy_(backend, Floats(count, nan_value));
                Buffer<std::int32_t> named_(backend, s.b);
                Buffer<double> result_(backend, Doubles(2, -1.0));
                if (labels)
                    backend.softmax_cross_entropy(own, s.T, s.b, s.O, y_.data(), label_.data(), mask_.data(), weight,
                                                  dy_.data(), named_.data(), result_.data());
                else
                    backend.element_loss(own, s.T, s.b, s.O, y_.data(), target_.data(), mask_.data(), weight,
                                         dy_.data(), result_.data());
                EXPECT_TRUE(close_to(result_.to_host(), result, 1e-11));
                EXPECT_TRUE(close_to(dy_.to_host(), dy, 1e-7));
                if (!labels || count == 0) continue;
                // The reference calls every named class right.
                const std::vector<std::int32_t> named = named_.to_host();
                seq.label.assign(named.begin(), named.end());
                EXPECT_EQ(reference::task_loss(seq, widened(y)).accuracy, 1.0);
            }
    }
}

// By this the trainer detects that the network has diverged.
TEST_P(ReadoutOperations, LossOfNonFiniteLogitsIsNotFinite) {
    const Buffer<float> mask(backend, Floats{1.0f}), target(backend, Floats{1.0f, 0.0f});
    const Buffer<std::int32_t> label(backend, std::vector<std::int32_t>{0});
    for (std::size_t bad : {0, 1}) {
        Floats y = {0.5f, 0.25f};
        y[bad] = nan_value;
        const Buffer<float> y_(backend, y);
        Buffer<float> dy(backend, 2);
        Buffer<std::int32_t> named(backend, 1);
        Buffer<double> result(backend, 2);
        for (const reference::LossKind kind : reference::all_losses) {
            const auto own = find_choice<LossKind>(reference::name_of(kind)).value();
            if (reference::takes_labels(kind))
                backend.softmax_cross_entropy(own, 1, 1, 2, y_.data(), label.data(), mask.data(), 1.0f, dy.data(),
                                              named.data(), result.data());
            else
                backend.element_loss(own, 1, 1, 2, y_.data(), target.data(), mask.data(), 1.0f, dy.data(),
                                     result.data());
            EXPECT_FALSE(std::isfinite(result.to_host()[0])) << reference::name_of(kind);
        }
    }
}

#ifndef SPIKEFLOSS_TEST_EMULATED  // for the CPU
// Enough elements that threads share the work; not a multiple of their number.
TEST(CpuReadout, AnyNumberOfThreadsGivesTheSameBits) {
    for (const Index O : {1, 3}) {
        const Index T = 101, b = 400, count = T * b * O;
        const Floats z = random_floats(count, 71), target = uniform_floats(count, 72, 0.0, 1.0), kappa = kappas(O),
                     bias = random_floats(O, 73), mask = uniform_floats(T * b, 74, 0.0, 1.0);
        std::vector<std::int32_t> label(b);
        for (Index s = 0; s < b; ++s) label[s] = static_cast<std::int32_t>(s % O);
        const auto results = [&](int threads) {
            const std::unique_ptr<Backend> owner = make_cpu_backend(threads, Sums::float32);
            Backend& backend = *owner;
            Floats y(count), dz(count), dy(count), all;
            Doubles values;
            std::vector<std::int32_t> named(b);
            backend.readout_filter(T, b, O, kappa.data(), bias.data(), z.data(), y.data());
            SumBuffer d_kappa(backend, O);
            backend.readout_filter_backward(T, b, O, kappa.data(), y.data(), z.data(), dz.data(), d_kappa.matrix(1, O));
            for (const Floats& part : {y, dz}) all.insert(all.end(), part.begin(), part.end());
            const auto* const sums = static_cast<const float*>(d_kappa.data());
            all.insert(all.end(), sums, sums + O);
            for (const reference::LossKind kind : reference::all_losses) {
                const auto own = find_choice<LossKind>(reference::name_of(kind)).value();
                double result[2];
                if (reference::takes_labels(kind))
                    backend.softmax_cross_entropy(own, T, b, O, y.data(), label.data(), mask.data(), weight, dy.data(),
                                                  named.data(), result);
                else
                    backend.element_loss(own, T, b, O, y.data(), target.data(), mask.data(), weight, dy.data(), result);
                all.insert(all.end(), dy.begin(), dy.end());
                values.insert(values.end(), result, result + 2);
                values.insert(values.end(), named.begin(), named.end());
            }
            return std::pair(all, values);
        };
        const auto one = results(1);
        for (const int threads : {2, 3}) {
            const auto several = results(threads);
            EXPECT_TRUE(all_equal(several.first, one.first)) << threads;
            EXPECT_TRUE(all_equal(several.second, one.second)) << threads;
        }
    }
}
#endif

}  // namespace
}  // namespace spikefloss::testing_support
