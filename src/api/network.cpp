// Networks from arrays, with the checks that io/network_file.cpp makes of a file.
#include "api/held.hpp"
#include "core/part_name.hpp"
#include "train/finite.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <thread>

#include <sched.h>

namespace spikefloss::api {
namespace {

std::string text_of(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

Index size_of(const Shape& shape) { return std::accumulate(shape.begin(), shape.end(), Index{1}, std::multiplies<>()); }

float rounded(const char* name, double value) {
    require(std::isfinite(static_cast<float>(value)), Exit::usage,
            fmt::format("{} is {}, beyond the range of float32", name, value), "give a number that is finite");
    return static_cast<float>(value);
}

NetworkModel model_of(const Rules& rules) {
    NetworkModel model;
    model.neuron.threshold = rounded("threshold", rules.threshold);
    model.neuron.reset = choice_from<Reset>(rules.reset, "reset");
    require(rules.reset_delay == 0 || rules.reset_delay == 1, Exit::usage,
            fmt::format("reset_delay is {} but must be 0 or 1", rules.reset_delay),
            "0: a spike resets its membrane at once; 1: in the next step");
    model.neuron.reset_delay = rules.reset_delay;
    model.neuron.surrogate = choice_from<Surrogate>(rules.surrogate, "surrogate");
    model.neuron.sharpness = rounded("sharpness", rules.sharpness);
    require(model.neuron.sharpness > 0.0f, Exit::usage,
            fmt::format("sharpness is {} but must be above 0", rules.sharpness),
            "the surrogate derivative is about 1/sharpness wide");
    model.neuron.adaptation = choice_from<Adaptation>(rules.adaptation, "adaptation");
    model.readout = choice_from<Readout>(rules.readout, "readout");
    require(rules.refractory >= 0, Exit::usage, fmt::format("refractory is {} but must be 0 or more", rules.refractory),
            "it is the number of steps after a spike in which the neuron cannot spike");
    model.refractory = rules.refractory;
    return model;
}

Index population_named(const Topology& topology, const std::string& name, const std::string& where) {
    const auto& all = topology.populations;
    const auto found = std::find_if(all.begin(), all.end(), [&](const auto& p) { return p.name == name; });
    std::vector<std::string> names;
    for (const auto& p : all) names.push_back(p.name);
    require(found != all.end(), Exit::usage, fmt::format("{} is '{}', which is no population", where, name),
            fmt::format("the populations are {}", fmt::join(names, ", ")));
    return found - all.begin();
}

void require_name(const std::string& name) {
    require(is_part_name(name) && name != input_name, Exit::usage,
            fmt::format("a population or projection is named '{}'", printable(name)), part_name_rule);
}

// The rows of a CSR matrix [rows, cols].
Synapses synapses_of(const Projection& projection, Index rows, Index cols) {
    const std::string where = fmt::format("projection {}", projection.name);
    const char* const csr = "give a CSR matrix of scipy.sparse, after its sum_duplicates()";
    const auto nnz = static_cast<Index>(projection.indices.size());
    const auto& begin = projection.indptr;
    require(static_cast<Index>(begin.size()) == rows + 1 && begin.front() == 0 && begin.back() == nnz &&
                std::is_sorted(begin.begin(), begin.end()),
            Exit::usage,
            fmt::format("indptr of {} must rise from 0 to {} in {} numbers, one more than its target has neurons",
                        where, nnz, rows + 1),
            csr);
    for (Index r = 0; r < rows; ++r)
        for (Index e = begin[static_cast<std::size_t>(r)]; e < begin[static_cast<std::size_t>(r + 1)]; ++e) {
            const Index column = projection.indices[static_cast<std::size_t>(e)];
            const bool rises =
                e == begin[static_cast<std::size_t>(r)] || column > projection.indices[static_cast<std::size_t>(e - 1)];
            require(column >= 0 && column < cols && rises, Exit::usage,
                    fmt::format("indices of {} have {} in row {}; they must rise within the row, from 0 to {} at most",
                                where, column, r, cols - 1),
                    csr);
        }
    return {begin, projection.indices, 0};
}

// The populations and projections, in the order in which files have them: by position, and by name.
std::vector<Synapses> add_populations(const Rules& rules, Topology& topology) {
    for (const Population& p : rules.populations) {
        require_name(p.name);
        require(p.size >= 1, Exit::usage, fmt::format("population {} has {} neurons", p.name, p.size),
                "give it 1 or more");
        for (const auto& other : topology.populations)
            require(other.name != p.name, Exit::usage, fmt::format("two populations are named {}", p.name),
                    "give each a name of its own");
        topology.populations.push_back({p.name, topology.shape.neurons, p.size});
        topology.shape.neurons += p.size;
    }
    require(rules.inputs >= 1, Exit::usage, fmt::format("inputs is {}", rules.inputs),
            "a network of populations needs inputs, the number of its inputs");
    topology.shape.inputs = rules.inputs;
    if (!rules.readout_from.empty())
        topology.readout_from = population_named(topology, rules.readout_from, "readout_from");
    std::vector<const Projection*> sorted;
    for (const Projection& p : rules.projections) sorted.push_back(&p);
    std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->name < b->name; });
    std::vector<Synapses> synapses;
    for (const Projection* p : sorted) {
        require_name(p->name);
        require(p->delay >= 1, Exit::usage, fmt::format("projection {} has a delay of {} steps", p->name, p->delay),
                "a delay is 1 or more");
        const auto of = [&](const std::string& name, const char* side) {
            return population_named(topology, name, fmt::format("{} of projection {}", side, p->name));
        };
        spikefloss::Projection projection{.name = p->name};
        if (p->from != input_name) projection.source = of(p->from, "the source");
        projection.target = of(p->to, "the target");
        projection.delay = p->delay;
        projection.sign = choice_from<Sign>(p->sign, fmt::format("the sign of projection {}", p->name));
        projection.sparse = p->sparse;
        synapses.emplace_back();
        if (p->sparse) {
            projection.synapses = static_cast<Index>(p->indices.size());
            synapses.back() =
                synapses_of(*p, topology.target_of(projection).size(), topology.source_of(projection).size());
        }
        topology.projections.push_back(std::move(projection));
    }
    return synapses;
}

const View& needed(const std::map<std::string, View>& arrays, const std::string& name) {
    const auto found = arrays.find(name);
    require(found != arrays.end(), Exit::usage, fmt::format("{} is missing", name),
            "docs/files.md lists the arrays of a network");
    return found->second;
}

Index rows_of(const std::string& name, const View& view, std::size_t axis, const char* letters) {
    require(view.shape.size() == 2 && view.shape[0] >= 1 && view.shape[1] >= 1, Exit::usage,
            fmt::format("{} has shape {} but must be a matrix {}", name, text_of(view.shape), letters),
            "weights are [post, pre]: one row for each neuron that receives");
    return view.shape[axis];
}

bool is_optional(Parameter p) {
    return p == Parameter::initial_current || p == Parameter::initial_membrane || p == Parameter::adapt_membrane ||
           p == Parameter::adapt_spike || p == Parameter::initial_adaptation;
}

}  // namespace

void require_shape(const std::string& name, const View& view, const Shape& shape, const char* letters) {
    require(view.shape == shape, Exit::usage,
            fmt::format("{} has shape {} but must be {} = {}", name, text_of(view.shape), letters, text_of(shape)),
            "time comes first, then the sequence; weights are [post, pre]");
}

void require_finite(const std::string& name, const View& view) {
    const Index size = size_of(view.shape);
    unsigned other = 0;
    for (Index i = 0; i < size; ++i) other |= !(std::abs(view.values[i]) <= std::numeric_limits<float>::max());
    if (other == 0) return;
    const float* const at = std::find_if(view.values, view.values + size, [](float v) { return !std::isfinite(v); });
    throw Error(Exit::usage, fmt::format("element {} of {} is {}", at - view.values, name, *at),
                "give numbers that are finite and in the range of float32");
}

void require_input(const View& x, Index inputs) {
    require(x.shape.size() == 3 && x.shape[0] >= 1 && x.shape[1] >= 1 && x.shape[2] == inputs, Exit::usage,
            fmt::format("x has shape {} but must be [T, B, M] with at least one step and sequence, and M = {}",
                        text_of(x.shape), inputs),
            "time comes first, then the sequence, then the input");
    require_finite("x", x);
}

Network::Network(const Rules& rules, const std::map<std::string, View>& arrays) {
    auto held = std::make_shared<Held>();
    HostNetwork& host = held->host;
    host.model = model_of(rules);
    Topology topology;
    std::vector<Synapses> synapses;
    if (rules.populations.empty()) {
        require(rules.projections.empty(), Exit::usage, "the network has projections but no populations",
                "give populations, too, or w_in and w_rec in place of projections");
        topology.shape.neurons = rows_of("w_in", needed(arrays, "w_in"), 0, "[N, M]");
        topology.shape.inputs = needed(arrays, "w_in").shape[1];
    } else {
        synapses = add_populations(rules, topology);
    }
    topology.shape.outputs = rows_of("w_out", needed(arrays, "w_out"), 0, "[O, neurons that are read]");
    topology.thresholds = arrays.contains("threshold");
    topology.adaptation = host.model.neuron.adaptation != Adaptation::none;
    host.layout = ParameterLayout(std::move(topology), std::move(synapses), 1, 0);
    host.values.assign(static_cast<std::size_t>(host.layout.size()), 0.0f);
    std::size_t taken = 0;
    for (const Segment& segment : host.layout.segments()) {
        if (is_optional(segment.parameter) && !arrays.contains(segment.name)) continue;
        const View& view = needed(arrays, segment.name);
        require_shape(segment.name, view, segment.dims(), segment.matrix ? "[post, pre]" : "[numbers]");
        require_finite(segment.name, view);
        ++taken;
        const float* from = view.values;
        segment.each_row(host.values.data(), [&](float* row, Index) {
            std::copy_n(from, segment.cols, row);
            from += segment.cols;
        });
    }
    if (const auto fault = out_of_range(host.layout, host.values, false))
        throw Error(Exit::usage, fault->problem, fault->suggestion);
    if (taken < arrays.size())
        for (const auto& [name, view] : arrays)
            require(std::any_of(host.layout.segments().begin(), host.layout.segments().end(),
                                [&, wanted = name](const Segment& s) { return s.name == wanted; }),
                    Exit::usage, fmt::format("this network has no array {}", printable(name)),
                    "rho and the other arrays of adaptation need adaptation; w_in and w_rec need a network without "
                    "populations");
    held_ = std::move(held);
}

Index Held::state_size() const {
    return spikefloss::state_size(host.layout.shape().neurons, host.has_current(), host.layout.topology().adaptation);
}

Index Network::neurons() const { return held_->host.layout.shape().neurons; }
Index Network::inputs() const { return held_->host.layout.shape().inputs; }
Index Network::outputs() const { return held_->host.layout.shape().outputs; }
Index Network::state_size() const { return held_->state_size(); }
Arrays Network::arrays() const { return arrays_of(held_->host.layout, held_->host.values); }

Arrays arrays_of(const ParameterLayout& layout, const std::vector<float>& values) {
    Arrays arrays;
    for (const Segment& segment : layout.segments()) {
        Array& array = arrays[segment.name];
        array.shape = segment.dims();
        array.values.reserve(static_cast<std::size_t>(segment.size()));
        segment.each_row(values.data(), [&](const float* row, Index) {
            array.values.insert(array.values.end(), row, row + segment.cols);
        });
    }
    return arrays;
}

Arrays finished(const Machine& machine, Gradient& gradient, double loss) {
    require_finite_gradients(machine.grid, loss, gradient.reduce({}));
    return arrays_of(machine.network.layout, gradient.to_host());
}

namespace {

int threads_of(const Settings& settings) {
    require(settings.threads >= 0, Exit::usage, fmt::format("{} threads were asked for", settings.threads),
            "use at least 1, or 0 for one per core");
    if (settings.threads > 0) return settings.threads;
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const int cores = static_cast<int>(std::thread::hardware_concurrency());
    return std::max(1, sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : cores);
}

}  // namespace

Machine::Machine(const Held& held, const Settings& settings)
    : grid(MPI_COMM_SELF, {1, 1}, 0.0),
      backend(make_backend(BackendKind::cpu, threads_of(settings), choice_from<Sums>(settings.sums, "sums"))),
      network(*backend, grid, held.host) {
    backend->set_check(settings.check);
}

}  // namespace spikefloss::api
