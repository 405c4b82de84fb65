// The whole passes over time of every backend that has them, against the loop over its step operations.
#include "backend/step_loops.hpp"
#include "support/shape_choice.hpp"

namespace spikefloss::testing_support {
namespace {

class PassOperations : public OperationTest {};
INSTANTIATE_TEST_SUITE_P(Backends, PassOperations, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

struct PassCase {
    PassShape shape;
    Reset reset;
    float threshold;
};

// Batches around the groups of sequences that a backend may process together, neurons around the word of 32 spikes,
// every reset, rare and frequent spikes.
std::vector<PassCase> all_pass_cases() {
    std::vector<PassCase> cases;
    for (Index steps : {1, 5})
        for (Index b : {0, 1, 3, 6, 7, 13})
            for (Index N : {1, 31, 32, 33, 67})
                for (Reset reset : all_resets)
                    for (float threshold : {0.3f, 2.5f}) cases.push_back({{steps, b, N}, reset, threshold});
    return cases;
}

Factors factors_of(const PassCase& c) {
    return {c.shape.steps, c.shape.b, c.shape.N, static_cast<long long>(c.reset), std::lround(10.0f * c.threshold)};
}

TEST(PassCases, FewCoverEveryPair) {
    const std::vector<PassCase> all = all_pass_cases(), few = few_of(all, factors_of);
    EXPECT_TRUE(covers_every_pair(few, all, factors_of));
    EXPECT_LE(few.size(), all.size() / 8);
}

// test(shape, neurons, w, input, i0) on the chosen cases.
template <class Test>
void for_every_pass(Test&& test) {
    for (const auto& [shape, reset, threshold] : chosen_of(all_pass_cases(), factors_of)) {
        SCOPED_TRACE(testing::Message() << "steps " << shape.steps << ", b " << shape.b << ", N " << shape.N
                                        << ", reset " << int(reset) << ", threshold " << threshold);
        const Neurons net({.threshold = threshold, .reset = reset, .sharpness = 2.0f}, shape.b, shape.N);
        // Dyadic weights: the recurrent sums are exact in any order, so spikes and states must agree in every bit.
        Floats w = dyadic_floats(shape.N * shape.N, 1);
        for (float& x : w) x *= 0.25f;
        test(shape, net, w, random_floats(shape.steps * shape.b * shape.N, 2), random_floats(shape.b * shape.N, 3));
        if (testing::Test::HasFailure()) return;
    }
}

TEST_P(PassOperations, Forward) {
    for_every_pass(
        [&](const PassShape& shape, const Neurons& net, const Floats& w, const Floats& input, const Floats& i0) {
            const auto [steps, b, N] = shape;
            const Index row = b * N;
            const Buffer<float> w_(backend, w), input_(backend, input);
            const Constants constants(backend, net);
            const Trajectory expected = loop_forward(backend, shape, net, w_, input_, i0);
            for (Index i_stride : {row, Index{0}}) {
                Trajectory at = start(backend, shape, net, i0);
                if (!backend.forward_steps(net.model, constants, steps, b, N, w_.data(), input_.data(), at.i.data(),
                                           i_stride, at.u.data(), at.bits.data()))
                    continue;
                EXPECT_TRUE(all_equal(at.bits.to_host(), expected.bits.to_host()));
                EXPECT_TRUE(all_equal(at.u.to_host(), expected.u.to_host()));
                const Floats i = at.i.to_host(), expected_i = expected.i.to_host();
                if (i_stride)
                    EXPECT_TRUE(all_equal(i, expected_i));
                else
                    EXPECT_TRUE(all_equal(Floats(i.begin(), i.begin() + row),
                                          Floats(expected_i.end() - row, expected_i.end())));
            }
        });
}

struct BackwardInput {
    bool from_readout, extra, squares, cap;
    Readout readout;
};

TEST_P(PassOperations, Backward) {
    const BackwardInput inputs[] = {{true, false, true, false, Readout::membrane},
                                    {true, true, true, true, Readout::spikes},
                                    {false, true, false, true, Readout::membrane},
                                    {false, true, false, false, Readout::spikes}};
    for_every_pass(
        [&](const PassShape& shape, const Neurons& net, const Floats& w, const Floats& input, const Floats& i0) {
            const auto [steps, b, N] = shape;
            const Index row = b * N;
            const Buffer<float> w_(backend, w), input_(backend, input);
            const Constants constants(backend, net);
            const Trajectory at = loop_forward(backend, shape, net, w_, input_, i0);
            for (const BackwardInput& in : inputs) {
                SCOPED_TRACE(testing::Message()
                             << "readout part " << in.from_readout << ", extra " << in.extra << ", cap " << in.cap);
                const Floats di0 = random_floats(row, 11), du0 = random_floats(row, 12), dw0 = random_floats(N * N, 13);
                const Buffer<float> from_readout(backend, random_floats(steps * row, 14)),
                    extra(backend, random_floats((steps + 1) * row, 15));
                const Buffer<float> limit(backend, Floats{0.9f * std::sqrt(2.0f * static_cast<float>(N))});

                Buffer<float> di(backend, di0), du(backend, du0), g(backend, steps * row);
                Buffer<double> squares(backend, Doubles((steps + 1) * b, -1.0));
                SumBuffer dw = sums_on_backend(dw0);
                const StepsBackward pass{steps,
                                         at.u.data(),
                                         at.bits.data(),
                                         in.from_readout ? from_readout.data() : nullptr,
                                         in.readout,
                                         in.extra ? extra.data() : nullptr,
                                         in.squares ? squares.data() : nullptr,
                                         in.cap ? limit.data() : nullptr,
                                         di.data(),
                                         du.data(),
                                         g.data(),
                                         dw.matrix(N, N)};
                if (!backend.backward_steps(net.model, constants, b, N, w_.data(), pass)) return;

                Buffer<float> di_(backend, di0), du_(backend, du0), g_(backend, steps * row);
                Buffer<double> squares_(backend, Doubles((steps + 1) * b, -1.0));
                SumBuffer dw_ = sums_on_backend(dw0);
                StepsBackward loop = pass;
                loop.squares = in.squares ? squares_.data() : nullptr;
                loop.di = di_.data(), loop.du = du_.data(), loop.g = g_.data(), loop.d_w_rec = dw_.matrix(N, N);
                loop_backward(backend, shape, net, w_, loop);
                EXPECT_TRUE(near_in_norm(g.to_host(), g_.to_host(), 2e-6)) << "g";
                EXPECT_TRUE(near_in_norm(di.to_host(), di_.to_host(), 2e-6)) << "di";
                EXPECT_TRUE(near_in_norm(du.to_host(), du_.to_host(), 2e-6)) << "du";
                EXPECT_TRUE(near_in_norm(to_host(dw), to_host(dw_), 2e-6)) << "dW_rec";
                EXPECT_TRUE(near_in_norm(squares.to_host(), squares_.to_host(), 4e-6)) << "squares";
            }
        });
}

// The same arrays in every call, as in training: a backend that has recorded the pass must use the new contents of the
// arrays.
TEST_P(PassOperations, RepeatedWithOtherValues) {
    const PassShape shape{5, 6, 67};
    const auto [steps, b, N] = shape;
    const Index row = b * N;
    const Neurons net({.threshold = 0.3f, .sharpness = 2.0f}, b, N);
    const Constants constants(backend, net);
    Floats w = dyadic_floats(N * N, 1);
    for (float& x : w) x *= 0.25f;
    const Floats i0 = random_floats(row, 3);
    Buffer<float> w_(backend, w), input(backend, steps * row), from_readout(backend, steps * row), di(backend, row),
        du(backend, row), g(backend, steps * row), limit(backend, 1);
    Trajectory at = start(backend, shape, net, i0);
    SumBuffer dw(backend, N * N);
    Doubles g_of_run[4];
    for (std::uint64_t run = 0; run < 4; ++run) {
        input.copy_in(random_floats(steps * row, 20 + run / 2).data());  // every input twice
        from_readout.copy_in(random_floats(steps * row, 30 + run / 2).data());
        backend.copy_in(at.i.data(), i0.data(), row * sizeof(float));
        if (!backend.forward_steps(net.model, constants, steps, b, N, w_.data(), input.data(), at.i.data(), row,
                                   at.u.data(), at.bits.data()))
            return;
        const Trajectory expected = loop_forward(backend, shape, net, w_, input, i0);
        EXPECT_TRUE(all_equal(at.u.to_host(), expected.u.to_host())) << "run " << run;
        EXPECT_TRUE(all_equal(at.bits.to_host(), expected.bits.to_host())) << "run " << run;
        di.zero(), du.zero(), g.zero(), dw.zero();
        limit.copy_in(Floats{run / 2 ? 2.0f : 5.0f}.data());
        StepsBackward pass{steps,    at.u.data(),    at.bits.data(), from_readout.data(), Readout::membrane,
                           nullptr,  nullptr,        limit.data(),   di.data(),           du.data(),
                           g.data(), dw.matrix(N, N)};
        ASSERT_TRUE(backend.backward_steps(net.model, constants, b, N, w_.data(), pass));
        g_of_run[run] = widened(g.to_host());
        Buffer<float> di_(backend, row), du_(backend, row), g_(backend, steps * row);
        SumBuffer dw_(backend, N * N);
        pass.di = di_.data(), pass.du = du_.data(), pass.g = g_.data(), pass.d_w_rec = dw_.matrix(N, N);
        loop_backward(backend, shape, net, w_, pass);
        EXPECT_TRUE(near_in_norm(g.to_host(), g_.to_host(), 2e-6)) << "run " << run;
        // dW_rec = sum of g s'.
        SumBuffer product(backend, N * N);
        backend.add_outer({g.data(), steps * b, N}, {.bits = at.bits.data(), .stride = spike_words(N)},
                          product.matrix(N, N));
        EXPECT_TRUE(near_in_norm(to_host(dw), to_host(product), 2e-6)) << "run " << run;
    }
    EXPECT_EQ(g_of_run[0], g_of_run[1]);
    EXPECT_EQ(g_of_run[2], g_of_run[3]);
    EXPECT_NE(g_of_run[0], g_of_run[2]);
}

// Without this check the two tests above could compare nothing.
TEST(CpuPasses, AreTakenWithFloatSums) {
    for (Sums sums : {Sums::float32, Sums::float64}) {
        const auto backend = make_backend(BackendKind::cpu, 2, sums);
        const PassShape shape{1, 2, 3};
        const Neurons net({}, 2, 3);
        const Constants constants(*backend, net);
        const Buffer<float> w(*backend, 9), input(*backend, 6);
        Trajectory at = start(*backend, shape, net, Floats(6, 0.0f));
        EXPECT_EQ(backend->forward_steps(net.model, constants, 1, 2, 3, w.data(), input.data(), at.i.data(), 6,
                                         at.u.data(), at.bits.data()),
                  sums == Sums::float32);
    }
}

// More neurons than the lanes of a warp have words, and dW in parts: large networks with all multiprocessors.
TEST_P(PassOperations, LargeNetwork) {
    const PassShape shape{2, 3, 1060};
    const auto [steps, b, N] = shape;
    const Neurons net({.threshold = 0.5f, .sharpness = 2.0f}, b, N);
    const Constants constants(backend, net);
    Floats w = dyadic_floats(N * N, 1);
    for (float& x : w) x *= 0x1p-4f;
    const Buffer<float> w_(backend, w), input(backend, random_floats(steps * b * N, 2));
    const Floats i0 = random_floats(b * N, 3);
    Trajectory at = start(backend, shape, net, i0);
    if (!backend.forward_steps(net.model, constants, steps, b, N, w_.data(), input.data(), at.i.data(), b * N,
                               at.u.data(), at.bits.data()))
        return;
    const Trajectory expected = loop_forward(backend, shape, net, w_, input, i0);
    EXPECT_TRUE(all_equal(at.u.to_host(), expected.u.to_host()));
    EXPECT_TRUE(all_equal(at.bits.to_host(), expected.bits.to_host()));

    Buffer<float> di(backend, b * N), du(backend, random_floats(b * N, 5)), g(backend, steps * b * N);
    SumBuffer dw(backend, N * N), product(backend, N * N);
    if (!backend.backward_steps(net.model, constants, b, N, w_.data(),
                                {steps, at.u.data(), at.bits.data(), nullptr, Readout::membrane, nullptr, nullptr,
                                 nullptr, di.data(), du.data(), g.data(), dw.matrix(N, N)}))
        return;
    backend.add_outer({g.data(), steps * b, N}, {.bits = at.bits.data(), .stride = spike_words(N)},
                      product.matrix(N, N));
    EXPECT_TRUE(near_in_norm(to_host(dw), to_host(product), 2e-6));
}

}  // namespace
}  // namespace spikefloss::testing_support
