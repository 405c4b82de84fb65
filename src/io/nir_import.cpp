// A NIR graph as a network.
#include "io/nir_graph.hpp"
#include "io/nir_network.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>
#include <set>

namespace spikefloss {
namespace {

std::size_t at(Index i) { return static_cast<std::size_t>(i); }

// The rules, all known.
struct Rules {
    double dt = 1e-4;
    Reset reset = Reset::zero;
    NirIntegration integration = NirIntegration::euler;
    NirOrder order = NirOrder::fresh;
    int reset_delay = 0;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    double sharpness = 5.0;
    Index count_steps = 0;

    double decay(double tau) const {
        return integration == NirIntegration::euler ? 1.0 - dt / tau : std::exp(-dt / tau);
    }
};

class Import {
public:
    Import(const NirGraph& graph, const NirRules& rules, const std::string& path)
        : path_(path), graph_(nir_populations(graph, path)) {
        resolve(rules);
    }

    HostNetwork network() {
        place_populations();
        const NetworkShape shape{neurons_, graph_.inputs, graph_.outputs};
        network_.layout = ParameterLayout(shape, 1, 0);
        network_.values.assign(at(network_.layout.size()), 0.0f);
        choose_model();
        for (const int k : order_) fill_population(k);
        fill_readout();
        if (rules_.reset_delay == 1) delay_reset();
        NirOrigin origin{delay_, {}, rules_.dt, rules_.integration, rules_.order, rules_.count_steps};
        for (const int k : order_) {
            const NirPopulation& p = graph_.all[at(k)];
            origin.populations.push_back({p.name, first_[at(k)], p.size, p.depth});
        }
        network_.nir = origin.json();
        return std::move(network_);
    }

private:
    [[noreturn]] void fail(const std::string& problem, const std::string& suggestion) const {
        throw Error(Exit::bad_file, path_ + ": " + problem, suggestion);
    }

    // A rule: the option if it is given, else the metadata, else the default. Both must agree.
    template <class Choice>
    Choice choose(const char* key, Choice given, Choice fallback) {
        const auto found = graph_.metadata.find(key);
        if (found == graph_.metadata.end()) return given == Choice::automatic ? fallback : given;
        const auto* text = std::get_if<std::string>(&found->second);
        const Choice stated = choice_from<Choice>(text ? *text : "a number", fmt::format("{}: {}", path_, key));
        if (given != Choice::automatic && given != stated)
            fail(fmt::format("its metadata say {} = {}, but {} was asked for", key, name_of(stated), name_of(given)),
                 fmt::format("leave out the option {}; the file states how it is stepped", key));
        return stated;
    }

    double number(const char* key, double given, double fallback) {
        const auto found = graph_.metadata.find(key);
        const auto* stated = found == graph_.metadata.end() ? nullptr : std::get_if<double>(&found->second);
        if (!stated) return given > 0.0 ? given : fallback;
        if (given > 0.0 && given != *stated)
            fail(fmt::format("its metadata say {} = {}, but {} was asked for", key, *stated, given),
                 fmt::format("leave out the option {}; the file states how it is stepped", key));
        return *stated;
    }

    void resolve(const NirRules& rules) {
        const auto stated = [&](const char* key) {
            const auto found = graph_.metadata.find(key);
            const auto* text = found == graph_.metadata.end() ? nullptr : std::get_if<std::string>(&found->second);
            return text ? *text : std::string();
        };
        if (stated("reset") == "none") {
            graph_.metadata.erase("reset");  // LI and Threshold say it
            rules_.reset = Reset::none;
        } else {
            const NirReset reset = choose("reset", rules.reset, NirReset::zero);
            rules_.reset = reset == NirReset::subtract ? Reset::subtract : Reset::zero;
        }
        rules_.dt = number("dt", rules.dt, 1e-4);
        rules_.integration = choose("integration", rules.integration, NirIntegration::euler);
        rules_.order = choose("order", rules.order, NirOrder::fresh);
        rules_.reset_delay = number("reset_delay", 0.0, 0.0) == 1.0;
        rules_.count_steps = static_cast<Index>(number("count_steps", static_cast<double>(rules.count_steps), 0.0));
        if (!(rules_.dt > 0.0) || !(rules_.count_steps >= 0 && rules_.count_steps <= Index(1e9)))
            fail("its metadata dt or count_steps are out of range", "dt is above 0, count_steps is 1 to 10^9");
        if (const std::string name = stated("surrogate"); !name.empty())
            rules_.surrogate = choice_from<Surrogate>(name, path_ + ": surrogate");
        rules_.surrogate = rules.surrogate.value_or(rules_.surrogate);
        rules_.sharpness = rules.sharpness > 0.0 ? rules.sharpness : number("sharpness", 0.0, 5.0);
        if (!(rules_.sharpness > 0.0)) fail("its metadata sharpness is not above 0", "write a number above 0");
    }

    // The order of the neurons: by depth, then by name.
    void place_populations() {
        for (std::size_t k = 0; k < graph_.all.size(); ++k)
            if (graph_.all[k].spikes()) order_.push_back(static_cast<int>(k));
        std::stable_sort(order_.begin(), order_.end(),
                         [&](int a, int b) { return graph_.all[at(a)].depth < graph_.all[at(b)].depth; });
        first_.assign(graph_.all.size(), 0);
        for (const int k : order_) {
            first_[at(k)] = neurons_;
            neurons_ += graph_.all[at(k)].size;
        }
        if (neurons_ == 0)
            fail("there is no spiking population in the graph", "a graph needs LIF, CubaLIF or Threshold");
        const double bytes = static_cast<double>(neurons_) * static_cast<double>(neurons_ + graph_.inputs) * 4.0;
        if (neurons_ > INT32_MAX || bytes > 1e12)
            fail(fmt::format("{} neurons and {} inputs are too many", neurons_, graph_.inputs),
                 "use a smaller network");
    }

    // theta - v_reset of one neuron. Neurons that never reset have any v_reset.
    double reset_of(const NirPopulation& p, Index n) const {
        if (p.type == "Threshold") {
            const double threshold = p.parameters.at("threshold")[at(n)];
            return threshold > 0.0 ? 0.0 : threshold - 1.0;
        }
        const auto found = p.parameters.find("v_reset");
        return found == p.parameters.end() ? 0.0 : found->second[at(n)];
    }
    double rise_of(const NirPopulation& p, Index n) const {
        return p.parameters.at(p.type == "Threshold" ? "threshold" : "v_threshold")[at(n)] - reset_of(p, n);
    }

    void choose_model() {
        std::string resets, keeps;  // a population of each kind
        std::set<float> rises;
        for (const int k : order_) {
            const NirPopulation& p = graph_.all[at(k)];
            if (p.type != "Threshold")
                resets = p.name;
            else if (p.parameters.contains("tau"))
                keeps = p.name;
            for (Index n = 0; n < p.size; ++n) {
                if (!(rise_of(p, n) > 0.0))
                    fail(fmt::format("node {}: v_threshold is not above v_reset in neuron {}", p.name, n),
                         "such a neuron would spike in every step");
                rises.insert(static_cast<float>(rise_of(p, n)));
            }
        }
        if (!resets.empty() && !keeps.empty())
            fail(fmt::format("node {} resets and node {} (LI and Threshold) does not", resets, keeps),
                 "all neurons of spikefloss have one kind of reset: use LIF for both");
        NeuronModel& neuron = network_.model.neuron;
        neuron.threshold = rises.size() == 1 ? *rises.begin() : 1.0f;
        neuron.reset = resets.empty() ? Reset::none : rules_.reset;
        if (!resets.empty() && rules_.reset == Reset::none)
            fail(fmt::format("its metadata say reset = none, but node {} resets", resets), "correct the metadata");
        neuron.reset_delay = neuron.reset == Reset::none ? 1 : 0;  // without a reset both are one rule
        neuron.surrogate = rules_.surrogate;
        neuron.sharpness = static_cast<float>(rules_.sharpness);
        network_.model.readout = Readout::spikes;
    }

    void set(Parameter parameter, Index row, Index col, double value) {
        const Segment& segment = network_.layout.segment(parameter);
        const auto rounded = static_cast<float>(value);
        if (!std::isfinite(rounded))
            fail(fmt::format("{}[{}, {}] becomes {}, beyond the range of float32", name_of(parameter), row, col, value),
                 "look for very large weights or very small thresholds in the file");
        network_.values[at(segment.offset + row * segment.cols + col)] = rounded;
    }
    float get(Parameter parameter, Index row, Index col) const {
        const Segment& segment = network_.layout.segment(parameter);
        return network_.values[at(segment.offset + row * segment.cols + col)];
    }

    double checked_decay(const NirPopulation& p, const char* tau, Index n) const {
        const double value = rules_.decay(p.parameters.at(tau)[at(n)]);
        if (!(value >= 0.0 && static_cast<float>(value) < 1.0f))
            fail(fmt::format("node {}: {} = {} and dt = {} give a decay of {} per step ({}), which must be at least 0 "
                             "and below 1",
                             p.name, tau, p.parameters.at(tau)[at(n)], rules_.dt, value, name_of(rules_.integration)),
                 value < 0.0 ? "dt is too long for this time constant: give the dt of the program that wrote the file "
                               "(--dt), or --integration exponential if it steps so"
                             : "give the dt of the program that wrote the file (--dt)");
        return value;
    }

    void fill_population(int k) {
        const NirPopulation& p = graph_.all[at(k)];
        const double threshold = static_cast<double>(network_.model.neuron.threshold);
        const auto parameter = [&](const char* name, Index n, double fallback) {
            const auto found = p.parameters.find(name);
            return found == p.parameters.end() ? fallback : found->second[at(n)];
        };
        const bool current = p.type == "CubaLIF", plain = p.type == "Threshold" && !p.parameters.contains("tau");
        if (current && rules_.order == NirOrder::old)
            fail(fmt::format(
                     "node {} (CubaLIF): with order = old a spike reaches the membranes of its targets two steps "
                     "later; in spikefloss it is one",
                     p.name),
                 "use order new if the program that wrote the file steps so, or LIF neurons");
        check_sources(k);
        for (Index n = 0; n < p.size; ++n) {
            const Index row = first_[at(k)] + n;
            const double beta = plain ? 0.0 : checked_decay(p, current ? "tau_mem" : "tau", n);
            const double alpha = current ? checked_decay(p, "tau_syn", n) : 0.0;
            const double reset = reset_of(p, n), scale = threshold / rise_of(p, n);
            const double gain = scale * parameter("r", n, 1.0) * (1.0 - alpha) * parameter("w_in", n, 1.0);
            const double rest = scale * (parameter("v_leak", n, 0.0) - reset);
            const double bias = gain * p.arrivals.bias[at(n)] + (1.0 - alpha) * rest;
            set(Parameter::alpha, 0, row, alpha);
            set(Parameter::beta, 0, row, beta);
            set(Parameter::bias, 0, row, bias);
            for (const auto& [source, weights] : p.arrivals.weights) {
                const Index first = source == nir_input ? 0 : first_[at(source)];
                const Parameter matrix = source == nir_input ? Parameter::w_in : Parameter::w_rec;
                for (Index c = 0; c < weights.cols; ++c) set(matrix, row, first + c, gain * weights.at(n, c));
            }
            const auto start = earlier({rest, -scale * reset}, alpha, beta, bias, threshold, p.depth);
            if (!start && p.depth == 0)
                fail(fmt::format("node {}: neuron {} starts above its threshold", p.name, n),
                     "all states of a graph start at 0: v_threshold must be at least 0");
            if (!start)
                fail(fmt::format("node {}: the bias of neuron {} would make it spike before its first step", p.name, n),
                     fmt::format("it lies behind {} population{} and starts {} step{} later: use a smaller bias",
                                 p.depth, p.depth == 1 ? "" : "s", p.depth, p.depth == 1 ? "" : "s"));
            set(Parameter::initial_current, 0, row, start->current);
            set(Parameter::initial_membrane, 0, row, start->membrane);
        }
    }

    // An edge from a less deep population must come from the depth before: its delay is that of w_rec.
    void check_sources(int k) const {
        const NirPopulation& p = graph_.all[at(k)];
        for (const auto& [source, weights] : p.arrivals.weights)
            if (source != nir_input && !graph_.all[at(source)].spikes())
                fail(fmt::format("node {} ({}) drives {}: only spikes can drive neurons", graph_.all[at(source)].name,
                                 graph_.all[at(source)].type, p.name),
                     "use LIF or CubaLIF there; LI and I can be the last node before the output");
        for (const auto& [source, weights] : p.arrivals.weights) {
            if (source == nir_input) {
                if (p.depth > 0)
                    fail(fmt::format("node {}: the input drives it, and so does a population (a skip connection of "
                                     "unequal depth)",
                                     p.name),
                         "the input would arrive a step too early: let it drive the first populations only");
                continue;
            }
            const NirPopulation& q = graph_.all[at(source)];
            const bool recurrent = std::count(p.cycle.begin(), p.cycle.end(), source) > 0;
            if (!recurrent && q.depth != p.depth - 1)
                fail(fmt::format("{} -> {}: this connection skips a population (a skip connection of unequal depth)",
                                 q.name, p.name),
                     "it would need another delay than w_rec has: leave it out, or add a population on its way");
        }
    }

    void fill_readout() {
        NirArrivals out = graph_.output;
        if (out.weights.contains(nir_input))
            fail("the input reaches the output without a population", "read out of spikes only");
        std::vector<double> kappa(at(graph_.outputs), 0.0);
        const NirPopulation* filter = nullptr;
        for (const auto& [source, weights] : out.weights)
            if (!graph_.all[at(source)].spikes()) filter = &graph_.all[at(source)];
        if (filter) {
            const NirWeights& own = out.weights.begin()->second;
            const bool biased = std::any_of(out.bias.begin(), out.bias.end(), [](double b) { return b != 0.0; });
            if (out.weights.size() > 1 || !own.values.empty() || own.scale != 1.0 || biased)
                fail(fmt::format("node {} ({}) must be the last node before the output, and the only one", filter->name,
                                 filter->type),
                     "put linear nodes before it");
            const bool leaky = filter->type == "LI";
            NirArrivals driven = filter->arrivals;
            for (auto& [source, weights] : driven.weights) {
                if (source == nir_input || !graph_.all[at(source)].spikes())
                    fail(fmt::format("node {} ({}): only spikes may drive it", filter->name, filter->type),
                         "read out of spikes only");
                std::vector<double> dense(at(weights.rows * weights.cols));
                for (Index r = 0; r < weights.rows; ++r)
                    for (Index c = 0; c < weights.cols; ++c)
                        dense[at(r * weights.cols + c)] = filter_gain(*filter, r) * weights.at(r, c);
                weights.values = std::move(dense);
            }
            for (Index o = 0; o < filter->size; ++o) {
                driven.bias[at(o)] *= filter_gain(*filter, o);
                if (!leaky) continue;
                driven.bias[at(o)] += filter->parameters.at("v_leak")[at(o)];
                kappa[at(o)] = checked_decay(*filter, "tau", o);
            }
            out = std::move(driven);
        }
        std::set<Index> depths;
        for (const auto& [source, weights] : out.weights) depths.insert(graph_.all[at(source)].depth);
        if (depths.size() != 1)
            fail(
                depths.empty() ? "no population reaches the output" : "populations of different depth reach the output",
                "their spikes would reach it at different steps: read out of populations of one depth");
        delay_ = *depths.begin();
        const bool biased = std::any_of(out.bias.begin(), out.bias.end(), [](double b) { return b != 0.0; });
        if (filter && filter->type == "LI" && delay_ > 0 && biased)
            fail(fmt::format("node {} (LI): a bias or v_leak behind {} populations", filter->name, delay_ + 1),
                 "it would act before the first spikes arrive: set it to 0");
        const double factor = rules_.count_steps > 0 ? static_cast<double>(rules_.count_steps) : 1.0;
        for (Index o = 0; o < graph_.outputs; ++o) {
            set(Parameter::bias_out, 0, o, factor * out.bias[at(o)]);
            set(Parameter::kappa, 0, o, kappa[at(o)]);
            for (const auto& [source, weights] : out.weights)
                for (Index c = 0; c < weights.cols; ++c)
                    set(Parameter::w_out, o, first_[at(source)] + c, factor * weights.at(o, c));
        }
    }

    // Of LI the readout's filter takes r W; I adds dt r W in every step.
    double filter_gain(const NirPopulation& filter, Index o) const {
        return filter.parameters.at("r")[at(o)] * (filter.type == "I" ? rules_.dt : 1.0);
    }

    // The metadata of a network that had reset_delay 1: its reset came through the diagonal of the weights.
    void delay_reset() {
        NeuronModel& neuron = network_.model.neuron;
        neuron.reset_delay = 1;
        if (neuron.reset == Reset::none) return;
        if (neuron.reset != Reset::subtract || network_.has_current())
            fail("its metadata say reset_delay = 1, which only LIF neurons with reset = subtract have",
                 "correct the metadata, or remove them");
        for (Index n = 0; n < neurons_; ++n)
            set(Parameter::w_rec, n, n, diagonal(n) + static_cast<double>(neuron.threshold));
    }
    // w_rec[n, n] before it was rounded: the weight of a neuron to itself, from the graph.
    double diagonal(Index n) const {
        for (const int k : order_) {
            const NirPopulation& p = graph_.all[at(k)];
            const Index own = n - first_[at(k)];
            const auto weights = p.arrivals.weights.find(k);
            if (own < 0 || own >= p.size || weights == p.arrivals.weights.end()) continue;
            const double threshold = static_cast<double>(network_.model.neuron.threshold);
            return threshold / rise_of(p, own) * p.parameters.at("r")[at(own)] * weights->second.at(own, own);
        }
        return 0.0;
    }

    const std::string& path_;
    NirPopulations graph_;
    Rules rules_;
    HostNetwork network_;
    std::vector<int> order_;    // of the spiking populations
    std::vector<Index> first_;  // neuron of each population
    Index neurons_ = 0, delay_ = 0;
};

}  // namespace

HostNetwork network_of(const NirGraph& graph, const NirRules& rules, const std::string& path) {
    return Import(graph, rules, path).network();
}

}  // namespace spikefloss
