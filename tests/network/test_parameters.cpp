// The layout of parameters: every element of every global array is on exactly one neuron shard (replicated ones on
// all), at the place given by the segments; names; and the agreement of ranks about a network.
#include "backend/instruction_sets.hpp"
#include "core/error.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <map>
#include <tuple>

namespace spikefloss {
namespace {

using namespace testing_support;

TEST(ParameterLayout, CoversEveryElementOnce) {
    for (const Index shards : {1, 2, 3, 7}) {
        const NetworkShape shape{7, 3, 2};
        std::map<Parameter, std::vector<int>> seen;
        for (Index shard = 0; shard < shards; ++shard) {
            const ParameterLayout layout(shape, shards, shard);
            Index offset = 0;
            for (const Segment& s : layout.segments()) {
                EXPECT_EQ(s.offset, offset);
                offset += s.size();
                EXPECT_EQ(s.replicated, s.parameter == Parameter::bias_out || s.parameter == Parameter::kappa);
                auto& counts = seen[s.parameter];
                counts.resize(static_cast<std::size_t>(s.global_rows * s.global_cols), 0);
                for (Index r = 0; r < s.rows; ++r)
                    for (Index c = 0; c < s.cols; ++c)
                        ++counts.at(static_cast<std::size_t>((s.row + r) * s.global_cols + s.col + c));
            }
            EXPECT_EQ(offset, layout.size());
            Index begin = 0;
            for (Parameter p : all_parameters) {
                if (!layout.has(p)) continue;
                EXPECT_EQ(layout.extent(p).offset, begin);
                begin += layout.extent(p).count;
            }
            EXPECT_EQ(begin, layout.size());
        }
        const std::map<Parameter, std::size_t> sizes = {{Parameter::w_in, 21},
                                                        {Parameter::w_rec, 49},
                                                        {Parameter::bias, 7},
                                                        {Parameter::w_out, 14},
                                                        {Parameter::bias_out, 2},
                                                        {Parameter::alpha, 7},
                                                        {Parameter::beta, 7},
                                                        {Parameter::kappa, 2},
                                                        {Parameter::initial_current, 7},
                                                        {Parameter::initial_membrane, 7}};
        for (const auto& [p, size] : sizes) {
            const bool replicated = p == Parameter::bias_out || p == Parameter::kappa;
            EXPECT_EQ(seen[p], std::vector<int>(size, replicated ? static_cast<int>(shards) : 1)) << name_of(p);
        }
    }
}

// The sharded matrix itself, so that two wrong conventions cannot cancel.
TEST(ParameterLayout, KeepsWholeRowsOfRecurrentWeights) {
    const ParameterLayout layout({5, 1, 1}, 2, 1);  // rows 2..4
    EXPECT_EQ(layout.extent(Parameter::w_rec).count, 15);
    const Segment& s = layout.segment(Parameter::w_rec);
    EXPECT_EQ(std::tuple(s.parameter, s.row, s.rows, s.col, s.cols), std::tuple(Parameter::w_rec, 2, 3, 0, 5));
}

TEST(Parameters, NamesAreThoseOfTheFiles) {
    std::vector<std::string> names, reference_names;
    for (Parameter p : all_parameters) names.emplace_back(name_of(p));
    names.resize(reference::all_parameters.size());  // the reference has those of the plain form
    for (const auto& [name, values] : reference::all_parameters) reference_names.emplace_back(name);
    EXPECT_EQ(names, reference_names);
}

// One neuron with a synaptic current makes the state 2N on every rank, also on ranks that own only alpha = 0.
TEST(Network, RanksAgreeOnTheStateSize) {
    on_every_grid([](const ProcessGrid& grid) {
        const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
        Backend& backend = *made;
        reference::Network net = reference::random_network({.neurons = 9, .has_current = false});
        EXPECT_EQ(Network(backend, grid, host_network(net, grid)).state_size(), 9);
        net.alpha[8] = 0.5;
        EXPECT_EQ(Network(backend, grid, host_network(net, grid)).state_size(), 18);
    });
}

TEST(Network, ComesBackAsItWas) {
    on_every_grid([](const ProcessGrid& grid) {
        const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
        Backend& backend = *made;
        const reference::Network net = reference::random_network({.neurons = 9, .initial_state = true});
        const HostNetwork back = Network(backend, grid, host_network(net, grid)).to_host();
        const reference::Parameters global = gathered_parameters(grid, back.layout, back.values);
        for (const auto& [name, values] : reference::all_parameters)
            EXPECT_TRUE(all_near(global.*values, net.*values, 3e-7)) << name;
    });
}

}  // namespace
}  // namespace spikefloss
