// The library gives the numbers of the passes that it calls, on arrays of the caller: the arrays of a network file make
// the same network, the gradients of its loss are those of the adjoint dL/dy, and dL/dx is that of the currents.
#include "api/held.hpp"
#include "io/network_file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <thread>

namespace spikefloss::api {
namespace {

const std::string data = SPIKEFLOSS_TEST_DATA;

std::map<std::string, View> views(const Arrays& arrays) {
    std::map<std::string, View> all;
    for (const auto& [name, array] : arrays) all[name] = {array.values.data(), array.shape};
    return all;
}

// The rules of a network, as a caller would write them.
Rules rules_of(const Held& held) {
    const NetworkModel& model = held.host.model;
    const ParameterLayout& layout = held.host.layout;
    const Topology& topology = layout.topology();
    Rules rules{.threshold = model.neuron.threshold,
                .reset = std::string(name_of(model.neuron.reset)),
                .reset_delay = model.neuron.reset_delay,
                .surrogate = std::string(name_of(model.neuron.surrogate)),
                .sharpness = model.neuron.sharpness,
                .readout = std::string(name_of(model.readout)),
                .adaptation = std::string(name_of(model.neuron.adaptation)),
                .refractory = model.refractory,
                .populations = {},
                .projections = {},
                .inputs = topology.shape.inputs,
                .readout_from = ""};
    const auto name = [&](Index p) { return topology.populations[static_cast<std::size_t>(p)].name; };
    if (topology.readout_from >= 0) rules.readout_from = name(topology.readout_from);
    for (const auto& p : topology.populations) rules.populations.push_back({p.name, p.size});
    for (Index p = static_cast<Index>(topology.projections.size()) - 1; p >= 0; --p) {  // in another order
        const auto& from = topology.projections[static_cast<std::size_t>(p)];
        Projection projection{
            .name = from.name, .to = name(from.target), .delay = from.delay, .indptr = {}, .indices = {}};
        if (from.source != from_input) projection.from = name(from.source);
        projection.sign = name_of(from.sign);
        projection.sparse = from.sparse;
        if (from.sparse) {
            projection.indptr = layout.synapses(p).row_begin;
            projection.indices = layout.synapses(p).column;
        }
        rules.projections.push_back(projection);
    }
    return rules;
}

struct Case {
    Network network;
    Batch batch;
    View x;
    explicit Case(const std::string& path) : network(read_network(path)) {
        const ProcessGrid grid(MPI_COMM_SELF, {1, 1}, 0.0);
        const Held& held = network.held();
        batch = read_sequences(path, held.host.layout.shape(), held.state_size() / network.neurons(), grid).batch;
        x = {batch.x.data(), {batch.steps, batch.sequences, batch.inputs}};
    }
};

TEST(Api, NetworkFromArrays) {
    for (const char* name : {"lif_zero_reset", "heterogeneous_time_constants", "populations/balanced_sparse",
                             "populations/adaptive_threshold", "populations/three_populations_delays"}) {
        SCOPED_TRACE(name);
        const Case given(data + "/" + name + ".h5");
        const Held& expected = given.network.held();
        const Network again(rules_of(expected), views(given.network.arrays()));
        EXPECT_EQ(again.held().host.layout.topology(), expected.host.layout.topology());
        EXPECT_EQ(again.held().host.values, expected.host.values);
        EXPECT_EQ(again.held().host.model.neuron, expected.host.model.neuron);
        EXPECT_EQ(spectrum(again, given.x, {.exponents = 3}, {.threads = 1}).log_r,
                  spectrum(given.network, given.x, {.exponents = 3}, {.threads = 1}).log_r);
        const std::string file = std::filesystem::temp_directory_path() / "spikefloss_test_api.h5";
        write_network(again, file);
        EXPECT_EQ(read_network(file).held().host.values, expected.host.values);
        std::filesystem::remove(file);
    }
}

TEST(Api, GradientsOfAdjoints) {
    const Case given(data + "/lif_zero_reset.h5");
    const Index T = given.batch.steps, B = given.batch.sequences, N = given.network.neurons();
    const Gradients task = gradients(
        given.network, given.x,
        {.label = {given.batch.label.begin(), given.batch.label.end()},
         .target = {given.batch.target.empty() ? nullptr : given.batch.target.data(), {T, B, given.network.outputs()}},
         .mask = {given.batch.mask.data(), {T, B}}});
    EXPECT_TRUE(std::isfinite(task.loss));
    // A loss L = sum of spikes at the last step, once through the spikes and once through a readout that reads them.
    Rules rules = rules_of(given.network.held());
    rules.readout = "spikes";
    Arrays arrays = given.network.arrays();
    arrays["w_out"] = {std::vector<float>(static_cast<std::size_t>(N), 1.0f), {1, N}};
    arrays["bias_out"] = arrays["kappa"] = {{0.0f}, {1}};
    const Network summed(rules, views(arrays));
    std::vector<float> dy(static_cast<std::size_t>(T * B)), ds(static_cast<std::size_t>(T * B * N));
    std::fill(dy.end() - B, dy.end(), 1.0f);
    std::fill(ds.end() - B * N, ds.end(), 1.0f);
    const PassOptions options{.constants = true, .input_gradient = true};
    Pass pass(summed, T, B, options);
    pass.forward(given.x);
    const Gradients through_readout = pass.backward({.readout = {dy.data(), {T, B, 1}}});
    const Gradients through_spikes = pass.backward({.spikes = {ds.data(), {T, B, N}}});
    for (const char* name : {"w_in", "w_rec", "bias", "alpha", "beta"})
        EXPECT_EQ(through_readout.parameters.at(name).values, through_spikes.parameters.at(name).values) << name;
    EXPECT_GT(through_spikes.state_gradient_norm.back(), 0.0);
    // dL/dx = g W_in and dL/db = the sum of g.
    const Array w_in = given.network.arrays().at("w_in"), &dx = through_spikes.input,
                &db = through_spikes.parameters.at("bias");
    const Index M = w_in.shape[1];
    for (Index m = 0; m < M; ++m) {
        double sum = 0.0, expected = 0.0;
        for (Index row = 0; row < T * B; ++row) sum += dx.values[static_cast<std::size_t>(row * M + m)];
        for (Index j = 0; j < N; ++j)
            expected += db.values[static_cast<std::size_t>(j)] * w_in.values[static_cast<std::size_t>(j * M + m)];
        EXPECT_NEAR(sum, expected, 1e-5 * std::abs(expected));
    }
}

// Without recurrent weights dL/dstate halves in each step back. It becomes 0, not a denormal number.
TEST(Api, VanishingGradientsAreZero) {
    const Case given(data + "/lif_zero_reset.h5");
    const Index T = 200, M = given.network.inputs(), O = given.network.outputs();
    Arrays arrays = given.network.arrays();
    for (const char* name : {"w_rec", "alpha"}) std::fill(arrays[name].values.begin(), arrays[name].values.end(), 0.0f);
    std::fill(arrays["beta"].values.begin(), arrays["beta"].values.end(), 0.5f);
    const Network network(rules_of(given.network.held()), views(arrays));
    const std::vector<float> x(static_cast<std::size_t>(T * M));
    std::vector<float> dy(static_cast<std::size_t>(T * O));
    std::fill(dy.end() - O, dy.end(), 1.0f);
    for (const char* sums : {"float32", "float64"}) {
        Pass pass(network, T, 1, {.constants = true}, {.sums = sums});
        pass.forward({x.data(), {T, 1, M}});
        const std::vector<double> norms = pass.backward({.readout = {dy.data(), {T, 1, O}}}).state_gradient_norm;
        EXPECT_EQ(norms.front(), 0.0);
        EXPECT_GT(norms.back(), 0.0);
        for (const double norm : norms) EXPECT_TRUE(norm == 0.0 || norm >= std::numeric_limits<float>::min()) << norm;
        EXPECT_GT(std::count_if(norms.begin(), norms.end(), [](double norm) { return norm > 0.0; }), 100);
    }
    volatile float small = std::numeric_limits<float>::min();
    EXPECT_GT(small / 2.0f, 0.0f);  // only during the calls
}

// A check is called on the thread of the caller. Its exception ends every call, and a pass then gives the same numbers.
TEST(Api, Check) {
    struct Stop {};
    const Index N = 256, T = 6000, B = 4;
    const std::vector<float> zero(N), half(N, 0.5f), ones(T * B * N, 1.0f);
    std::vector<float> w_rec(N * N);
    for (std::size_t i = 0; i < w_rec.size(); ++i) w_rec[i] = static_cast<float>(i * i % 17) / 64.0f - 0.125f;
    const View per_neuron{half.data(), {N}}, of_readout{zero.data(), {1}}, x{ones.data(), {T, B, 1}};
    const Network network({}, {{"w_in", {half.data(), {N, 1}}},
                               {"w_rec", {w_rec.data(), {N, N}}},
                               {"bias", per_neuron},
                               {"alpha", per_neuron},
                               {"beta", per_neuron},
                               {"w_out", {half.data(), {1, N}}},
                               {"bias_out", of_readout},
                               {"kappa", of_readout}});
    const Adjoint adjoint{.spikes = {ones.data(), {T, B, N}}};
    int calls = 0, last = -1;  // of the check, and the one that throws
    const std::thread::id me = std::this_thread::get_id();
    for (const char* sums : {"float64", "float32"}) {
        SCOPED_TRACE(sums);
        const Settings settings{.threads = 2, .sums = sums, .check = [&] {
                                    EXPECT_EQ(std::this_thread::get_id(), me);
                                    ++calls;
                                    if (calls == last) throw Stop();
                                }};
        // A pass that has waited calls it before its first step.
        const auto ends = [&](int at, const auto& work) {
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
            calls = 0;
            last = at;
            EXPECT_THROW(work(), Stop);
            EXPECT_EQ(calls, at);
            last = -1;
        };
        const bool loops = settings.sums == "float64";
        Pass pass(network, T, B, {}, settings);
        ends(loops ? 2 : 1, [&] { pass.forward(x); });
        EXPECT_THROW(pass.backward({}), Error);
        pass.forward(x);
        if (loops) {
            ends(1, [&] { spectrum(network, x, {.exponents = 3}, settings); });
            ends(1, [&] { floss(network, x, {.spectrum = {.exponents = 3}}, settings); });
            ends(1, [&] { gradients(network, x, {.label = std::vector<Index>(B)}, {}, settings); });
        }
        ends(loops ? 2 : 1, [&] { pass.backward(adjoint); });
        Pass fresh(network, T, B, {}, {.threads = 2, .sums = sums});
        fresh.forward(x);
        EXPECT_EQ(pass.spikes(), fresh.spikes());
        const Gradients again = pass.backward(adjoint), expected = fresh.backward(adjoint);
        for (const auto& [name, array] : expected.parameters)
            EXPECT_EQ(again.parameters.at(name).values, array.values) << name;
    }
}

TEST(Api, Faults) {
    const Case given(data + "/lif_zero_reset.h5");
    const Arrays arrays = given.network.arrays();
    const auto code = [](const auto& work) {
        try {
            work();
        } catch (const Error& error) {
            EXPECT_NE(std::string(error.what()).find("what to do"), std::string::npos) << error.what();
            return static_cast<int>(error.code());
        }
        return 0;
    };
    const auto made = [&](const auto& change) {
        Rules rules;
        std::map<std::string, View> all = views(arrays);
        change(rules, all);
        return code([&] { const Network network(rules, all); });
    };
    const float bad[] = {NAN, 1.0f};
    EXPECT_EQ(made([](Rules&, auto&) {}), 0);
    EXPECT_EQ(made([](Rules& r, auto&) { r.reset = "zer"; }), 2);
    EXPECT_EQ(made([](Rules& r, auto&) { r.sharpness = 0.0; }), 2);
    EXPECT_EQ(made([](Rules&, auto& a) { a.erase("w_rec"); }), 2);
    EXPECT_EQ(made([](Rules&, auto& a) { a["w_rec"].shape = {1, 1}; }), 2);
    EXPECT_EQ(made([](Rules&, auto& a) { a["rho"] = a["alpha"]; }), 2);
    EXPECT_EQ(made([&](Rules&, auto& a) { a["kappa"] = {bad + 1, {1}}; }), 2);
    EXPECT_EQ(made([&](Rules&, auto& a) { a["bias_out"] = {bad, {1}}; }), 2);
    View x = given.x;
    std::swap(x.shape[0], x.shape[2]);
    EXPECT_EQ(code([&] { spectrum(given.network, x, {}); }), 2);
    EXPECT_EQ(code([&] { spectrum(given.network, given.x, {.exponents = 1000}); }), 2);
    EXPECT_EQ(code([&] { gradients(given.network, given.x, {}); }), 2);
    const std::vector<float> huge(given.batch.x.size(), 3e38f);
    EXPECT_EQ(code([&] { spectrum(given.network, {huge.data(), given.x.shape}, {}); }), 3);
}

}  // namespace
}  // namespace spikefloss::api
