// Passes of the CPU backend over whole networks, with inputs and readout, against the loop over step operations and the
// products before and after it.
#include "backend/step_loops.hpp"

namespace spikefloss::testing_support {
namespace {

class NetworkPasses : public OperationTest {};
INSTANTIATE_TEST_SUITE_P(Backends, NetworkPasses, testing::ValuesIn(cpu_backends()),
                         [](const auto& instance) { return instance.param.name; });

Doubles to_floats(SumBuffer& sums, Backend& backend) {
    Floats values(static_cast<std::size_t>(sums.size()));
    backend.copy_out(values.data(), sums.data(), values.size() * sizeof(float));
    return widened(values);
}

// Large batches, several panels of neurons, no or many rows of inputs and readouts.
struct NetworkCase {
    Index steps, b, N, M, O;
    Readout readout;
    bool has_dz, cap;
};

TEST_P(NetworkPasses, Network) {
    int taken = 0;
    for (const NetworkCase& c : {NetworkCase{5, 3, 33, 2, 3, Readout::membrane, true, false},
                                 NetworkCase{40, 7, 67, 1, 1, Readout::spikes, true, true},
                                 NetworkCase{3, 300, 20, 2, 3, Readout::membrane, true, false},
                                 NetworkCase{34, 2, 150, 8, 2, Readout::spikes, true, false},
                                 NetworkCase{2, 40, 96, 0, 0, Readout::membrane, true, false},
                                 NetworkCase{33, 5, 1, 3, 1, Readout::membrane, false, true},
                                 NetworkCase{4, 0, 9, 2, 1, Readout::membrane, true, false}})
        for (Reset reset : all_resets) {
            SCOPED_TRACE(testing::Message() << "steps " << c.steps << ", b " << c.b << ", N " << c.N << ", M " << c.M
                                            << ", O " << c.O << ", reset " << int(reset));
            const auto [steps, b, N, M, O, readout, has_dz, cap] = c;
            const Index row = b * N, rows = steps * b;
            const Neurons net({.threshold = 0.8f, .reset = reset, .sharpness = 2.0f}, b, N);
            const Constants constants(backend, net);
            Floats w = dyadic_floats(N * N, 1);
            for (float& value : w) value *= 0.25f;
            // Dyadic inputs with few bits: their sums are exact, too, so the spikes must be equal.
            const Buffer<float> w_(backend, w), w_in(backend, dyadic_floats(N * M, 4)),
                x(backend, dyadic_floats(rows * M, 5)), w_out(backend, random_floats(O * N, 6)),
                dz(backend, random_floats(rows * O, 7));
            const Floats i0 = random_floats(row, 3);
            Buffer<float> input(backend, steps * row), y(backend, rows * O), y_(backend, rows * O);
            backend.project({N, M, w_in.data(), M}, {.values = x.data(), .stride = M},
                            Matrix<float>(input.data(), rows, N), false);
            const Trajectory expected = loop_forward(backend, {steps, b, N}, net, w_, input, i0);
            Trajectory at = start(backend, {steps, b, N}, net, i0);
            if (!backend.forward_network(net.model, constants, b, N, w_.data(),
                                         {steps, M, O, x.data(), w_in.data(), at.i.data(), row, at.u.data(),
                                          at.bits.data(), readout, w_out.data(), y.data()}))
                continue;
            ++taken;
            EXPECT_TRUE(all_equal(at.bits.to_host(), expected.bits.to_host()));
            EXPECT_TRUE(all_equal(at.u.to_host(), expected.u.to_host()));
            EXPECT_TRUE(all_equal(at.i.to_host(), expected.i.to_host()));
            const Activity z = readout == Readout::membrane
                                   ? Activity{.values = at.u.data() + row, .stride = N}
                                   : Activity{.bits = at.bits.data() + b * spike_words(N), .stride = spike_words(N)};
            backend.project({O, N, w_out.data(), N}, z, Matrix<float>(y_.data(), rows, O), false);
            EXPECT_TRUE(near_in_norm(y.to_host(), y_.to_host(), 2e-6)) << "y";

            const Floats di0 = random_floats(row, 11), du0 = random_floats(row, 12);
            const Floats dw0[] = {random_floats(N * N, 13), random_floats(N * M, 14), random_floats(N, 15),
                                  random_floats(O * N, 16)};
            const Buffer<float> extra(backend, random_floats((steps + 1) * row, 17));
            const auto run = [&](auto&& backward) {
                Buffer<float> di(backend, di0), du(backend, du0);
                Buffer<double> squares(backend, Doubles((steps + 1) * b, -1.0));
                SumBuffer dw[] = {sums_on_backend(dw0[0]), sums_on_backend(dw0[1]), sums_on_backend(dw0[2]),
                                  sums_on_backend(dw0[3])};
                const Buffer<float> limit(backend, Floats{0.9f * std::sqrt(2.0f * static_cast<float>(N))});
                const StepsBackward recurrent{steps,          at.u.data(),
                                              at.bits.data(), nullptr,
                                              readout,        cap ? extra.data() : nullptr,
                                              squares.data(), cap ? limit.data() : nullptr,
                                              di.data(),      du.data(),
                                              nullptr,        dw[0].matrix(N, N)};
                backward(NetworkBackward{recurrent, M, O, x.data(), w_out.data(), has_dz ? dz.data() : nullptr,
                                         dw[1].matrix(N, M), dw[2].matrix(1, N), dw[3].matrix(O, N)});
                return std::vector<Doubles>{widened(di.to_host()), widened(du.to_host()), squares.to_host(),
                                            to_host(dw[0]),        to_host(dw[1]),        to_host(dw[2]),
                                            to_host(dw[3])};
            };
            const auto whole = run([&](const NetworkBackward& pass) {
                EXPECT_TRUE(backend.backward_network(net.model, constants, b, N, w_.data(), pass));
            });
            const auto loop = run([&](NetworkBackward pass) {
                Buffer<float> from_readout(backend, steps * row), g(backend, steps * row);
                backend.project_transposed({O, N, w_out.data(), N}, {dz.data(), rows, O},
                                           Matrix<float>(from_readout.data(), rows, N), false);
                if (has_dz) pass.recurrent.from_readout = from_readout.data();
                pass.recurrent.g = g.data();
                loop_backward(backend, {steps, b, N}, net, w_, pass.recurrent);
                backend.add_outer({g.data(), rows, N}, {.values = x.data(), .stride = M}, pass.d_w_in);
                backend.add_column_sums({g.data(), rows, N}, pass.d_bias);
                if (has_dz) backend.add_outer({dz.data(), rows, O}, z, pass.d_w_out);
            });
            const char* names[] = {"di", "du", "squares", "dW_rec", "dW_in", "db", "dW_out"};
            for (std::size_t i = 0; i < whole.size(); ++i)
                EXPECT_TRUE(near_in_norm(whole[i], loop[i], 4e-6)) << names[i];
            if (HasFailure()) return;
        }
    if (backend.name() == "cpu" && backend.sums() == Sums::float32) {
        EXPECT_EQ(taken, 21);
    }
}

// The groups of sums do not depend on the threads.
TEST(CpuNetworkPasses, NetworksGiveTheSameBitsOnAnyThreads) {
    const Index steps = 40, b = 37, N = 70, M = 2, O = 2, row = b * N;
    std::vector<Doubles> first;
    for (int threads : {1, 2, 3, 8}) {
        const auto backend = make_backend(BackendKind::cpu, threads, Sums::float32);
        const Neurons net({.threshold = 0.8f, .sharpness = 2.0f}, b, N);
        const Constants constants(*backend, net);
        const Buffer<float> w(*backend, random_floats(N * N, 1, 0.3f)), w_in(*backend, random_floats(N * M, 2)),
            x(*backend, random_floats(steps * b * M, 3)), w_out(*backend, random_floats(O * N, 4)),
            dz(*backend, random_floats(steps * b * O, 5));
        Trajectory at = start(*backend, {steps, b, N}, net, random_floats(row, 6));
        Buffer<float> y(*backend, steps * b * O), di(*backend, row), du(*backend, row);
        SumBuffer dw(*backend, N * N), dw_in(*backend, N * M), db(*backend, N), dw_out(*backend, O * N);
        ASSERT_TRUE(backend->forward_network(net.model, constants, b, N, w.data(),
                                             {steps, M, O, x.data(), w_in.data(), at.i.data(), row, at.u.data(),
                                              at.bits.data(), Readout::membrane, w_out.data(), y.data()}));
        ASSERT_TRUE(backend->backward_network(net.model, constants, b, N, w.data(),
                                              {{steps, at.u.data(), at.bits.data(), nullptr, Readout::membrane, nullptr,
                                                nullptr, nullptr, di.data(), du.data(), nullptr, dw.matrix(N, N)},
                                               M,
                                               O,
                                               x.data(),
                                               w_out.data(),
                                               dz.data(),
                                               dw_in.matrix(N, M),
                                               db.matrix(1, N),
                                               dw_out.matrix(O, N)}));
        const std::vector<Doubles> results = {widened(y.to_host()),    widened(du.to_host()),
                                              to_floats(dw, *backend), to_floats(dw_in, *backend),
                                              to_floats(db, *backend), to_floats(dw_out, *backend)};
        if (first.empty()) first = results;
        EXPECT_EQ(results, first) << threads << " threads";
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
