// A network as a NIR graph: input -> NAME.in -> NAME (CubaLIF, or LIF if every alpha is 0) <-> NAME.w_rec, and from
// there to the next population or NAME.out, [out.li (LI) if there is a kappa,] output. Parameters are those that
// snnTorch writes and takes: tau_mem = dt/(1-beta), r = tau_mem/dt, tau_syn = dt/(1-alpha), w_in = tau_syn/dt, weights
// (1-beta) W, so that v' = beta v + I', I' = alpha I + W s. An initial state becomes v_reset and v_leak: v = u +
// v_reset, and v starts at 0.
#include "io/nir_graph.hpp"
#include "io/nir_network.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace spikefloss {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

class Export {
public:
    Export(const HostNetwork& network, const NirRules& rules, const std::string& path)
        : network_(network), path_(path), origin_(nir_origin(network, path)) {
        const NeuronModel& neuron = network.model.neuron;
        threshold_ = static_cast<double>(neuron.threshold);
        if (rules.dt > 0.0) origin_.dt = rules.dt;
        if (rules.integration != NirIntegration::automatic) origin_.integration = rules.integration;
        if (origin_.populations.empty()) origin_.populations.push_back({"rec.lif", 0, neurons(), 0});
        if (rules.count_steps > 0) origin_.count_steps = rules.count_steps;
        require_rules(rules);
        diagonal_ = neuron.reset_delay == 1 && neuron.reset == Reset::subtract ? threshold_ : 0.0;
    }

    NirGraph graph() {
        for (const NirOrigin::Population& p : origin_.populations) names_.insert({p.name, spikes_of(p)});
        input_ = unused("input");
        output_ = unused("output");
        add({input_, "Input", {{"shape", {{1}, {static_cast<double>(network_.layout.shape().inputs)}}}}, {}});
        for (const NirOrigin::Population& p : origin_.populations) add_population(p);
        add_readout();
        std::sort(graph_.nodes.begin(), graph_.nodes.end(),
                  [](const NirNode& a, const NirNode& b) { return a.name < b.name; });
        require_same_again();
        return std::move(graph_);
    }

private:
    [[noreturn]] void fail(const std::string& problem, const std::string& suggestion) const {
        throw Error(Exit::usage, fmt::format("{}: no NIR graph steps like this network: {}", path_, problem),
                    suggestion);
    }

    Index neurons() const { return network_.layout.shape().neurons; }
    Index outputs() const { return network_.layout.shape().outputs; }
    float stored(Parameter parameter, Index row, Index col) const {
        const Segment& segment = network_.layout.segment(parameter);
        return network_.values[at(segment.offset + row * segment.cols + col)];
    }
    double value(Parameter parameter, Index col) const { return static_cast<double>(stored(parameter, 0, col)); }

    // What no graph can do.
    void require_rules(const NirRules& rules) const {
        const NetworkModel& model = network_.model;
        const NeuronModel& neuron = model.neuron;
        const bool current = network_.has_current();
        const Topology& topology = network_.layout.topology();
        if (!topology.plain())
            fail("its populations and projections have no form in a NIR graph yet",
                 "write it as HDF5 (NAME.h5), which keeps them");
        if (topology.thresholds || topology.adaptation || model.refractory > 0)
            fail(topology.adaptation   ? "its neurons adapt"
                 : topology.thresholds ? "its neurons have thresholds of their own"
                                       : "its neurons are refractory",
                 "no node of NIR that this program knows does so: write it as HDF5 (NAME.h5)");
        if (neuron.reset == Reset::none && current)
            fail("reset none: CubaLIF always resets",
                 "train with reset subtract or zero, or without currents (tau_syn = 0)");
        if (neuron.reset == Reset::zero && neuron.reset_delay == 1)
            fail("reset zero with reset_delay 1: it loses the input of the step after a spike, and NIR resets at once",
                 "train with network.reset_delay = 0");
        if (neuron.reset == Reset::subtract && neuron.reset_delay == 1 && current)
            fail("reset subtract with reset_delay 1 and currents: NIR resets at once",
                 "train with network.reset_delay = 0, or without currents (tau_syn = 0)");
        if (model.readout != Readout::spikes)
            fail("readout membrane: the nodes of NIR pass on spikes only", "train with network.readout = \"spikes\"");
        if (!(neuron.threshold > 0.0f))
            fail(fmt::format("threshold {}: a membrane of NIR starts at its reset value, below the threshold",
                             neuron.threshold),
                 "train with a threshold above 0");
        if (rules.reset != NirReset::automatic && name_of(rules.reset) != name_of(neuron.reset))
            fail(fmt::format("its reset is {}, but {} was asked for", name_of(neuron.reset), name_of(rules.reset)),
                 "leave out --reset: it is for NIR files that do not say");
        if (rules.order == NirOrder::old && current)
            fail("order old: its currents reach the membranes in the same step", "leave out --order");
    }

    // A name that no population has, and no other node.
    std::string unused(std::string name) {
        while (!names_.insert(name).second) name += "_";
        return name;
    }

    void add(NirNode node) { graph_.nodes.push_back(std::move(node)); }

    // The node `name` with these weights and this bias (Linear without one), between two others.
    void link(const std::string& source, const std::string& target, const std::string& wanted, NirArray weight,
              const std::vector<double>& bias) {
        const std::string name = unused(wanted);
        NirNode node{name, "Linear", {}, {}};
        if (std::any_of(bias.begin(), bias.end(), [](double b) { return b != 0.0; })) {
            node.type = "Affine";
            node.parameters["bias"] = {{static_cast<Index>(bias.size())}, bias};
        }
        node.parameters["weight"] = std::move(weight);
        add(std::move(node));
        graph_.edges.emplace_back(source, name);
        graph_.edges.emplace_back(name, target);
    }

    double tau(double decay) const {
        if (origin_.integration == NirIntegration::euler) return origin_.dt / (1.0 - decay);
        if (decay == 0.0) fail("integration exponential: a decay of 0 has no time constant", "use --integration euler");
        return -origin_.dt / std::log(decay);
    }

    // Factor of the weights that arrive at neuron n.
    double gain(Index n) const { return 1.0 - value(Parameter::beta, n); }

    // A block of a matrix. scale(r): factor of its row.
    template <class Scale>
    NirArray block(Parameter parameter, Index row, Index rows, Index col, Index cols, Scale&& scale) const {
        NirArray array{{rows, cols}, {}};
        for (Index r = 0; r < rows; ++r)
            for (Index c = 0; c < cols; ++c) {
                double weight = static_cast<double>(stored(parameter, row + r, col + c));
                if (parameter == Parameter::w_rec && row + r == col + c) weight -= diagonal_;
                array.values.push_back(scale(r) * weight);
            }
        return array;
    }

    static bool is_zero(const NirArray& array) {
        return std::all_of(array.values.begin(), array.values.end(), [](double v) { return v == 0.0; });
    }

    void add_population(const NirOrigin::Population& p) {
        const bool current = [&] {
            for (Index n = 0; n < p.size; ++n)
                if (value(Parameter::alpha, p.first + n) > 0.0) return true;
            return false;
        }();
        const bool resets = network_.model.neuron.reset != Reset::none;
        std::map<std::string, std::vector<double>> values;
        std::vector<double> bias;
        for (Index n = p.first; n < p.first + p.size; ++n) {
            const double alpha = value(Parameter::alpha, n), beta = value(Parameter::beta, n);
            const double b = value(Parameter::bias, n);
            const NirStart start = start_of(n, p.depth);
            const double reset = -start.membrane, rest = alpha > 0.0 ? start.current : 0.0;
            values["r"].push_back(1.0 / (1.0 - beta));
            values[current ? "tau_mem" : "tau"].push_back(tau(beta));
            if (current) {
                values["tau_syn"].push_back(tau(alpha));
                values["w_in"].push_back(1.0 / (1.0 - alpha));
            }
            values["v_leak"].push_back(rest + reset);
            values[resets ? "v_threshold" : "threshold"].push_back(threshold_ + reset);
            if (resets) values["v_reset"].push_back(reset);
            bias.push_back(gain(n) * (b - (1.0 - alpha) * rest));
        }
        NirNode node{p.name, !resets ? "LI" : current ? "CubaLIF" : "LIF", {}, metadata()};
        for (auto& [name, array] : values)
            if (name != "threshold") node.parameters[name] = {{p.size}, array};
        add(node);
        if (!resets) {
            add({spikes_of(p), "Threshold", {{"threshold", {{p.size}, values["threshold"]}}}, {}});
            graph_.edges.emplace_back(p.name, spikes_of(p));
        }
        const auto scale = [&](Index r) { return gain(p.first + r); };
        if (p.depth == 0)
            link(input_, p.name, stem(p) + ".in",
                 block(Parameter::w_in, p.first, p.size, 0, network_.layout.shape().inputs, scale), bias);
        for (const NirOrigin::Population& q : origin_.populations) {
            NirArray weights = block(Parameter::w_rec, p.first, p.size, q.first, q.size, scale);
            const bool forward = q.depth == p.depth - 1;
            if (is_zero(weights) && !forward) continue;
            const std::string name =
                q.name == p.name ? stem(p) + ".w_rec" : fmt::format("{}.from_{}", stem(p), stem(q));
            link(spikes_of(q), p.name, name, std::move(weights), forward ? bias : std::vector<double>());
            if (forward) bias.clear();  // once
        }
    }

    // Without an initial state, v_reset = v_leak = 0. Neurons that are late start at the state that leads there.
    NirStart start_of(Index n, Index depth) const {
        const double alpha = value(Parameter::alpha, n), beta = value(Parameter::beta, n),
                     b = value(Parameter::bias, n);
        const NirStart stated{value(Parameter::initial_current, n), value(Parameter::initial_membrane, n)};
        const auto rounded = earlier({0.0, 0.0}, alpha, beta, b, threshold_, depth);
        if (rounded && static_cast<float>(rounded->current) == static_cast<float>(stated.current) &&
            static_cast<float>(rounded->membrane) == static_cast<float>(stated.membrane))
            return {0.0, 0.0};
        const auto start = later(stated, alpha, beta, b, threshold_, depth);
        if (!start || (alpha == 0.0 && stated.current != 0.0))
            fail(fmt::format("neuron {} has initial_current {} and initial_membrane {}", n, stated.current,
                             stated.membrane),
                 "NIR starts below the threshold, and LIF has no current: set the initial state to 0");
        return *start;
    }

    void add_readout() {
        const double steps = origin_.count_steps > 0 ? static_cast<double>(origin_.count_steps) : 1.0;
        const auto scale = [&](Index) { return 1.0 / steps; };
        std::vector<double> bias;
        bool filtered = false;
        for (Index o = 0; o < outputs(); ++o) {
            bias.push_back(value(Parameter::bias_out, o) / steps);
            filtered = filtered || value(Parameter::kappa, o) > 0.0;
        }
        add({output_, "Output", {{"shape", {{1}, {static_cast<double>(outputs())}}}}, {}});
        const std::string last = filtered ? unused("out.li") : output_;
        if (filtered) {
            std::vector<double> taus, ones(at(outputs()), 1.0), zeros(at(outputs()), 0.0);
            for (Index o = 0; o < outputs(); ++o) taus.push_back(tau(value(Parameter::kappa, o)));
            const std::vector<Index> shape = {outputs()};
            add({last, "LI", {{"tau", {shape, taus}}, {"r", {shape, ones}}, {"v_leak", {shape, zeros}}}, {}});
            graph_.edges.emplace_back(last, output_);
        }
        bool linked = false;
        for (const NirOrigin::Population& q : origin_.populations) {
            NirArray weights = block(Parameter::w_out, 0, outputs(), q.first, q.size, scale);
            const bool whole = origin_.populations.size() == 1;
            if (is_zero(weights) && !whole) continue;
            const bool biased = std::any_of(bias.begin(), bias.end(), [](double b) { return b != 0.0; });
            if (is_identity(weights) && !biased) {
                graph_.edges.emplace_back(spikes_of(q), last);
            } else {
                link(spikes_of(q), last, whole ? "out.fc" : fmt::format("out.from_{}", stem(q)), std::move(weights),
                     bias);
                bias.clear();
            }
            linked = true;
        }
        if (!linked) fail("no neuron reaches the readout", "w_out is 0 throughout");
    }

    static bool is_identity(const NirArray& array) {
        if (array.shape[0] != array.shape[1]) return false;
        for (Index r = 0; r < array.shape[0]; ++r)
            for (Index c = 0; c < array.shape[1]; ++c)
                if (array.values[at(r * array.shape[1] + c)] != (r == c ? 1.0 : 0.0)) return false;
        return true;
    }

    // "rec" of "rec.lif"
    static std::string stem(const NirOrigin::Population& p) {
        return p.name.ends_with(".lif") ? p.name.substr(0, p.name.size() - 4) : p.name;
    }
    std::string spikes_of(const NirOrigin::Population& p) const {
        return network_.model.neuron.reset == Reset::none ? stem(p) + ".threshold" : p.name;
    }

    std::map<std::string, AttributeValue> metadata() const {
        const NeuronModel& neuron = network_.model.neuron;
        std::map<std::string, AttributeValue> all = {
            {"program", std::string("spikefloss")},
            {"dt", origin_.dt},
            {"integration", std::string(name_of(origin_.integration))},
            {"order", std::string(name_of(NirOrder::fresh))},
            {"reset", std::string(name_of(neuron.reset))},
            {"reset_delay", static_cast<std::int64_t>(neuron.reset_delay)},
            {"surrogate", std::string(name_of(neuron.surrogate))},
            {"sharpness", static_cast<double>(neuron.sharpness)},
        };
        if (origin_.count_steps > 0) all["count_steps"] = static_cast<std::int64_t>(origin_.count_steps);
        return all;
    }

    // What is read back must be the network, in every bit.
    void require_same_again() const {
        NirGraph graph = graph_;
        for (NirNode& node : graph.nodes)  // as they are read
            for (auto& [key, value] : node.metadata)
                if (const auto* whole = std::get_if<std::int64_t>(&value)) value = static_cast<double>(*whole);
        const HostNetwork again = network_of(graph, {}, path_);
        const char* const advice =
            "it was changed since it was a graph: remove the attribute nir of /network to write it "
            "as one population";
        if (again.layout.shape() != network_.layout.shape() || again.model.neuron != network_.model.neuron ||
            nir_origin(again, path_).populations != origin_.populations)
            fail("its populations or its rule would come out otherwise", advice);
        for (const Segment& segment : network_.layout.segments())
            for (Index i = 0; i < segment.size(); ++i) {
                const float before = network_.values[at(segment.offset + i)],
                            after = again.values[at(segment.offset + i)];
                if (before != after)
                    fail(fmt::format("{}[{}, {}] = {} would come out as {}", name_of(segment.parameter),
                                     i / segment.cols, i % segment.cols, before, after),
                         origin_.populations.size() > 1 ? advice
                                                        : "the parameter is too small or too large for float64");
            }
    }

    const HostNetwork& network_;
    const std::string& path_;
    NirOrigin origin_;
    NirGraph graph_;
    std::set<std::string> names_;
    std::string input_, output_;
    double threshold_, diagonal_ = 0.0;
};

}  // namespace

NirGraph graph_of(const HostNetwork& network, const NirRules& rules, const std::string& path) {
    return Export(network, rules, path).graph();
}

}  // namespace spikefloss
