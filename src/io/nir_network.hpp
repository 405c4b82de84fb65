// NIR graphs as networks, and networks as NIR graphs, exactly: the same spikes at the same steps (docs/nir.md).
//
// All spiking populations become the neurons of one recurrent layer, in the order of their depth. With
// c = theta / (v_threshold - v_reset) for each neuron, and J = W s + b, what arrives:
//
//   u = c (v - v_reset)    i = c (r I + v_leak - v_reset)    rows of w_in, w_rec: c r (1-alpha) w_in W
//   bias = c r (1-alpha) w_in b + (1-alpha) c (v_leak - v_reset)             reset_delay = 0
//
// w_rec delays by one step, as an edge of NIR does within a cycle. An edge to a deeper population does not delay in
// NIR. So a population of depth d runs d steps late, from an initial state that leads to its own start in d steps.
#pragma once

#include "config/config.hpp"
#include "network/parameters.hpp"

#include <optional>
#include <string>
#include <vector>

namespace spikefloss {

// What a NIR file does not say. Options overrule the default, and must agree with metadata that spikefloss wrote. The
// surrogate and its sharpness overrule those of any file.
struct NirRules : NirConfig {
    std::optional<Surrogate> surrogate;
    double sharpness = 0.0;        // 0: not given
    std::int64_t count_steps = 0;  // w_out times this: time means of the readout become sums. 0: not given
    // Whether one is given that only a NIR file can have.
    bool of_graph() const {
        return dt > 0.0 || reset != NirReset::automatic || integration != NirIntegration::automatic ||
               order != NirOrder::automatic || count_steps > 0;
    }
};

// Which neurons of a network were which population of a graph: the attribute `nir` of /network, as JSON.
struct NirOrigin {
    struct Population {
        std::string name;
        Index first = 0, size = 0, depth = 0;
        bool operator==(const Population&) const = default;
    };
    Index delay = 0;  // steps by which the readout is later than the graph's output
    std::vector<Population> populations;
    double dt = 1e-4;
    NirIntegration integration = NirIntegration::euler;
    NirOrder order = NirOrder::fresh;
    Index count_steps = 0;

    std::string json() const;
};

// The origin of a network; the default for one that was no graph. Error(Exit::bad_file) for a wrong attribute.
NirOrigin nir_origin(const HostNetwork& network, const std::string& path);

struct NirGraph;
// The whole network, of one rank. Errors begin with `path`.
HostNetwork network_of(const NirGraph& graph, const NirRules& rules, const std::string& path);
// The inverse; network_of gives the same bits again. Error(Exit::usage) if no graph steps like the network.
NirGraph graph_of(const HostNetwork& network, const NirRules& rules, const std::string& path);

bool is_nir(const std::string& path);  // by its suffix

// This rank's part of a network: of a NIR graph, or as read_network.
HostNetwork load_network(const std::string& path, const NirRules& rules, Index neuron_shards, Index neuron_shard,
                         bool transposed = false);

// The state of a neuron before its first step.
struct NirStart {
    double current, membrane;
};
// The state from which a neuron with this bias reaches `start` in `depth` steps in which nothing arrives, and the
// inverse. Nothing if it would spike on the way.
std::optional<NirStart> earlier(NirStart start, double alpha, double beta, double bias, double threshold, Index depth);
std::optional<NirStart> later(NirStart start, double alpha, double beta, double bias, double threshold, Index depth);

}  // namespace spikefloss
