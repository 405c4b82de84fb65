// Loads a network from either kind of file, and keeps in a network which graph it was.
#include "io/nir_network.hpp"

#include "core/error.hpp"
#include "io/network_file.hpp"
#include "io/nir_graph.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace spikefloss {

std::optional<NirStart> earlier(NirStart start, double alpha, double beta, double bias, double threshold, Index depth) {
    double i = start.current, u = start.membrane;
    for (Index step = 0;; ++step) {
        if (beta == 0.0) u = 0.0;  // what was before does not matter
        if (u > threshold) return std::nullopt;
        if (step == depth) return NirStart{alpha > 0.0 ? i + 0.0 : 0.0, u + 0.0};  // no -0
        const double arrived = alpha > 0.0 ? i : bias;
        if (beta > 0.0) u = (u - (1.0 - beta) * arrived) / beta;
        if (alpha > 0.0) i = (arrived - bias) / alpha;
    }
}

std::optional<NirStart> later(NirStart start, double alpha, double beta, double bias, double threshold, Index depth) {
    double i = start.current, u = start.membrane;
    for (Index step = 0;; ++step) {
        if (u > threshold) return std::nullopt;
        if (step == depth) return NirStart{i, u};
        i = alpha * i + bias;
        u = beta * u + (1.0 - beta) * i;
    }
}

bool is_nir(const std::string& path) { return path.ends_with(".nir"); }

HostNetwork load_network(const std::string& path, const NirRules& rules, Index neuron_shards, Index neuron_shard,
                         bool transposed) {
    if (!is_nir(path)) {
        require(!rules.of_graph(), Exit::usage,
                fmt::format("{}: dt, reset, integration, order or count-steps was given, which are for a NIR file "
                            "(NAME.nir)",
                            path),
                "leave them out: a file with /network states its rule; NIR files have names that end in .nir");
        HostNetwork network = read_network(path, neuron_shards, neuron_shard, transposed);
        if (rules.surrogate) network.model.neuron.surrogate = *rules.surrogate;
        if (rules.sharpness > 0.0) network.model.neuron.sharpness = static_cast<float>(rules.sharpness);
        return network;
    }
    HostNetwork whole = network_of(read_nir(path), rules, path);
    const NetworkShape shape = whole.layout.shape();
    require_shards(path, shape, neuron_shards);
    HostNetwork part{whole.model, ParameterLayout(shape, neuron_shards, neuron_shard), {}, true, whole.nir};
    part.values.resize(static_cast<std::size_t>(part.layout.size()));
    for (const Segment& mine : part.layout.segments()) {
        const Segment& all = whole.layout.segment(mine.parameter);
        for (Index r = 0; r < mine.rows; ++r)
            std::copy_n(whole.values.begin() + all.offset + (mine.row + r) * all.cols + mine.col, mine.cols,
                        part.values.begin() + mine.offset + r * mine.cols);
    }
    return part;
}

std::string NirOrigin::json() const {
    nlohmann::ordered_json text, names = nlohmann::ordered_json::object(), depths = names;
    for (const Population& p : populations) {
        names[p.name] = {p.first, p.size};
        depths[p.name] = p.depth;
    }
    text["delay"] = delay;
    text["populations"] = names;
    text["depth"] = depths;
    text["dt"] = dt;
    text["integration"] = name_of(integration);
    text["order"] = name_of(order);
    text["count_steps"] = nullptr;
    if (count_steps > 0) text["count_steps"] = count_steps;
    return text.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

NirOrigin nir_origin(const HostNetwork& network, const std::string& path) {
    NirOrigin origin;
    const Index N = network.layout.shape().neurons;
    if (network.nir.empty()) return origin;
    try {
        const auto text = nlohmann::ordered_json::parse(network.nir);
        origin.delay = text.at("delay");
        origin.dt = text.at("dt");
        origin.integration = find_choice<NirIntegration>(text.at("integration").get<std::string>()).value();
        if (text.contains("order")) origin.order = find_choice<NirOrder>(text["order"].get<std::string>()).value();
        if (text.contains("count_steps") && !text["count_steps"].is_null()) origin.count_steps = text["count_steps"];
        for (const auto& [name, place] : text.at("populations").items())
            origin.populations.push_back({name, place.at(0), place.at(1), text.at("depth").at(name)});
        Index neurons = 0;
        for (const NirOrigin::Population& p : origin.populations) {
            if (p.first != neurons || p.size < 1 || p.size > N || p.depth < 0 || p.depth > N)
                throw Error(Exit::bad_file, "order");
            neurons += p.size;
        }
        if (neurons != N || origin.delay < 0 || origin.delay > N || !(origin.dt > 0.0) || origin.count_steps < 0)
            throw Error(Exit::bad_file, "size");
    } catch (const std::exception&) {
        throw Error(Exit::bad_file,
                    fmt::format("{}: attribute nir of /network does not describe its {} neurons", path, N),
                    "spikefloss convert writes it; without the attribute the network is one population");
    }
    return origin;
}

}  // namespace spikefloss
