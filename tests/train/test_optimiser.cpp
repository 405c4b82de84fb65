// From partial gradients to parameters on every grid, against the reference's updates of the global arrays.
#include "train/optimiser.hpp"

#include "backend/instruction_sets.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

using namespace testing_support;

constexpr Index N = 7, M = 3, O = 2;
const std::vector<Parameter> everything(all_parameters.begin(), all_parameters.end());

reference::Network start() {
    return reference::random_network({.neurons = N, .inputs = M, .outputs = O, .initial_state = true, .seed = 8});
}

// The gradient of update `step`, of any sign and of sizes that differ between parameters and steps.
reference::Parameters gradient_of(const reference::Network& net, int step) {
    reference::Parameters gradient = reference::zero_gradient(net);
    double phase = 0.1 * step;
    for (const auto& [name, member] : reference::all_parameters)
        for (double& g : gradient.*member) g = (0.2 + 0.1 * step) * std::sin(phase += 1.7);
    return gradient;
}

bool contains(const std::vector<Parameter>& list, std::string_view name) {
    return std::any_of(list.begin(), list.end(), [&](Parameter p) { return name_of(p) == name; });
}

// The updates with these options, in double on the global arrays.
class Expected {
public:
    Expected(reference::Network net, OptimiserOptions options)
        : net_(std::move(net)), options_(std::move(options)), first_(reference::zero_gradient(net_)), second_(first_) {}

    GradientNorms update(const reference::Parameters& gradient, double rate) {
        GradientNorms norms;
        for (std::size_t p = 0; p < reference::all_parameters.size(); ++p) {
            const auto& [name, member] = reference::all_parameters[p];
            double squares = 0.0;
            for (double g : gradient.*member) squares += g * g;
            norms.parameter[p] = std::sqrt(squares);
            if (contains(options_.parameters, name)) norms.global += squares;
        }
        norms.global = std::sqrt(norms.global);
        const double factor = options_.clip > 0.0 ? std::min(1.0, options_.clip / norms.global) : 1.0;
        ++updates_;
        for (const auto& [name, member] : reference::all_parameters) {
            if (!contains(options_.parameters, name)) continue;
            const bool fraction = name == std::string_view("alpha") || name == std::string_view("beta") ||
                                  name == std::string_view("kappa");
            std::vector<double> clipped = gradient.*member;
            for (double& g : clipped) g *= factor;
            const auto update = [&](const std::vector<double>& g, std::vector<double>& x) {
                if (options_.kind == OptimiserKind::sgd)
                    return reference::sgd(rate, options_.momentum, g, first_.*member, x);
                const double decay = options_.kind == OptimiserKind::adamw ? options_.weight_decay : 0.0;
                reference::adam({rate, options_.beta1, options_.beta2, options_.eps, decay}, updates_, g,
                                first_.*member, second_.*member, x);
            };
            if (fraction)
                reference::update_fraction(clipped, net_.*member, update);
            else
                update(clipped, net_.*member);
        }
        return norms;
    }
    const reference::Network& network() const { return net_; }

private:
    reference::Network net_;
    OptimiserOptions options_;
    reference::Parameters first_, second_;
    std::int64_t updates_ = 0;
};

// The share of this rank of a gradient. Every batch shard gives an equal part, so the sum is the whole.
void add_share(Backend& backend, const ProcessGrid& grid, const reference::Network& shape,
               const reference::Parameters& gradient, Gradient& sum) {
    reference::Network carrier = shape;
    static_cast<reference::Parameters&>(carrier) =
        reference::sum(reference::zero_gradient(shape), gradient, 1.0 / grid.shape().batch_shards);
    const Buffer<float> share(backend, host_network(carrier, grid).values);
    backend.add_column_sums({share.data(), 1, share.size()}, sum.start().matrix(1, share.size()));
}

void expect_as_reference(const OptimiserOptions& options) {
    on_every_grid([&](const ProcessGrid& grid) {
        const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
        Backend& backend = *made;
        Network network(backend, grid, host_network(start(), grid));
        Gradient sum(backend, grid, network.layout);
        Optimiser optimiser(backend, network.layout, options);
        Expected expected(start(), options);
        for (int step = 0; step < 6; ++step) {
            const reference::Parameters gradient = gradient_of(start(), step);
            add_share(backend, grid, start(), gradient, sum);
            const GradientNorms norms = sum.reduce(optimiser.trained());
            const GradientNorms wanted = expected.update(gradient, learning_rate_at(options, step));
            EXPECT_NEAR(norms.global, wanted.global, 1e-6 * wanted.global);
            for (std::size_t p = 0; p < reference::all_parameters.size(); ++p)
                EXPECT_NEAR(norms.parameter[p], wanted.parameter[p], 1e-6 * wanted.parameter[p]);
            expect_gradients_near(gathered_parameters(grid, network.layout, sum.to_host()), gradient, 1e-6);
            optimiser.update(network, sum, norms);
        }
        const HostNetwork host = network.to_host();
        const reference::Parameters values = gathered_parameters(grid, network.layout, host.values);
        const HostNetwork before = host_network(start(), grid);
        for (const auto& [name, member] : reference::all_parameters) {
            EXPECT_TRUE(near_in_norm(values.*member, expected.network().*member, 3e-6)) << name;
            if (contains(options.parameters, name)) {
                EXPECT_GT(relative_error(values.*member, start().*member), 1e-4) << name;
            } else {
                const reference::Parameters unchanged = gathered_parameters(grid, network.layout, before.values);
                EXPECT_TRUE(all_equal(values.*member, unchanged.*member)) << name;
            }
        }
        // Parameters that every neuron shard holds must have the same bits on all ranks.
        for (const Parameter p : {Parameter::bias_out, Parameter::kappa}) {
            const auto [offset, count] = host.layout.extent(p);
            std::vector<float> first(host.values.begin() + offset, host.values.begin() + offset + count);
            grid.control().broadcast(first.data(), count * static_cast<Index>(sizeof(float)), 0);
            EXPECT_TRUE(std::equal(first.begin(), first.end(), host.values.begin() + offset)) << name_of(p);
        }
    });
}

TEST(Optimiser, Adam) { expect_as_reference({.learning_rate = 0.01, .parameters = everything}); }

TEST(Optimiser, AdamIgnoresWeightDecayAndItsEpsCounts) {
    expect_as_reference({.learning_rate = 0.02,
                         .beta1 = 0.8,
                         .beta2 = 0.95,
                         .eps = 0.1,
                         .weight_decay = 0.5,
                         .parameters = everything});
}

// Gradients whose squares are 0 in float32, with an even smaller eps. The steps are those of the reference, whose
// double values are far from 0. The first step is the learning rate, and no later one is much larger.
TEST(Optimiser, AdamWithTinyGradientsAndASmallerEps) {
    for (const double beta2 : {0.9, 0.999, 0.999999})
        for (const auto& [eps, size] : {std::pair{1e-30, 1e-27},
                                        {1e-30, 1e-30},
                                        {1e-30, 1e-12},
                                        {1e-25, 1e-27},
                                        {1e-20, 1e-22},
                                        {1e-20, 1e-19}}) {
            SCOPED_TRACE(testing::Message() << "beta2 " << beta2 << ", eps " << eps << ", gradients of " << size);
            const OptimiserOptions options{
                .learning_rate = 0.001, .beta2 = beta2, .eps = eps, .parameters = {Parameter::w_rec}};
            reference::Network net = start();
            net.w_rec.assign(net.w_rec.size(), 0.0);
            const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
            Backend& backend = *made;
            Network network(backend, alone(), host_network(net, alone()));
            Gradient sum(backend, alone(), network.layout);
            Optimiser optimiser(backend, network.layout, options);
            std::vector<double> m(N * N), v(N * N), values(N * N), before(N * N);
            for (int step = 0; step < 6; ++step) {
                reference::Parameters gradient =
                    reference::sum(reference::zero_gradient(net), gradient_of(net, step), size);
                add_share(backend, alone(), net, gradient, sum);
                optimiser.update(network, sum, sum.reduce(optimiser.trained()));
                reference::adam({0.001, 0.9, beta2, eps, 0.0}, step + 1, gradient.w_rec, m, v, values);
                const std::vector<double> now =
                    gathered_parameters(alone(), network.layout, network.values.to_host()).w_rec;
                for (std::size_t j = 0; j < now.size(); ++j) {
                    EXPECT_NEAR((now[j] - before[j]) / 0.001, (values[j] - before[j]) / 0.001, 0.02) << j;
                    EXPECT_LE(std::fabs(now[j] - before[j]), 0.0015) << j;
                    if (step == 0 && std::fabs(gradient.w_rec[j]) > 1e3 * eps) {
                        EXPECT_NEAR(std::fabs(now[j]), 0.001, 2e-6) << j;
                    }
                }
                before = now;
                values = now;
            }
        }
}

// If no unit is needed, the stored moments are those of Adam's formula.
TEST(Optimiser, AdamStoresPlainMomentsFromAnEpsOf1e20On) {
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
    Backend& backend = *made;
    for (const double eps : {1e-20, 1e-8}) {
        Network network(backend, alone(), host_network(start(), alone()));
        Gradient sum(backend, alone(), network.layout);
        Optimiser optimiser(backend, network.layout, {.eps = eps, .parameters = {Parameter::w_rec}});
        add_share(backend, alone(), start(), gradient_of(start(), 0), sum);
        const GradientNorms norms = sum.reduce(optimiser.trained());
        const std::vector<float> gradient = sum.to_host();
        optimiser.update(network, sum, norms);
        const auto [offset, count] = network.layout.extent(Parameter::w_rec);
        for (Index j = offset; j < offset + count; ++j) {
            const float g = gradient[static_cast<std::size_t>(j)];
            EXPECT_EQ(optimiser.state().first[static_cast<std::size_t>(j)], (1.0f - 0.9f) * g);
            EXPECT_EQ(optimiser.state().second[static_cast<std::size_t>(j)], (1.0f - 0.999f) * (g * g));
        }
    }
}

TEST(Optimiser, AdamW) {
    expect_as_reference(
        {.kind = OptimiserKind::adamw, .learning_rate = 0.02, .weight_decay = 0.3, .parameters = everything});
}

TEST(Optimiser, SgdWithMomentum) {
    expect_as_reference({.kind = OptimiserKind::sgd, .learning_rate = 0.05, .momentum = 0.7, .parameters = everything});
}

TEST(Optimiser, OnlyTheTrainedParametersChangeAndCount) {
    expect_as_reference({.learning_rate = 0.01, .clip = 0.3, .parameters = {Parameter::w_rec}});
    expect_as_reference(
        {.learning_rate = 0.01, .clip = 0.3, .parameters = {Parameter::bias_out, Parameter::w_in, Parameter::kappa}});
}

// Norms grow from 1.6 to 5.5: with a clip of 4 only the last updates are scaled down.
TEST(Optimiser, ClipsByGlobalNorm) {
    expect_as_reference({.kind = OptimiserKind::sgd, .learning_rate = 0.05, .clip = 4.0, .parameters = everything});
}

TEST(Optimiser, FollowsItsLearningRate) {
    expect_as_reference({.kind = OptimiserKind::sgd,
                         .learning_rate = 0.1,
                         .schedule = RateSchedule::step,
                         .schedule_steps = 2,
                         .schedule_factor = 0.3,
                         .parameters = everything});
    expect_as_reference({.learning_rate = 0.1,
                         .schedule = RateSchedule::cosine,
                         .schedule_steps = 4,
                         .schedule_factor = 0.1,
                         .parameters = everything});
}

TEST(LearningRate, Schedules) {
    OptimiserOptions options{.learning_rate = 2.0, .schedule_steps = 10, .schedule_factor = 0.1, .parameters = {}};
    EXPECT_EQ(learning_rate_at(options, 0), 2.0);
    EXPECT_EQ(learning_rate_at(options, 1000), 2.0);
    options.schedule = RateSchedule::step;
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 9), 2.0);
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 10), 0.2);
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 25), 0.02);
    options.schedule = RateSchedule::cosine;
    EXPECT_DOUBLE_EQ(learning_rate_at(options, 0), 2.0);
    EXPECT_NEAR(learning_rate_at(options, 5), 1.1, 1e-12);  // half way between 2 and 0.2
    EXPECT_NEAR(learning_rate_at(options, 10), 0.2, 1e-12);
    EXPECT_NEAR(learning_rate_at(options, 1000), 0.2, 1e-12);
}

// For any gradient, and also if the values start at 0 or 1.
TEST(Optimiser, DecayFactorsStayBetween0And1) {
    for (const double rate : {1.0, 1e3, 1e6})
        for (const double sign : {1.0, -1.0}) {
            reference::Network net = start();
            net.alpha[0] = 0.0, net.beta[0] = 0.0, net.kappa[0] = 0.0, net.beta[1] = 1.0;
            const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
            Backend& backend = *made;
            Network network(backend, alone(), host_network(net, alone()));
            Gradient sum(backend, alone(), network.layout);
            Optimiser optimiser(
                backend, network.layout,
                {.learning_rate = rate, .parameters = {Parameter::alpha, Parameter::beta, Parameter::kappa}});
            for (int step = 0; step < 3; ++step) {
                add_share(backend, alone(), net,
                          reference::sum(reference::zero_gradient(net), gradient_of(net, step), sign * 1e3), sum);
                const GradientNorms norms = sum.reduce(optimiser.trained());
                optimiser.update(network, sum, norms);
                const std::vector<float> values = network.values.to_host();
                for (const Parameter p : {Parameter::alpha, Parameter::beta, Parameter::kappa})
                    for (Index j = 0; j < network.layout.extent(p).count; ++j) {
                        const float a = values[static_cast<std::size_t>(network.layout.extent(p).offset + j)];
                        EXPECT_TRUE(a > 0.0f && a < 1.0f) << name_of(p) << " " << a;
                    }
            }
        }
}

TEST(Optimiser, GoesOnFromItsStateBitForBit) {
    const OptimiserOptions options{.kind = OptimiserKind::adamw,
                                   .learning_rate = 0.02,
                                   .weight_decay = 0.1,
                                   .clip = 3.0,
                                   .schedule = RateSchedule::cosine,
                                   .schedule_steps = 8,
                                   .schedule_factor = 0.1,
                                   .parameters = everything};
    on_every_grid([&](const ProcessGrid& grid) {
        const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
        Backend& backend = *made;
        Network network(backend, grid, host_network(start(), grid));
        Gradient sum(backend, grid, network.layout);
        const auto steps = [&](Network& net, Optimiser& optimiser, int first, int last) {
            for (int step = first; step < last; ++step) {
                add_share(backend, grid, start(), gradient_of(start(), step), sum);
                optimiser.update(net, sum, sum.reduce(optimiser.trained()));
            }
        };
        Optimiser optimiser(backend, network.layout, options);
        steps(network, optimiser, 0, 3);
        const OptimiserState state = optimiser.state();
        EXPECT_EQ(state.updates, 3);
        Network other(backend, grid, network.to_host());
        Optimiser continued(backend, network.layout, options);
        continued.restore(state);
        steps(network, optimiser, 3, 6);
        steps(other, continued, 3, 6);
        EXPECT_TRUE(all_equal(other.values.to_host(), network.values.to_host()));
        EXPECT_TRUE(all_equal(continued.state().second, optimiser.state().second));
    });
}

}  // namespace
}  // namespace spikefloss
