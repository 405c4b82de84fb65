// Lays out the parameters of one rank.
#include "network/parameters.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <map>

namespace spikefloss {
namespace {

// Dense projections become one matrix if they fill at least this part of it. Below it sparse ones need less memory.
constexpr double least_filled = 0.25;

BlockRange overlap(BlockRange a, BlockRange b) {
    const Index begin = std::max(a.begin, b.begin);
    return {begin, std::max(begin, std::min(a.end, b.end))};
}

// Every synapse from `cols` sources to `rows` neurons.
Synapses all_synapses(Index rows, Index first_row, Index cols) {
    Synapses all;
    all.first = first_row * cols;
    for (Index r = 0; r < rows; ++r) {
        for (Index c = 0; c < cols; ++c) all.column.push_back(static_cast<std::int32_t>(c));
        all.row_begin.push_back(all.count());
    }
    return all;
}

// Sparse projections of a term: those of one delay, by their targets and then their sources, so that every row of a
// product is a chain over its sources in their order.
std::vector<std::vector<Index>> sparse_terms(const Topology& topology, const std::vector<Index>& sparse) {
    std::vector<std::vector<Index>> terms;
    const auto projection = [&](Index p) -> const Projection& {
        return topology.projections[static_cast<std::size_t>(p)];
    };
    const auto ends = [&](Index p) { return std::pair(projection(p).target, projection(p).source); };
    for (const Index p : sparse) {
        const auto fits = [&](const std::vector<Index>& members) {
            return projection(members[0]).delay == projection(p).delay &&
                   std::none_of(members.begin(), members.end(), [&](Index other) { return ends(other) == ends(p); });
        };
        const auto found = std::find_if(terms.begin(), terms.end(), fits);
        (found == terms.end() ? terms.emplace_back() : *found).push_back(p);
    }
    for (std::vector<Index>& members : terms)
        std::sort(members.begin(), members.end(), [&](Index a, Index b) { return ends(a) < ends(b); });
    return terms;
}

// What a decay is; null: not a decay.
const char* meaning_of(Parameter parameter) {
    switch (parameter) {
        case Parameter::alpha: return "alpha = exp(-dt/tau_syn); 0 is a synapse without memory";
        case Parameter::beta: return "beta = exp(-dt/tau_mem); 0 is a neuron without memory";
        case Parameter::kappa: return "kappa = exp(-dt/tau_out); 0 is a readout without memory";
        case Parameter::rho: return "rho = exp(-dt/tau_adapt); 0 is an adaptation without memory";
        default: return nullptr;
    }
}

}  // namespace

ParameterLayout::ParameterLayout(Topology topology, std::vector<Synapses> synapses, Index shards, Index shard) {
    auto structure = std::make_shared<Structure>();
    Structure& s = *structure;
    s.topology = std::move(topology);
    s.synapses = std::move(synapses);
    s.synapses.resize(s.topology.projections.size());
    s.neurons = block_range(s.topology.shape.neurons, shards, shard);
    const auto is_present = [&](Parameter p) {
        if (p == Parameter::threshold) return s.topology.thresholds;
        return s.topology.adaptation || p < Parameter::threshold;
    };
    for (const Parameter p : all_parameters) {
        if (!is_present(p)) continue;
        s.present[static_cast<std::size_t>(p)] = true;
        const Index begin = s.size;
        s.extents[static_cast<std::size_t>(p)].offset = begin;
        switch (p) {
            case Parameter::w_in:
            case Parameter::w_rec: s.add_weights(p); break;
            case Parameter::w_out: s.add_readout(); break;
            case Parameter::bias_out:
            case Parameter::kappa: s.add_vector(p, true); break;
            default: s.add_vector(p, false);
        }
        s.extents[static_cast<std::size_t>(p)].count = s.size - begin;
    }
    structure_ = std::move(structure);
}

void ParameterLayout::Structure::add_weights(Parameter parameter) {
    const bool input = parameter == Parameter::w_in;
    const Index cols = input ? topology.shape.inputs : topology.shape.neurons;
    if (topology.plain()) return add_plain(parameter, cols);
    // The dense projections of each delay. Of several between the same populations the first can be in the matrix.
    std::map<Index, std::vector<Index>> dense;
    std::vector<Index> sparse;
    const auto& all = topology.projections;
    for (Index p = 0; p < static_cast<Index>(all.size()); ++p) {
        const Projection& projection = all[static_cast<std::size_t>(p)];
        if ((projection.source == from_input) != input) continue;
        std::vector<Index>& members = dense[projection.delay];
        const bool taken = std::any_of(members.begin(), members.end(), [&](Index other) {
            const Projection& before = all[static_cast<std::size_t>(other)];
            return before.source == projection.source && before.target == projection.target;
        });
        (projection.sparse || taken ? sparse : members).push_back(p);
    }
    for (const auto& [delay, members] : dense) {
        double filled = 0.0;
        for (const Index p : members) {
            const Projection& projection = all[static_cast<std::size_t>(p)];
            filled += static_cast<double>(topology.source_of(projection).size()) *
                      static_cast<double>(topology.target_of(projection).size());
        }
        if (filled >= least_filled * static_cast<double>(cols) * static_cast<double>(topology.shape.neurons))
            add_matrix(delay, members, parameter, cols);
        else
            sparse.insert(sparse.end(), members.begin(), members.end());
    }
    std::sort(sparse.begin(), sparse.end());
    const std::size_t before = segments.size();
    for (const std::vector<Index>& members : sparse_terms(topology, sparse)) add_sparse(members, parameter);
    std::sort(segments.begin() + static_cast<std::ptrdiff_t>(before), segments.end(),
              [](const Segment& a, const Segment& b) { return a.projection < b.projection; });
}

void ParameterLayout::Structure::add_plain(Parameter parameter, Index cols) {
    const Index n = neurons.size(), N = topology.shape.neurons;
    (parameter == Parameter::w_in ? terms.input : terms.recurrent)
        .push_back({.rows = n, .cols = cols, .entries = n * cols});
    segments.push_back(
        {parameter, std::string(name_of(parameter)), "", size, neurons.begin, 0, n, cols, cols, N, cols, true});
    size += n * cols;
}

void ParameterLayout::Structure::add_matrix(Index delay, const std::vector<Index>& members, Parameter parameter,
                                            Index cols) {
    const bool input = parameter == Parameter::w_in;
    const Index n = neurons.size(), start = extents[static_cast<std::size_t>(parameter)].offset;
    const auto place = [&](BlockRange rows, BlockRange columns) {
        return size + (rows.begin - neurons.begin) * cols + columns.begin;
    };
    for (const Index p : members) {
        const Projection& projection = topology.projections[static_cast<std::size_t>(p)];
        const BlockRange source = topology.source_of(projection), target = topology.target_of(projection),
                         rows = overlap(target, neurons);
        segments.push_back({parameter, "projections/" + projection.name, "/weights", place(rows, source),
                            rows.size() ? rows.begin - target.begin : 0, 0, rows.size(), source.size(), cols,
                            target.size(), source.size(), true, false, p});
    }
    // The inputs count as one source.
    const std::vector<Population> all_inputs{{"input", 0, topology.shape.inputs}};
    for (std::size_t t = 0; t < topology.populations.size(); ++t) {
        const BlockRange rows = overlap(topology.populations[t].range(), neurons);
        const std::vector<Population>& sources = input ? all_inputs : topology.populations;
        for (std::size_t s = 0; s < sources.size(); ++s) {
            const bool filled = std::any_of(members.begin(), members.end(), [&](Index p) {
                const Projection& projection = topology.projections[static_cast<std::size_t>(p)];
                return projection.target == static_cast<Index>(t) &&
                       (input || projection.source == static_cast<Index>(s));
            });
            if (!filled && rows.size())
                holes.push_back({place(rows, sources[s].range()), rows.size(), sources[s].size, cols});
        }
    }
    (input ? terms.input : terms.recurrent)
        .push_back({.delay = delay, .offset = size - start, .rows = n, .cols = cols, .entries = n * cols});
    size += n * cols;
}

void ParameterLayout::Structure::add_sparse(const std::vector<Index>& members, Parameter parameter) {
    const bool input = parameter == Parameter::w_in;
    const Index start = size;
    for (const Index p : members) {
        const Projection& projection = topology.projections[static_cast<std::size_t>(p)];
        const BlockRange source = topology.source_of(projection), target = topology.target_of(projection),
                         rows = overlap(target, neurons);
        const Index first_row = rows.size() ? rows.begin - target.begin : 0;
        Synapses& own = synapses[static_cast<std::size_t>(p)];
        if (!projection.sparse) own = all_synapses(rows.size(), first_row, source.size());
        SPIKEFLOSS_ASSERT(static_cast<Index>(own.row_begin.size()) == rows.size() + 1);
        const std::string name = "projections/" + projection.name;
        if (projection.sparse)
            segments.push_back({parameter, name, "/data", size, 0, own.first, 1, own.count(), own.count(), 1,
                                projection.synapses, false, false, p});
        else
            segments.push_back({parameter, name, "/weights", size, first_row, 0, rows.size(), source.size(),
                                source.size(), target.size(), source.size(), true, false, p});
        size += own.count();
    }
    (input ? terms.input : terms.recurrent)
        .push_back({.delay = topology.projections[static_cast<std::size_t>(members[0])].delay,
                    .offset = start - extents[static_cast<std::size_t>(parameter)].offset,
                    .rows = neurons.size(),
                    .cols = input ? topology.shape.inputs : topology.shape.neurons,
                    .sparse = members,
                    .entries = size - start});
}

void ParameterLayout::Structure::add_readout() {
    const Index n = neurons.size(), O = topology.shape.outputs;
    const BlockRange read = topology.read(), cols = overlap(read, neurons);
    const Index first = cols.size() ? cols.begin - neurons.begin : 0;
    segments.push_back({Parameter::w_out, std::string(name_of(Parameter::w_out)), "", size + first, 0,
                        cols.size() ? cols.begin - read.begin : 0, O, cols.size(), n, O, read.size(), true});
    if (cols.size() < n) {
        holes.push_back({size, O, first, n});
        holes.push_back({size + first + cols.size(), O, n - first - cols.size(), n});
    }
    size += O * n;
}

void ParameterLayout::Structure::add_vector(Parameter parameter, bool replicated) {
    const Index n = neurons.size(), N = topology.shape.neurons, O = topology.shape.outputs;
    Segment segment{.parameter = parameter, .name = std::string(name_of(parameter)), .offset = size, .rows = 1};
    segment.cols = segment.stride = replicated ? O : n;
    segment.col = replicated ? 0 : neurons.begin;
    segment.global_rows = 1;
    segment.global_cols = replicated ? O : N;
    segment.replicated = replicated;
    size += segment.cols;
    segments.push_back(std::move(segment));
}

const Segment& ParameterLayout::segment(Parameter parameter) const {
    const auto found = std::find_if(structure_->segments.begin(), structure_->segments.end(),
                                    [&](const Segment& s) { return s.parameter == parameter; });
    SPIKEFLOSS_ASSERT(found != structure_->segments.end());
    return *found;
}

bool ParameterLayout::two_matrices() const {
    const auto one = [](const std::vector<Term>& all) {
        return all.size() == 1 && all[0].sparse.empty() && all[0].delay == 1;
    };
    return one(terms().input) && one(terms().recurrent);
}

bool HostNetwork::has_current() const {
    if (values.empty()) return planned_current;
    const auto [offset, count] = layout.extent(Parameter::alpha);
    const auto first = values.begin() + offset;
    return std::any_of(first, first + count, [](float alpha) { return alpha != 0.0f; });
}

HostNetwork with_thresholds(const HostNetwork& network, Index shards, Index shard) {
    if (network.layout.has(Parameter::threshold)) return network;
    Topology topology = network.layout.topology();
    topology.thresholds = true;
    HostNetwork changed = network;
    changed.layout = ParameterLayout(std::move(topology), network.layout.synapses(), shards, shard);
    if (network.values.empty()) return changed;
    changed.values.assign(static_cast<std::size_t>(changed.layout.size()), network.model.neuron.threshold);
    for (const Parameter p : all_parameters) {
        const auto [from, count] = network.layout.extent(p);
        std::copy_n(network.values.begin() + from, count, changed.values.begin() + changed.layout.extent(p).offset);
    }
    return changed;
}

Network::Network(Backend& backend, const ProcessGrid& grid, const HostNetwork& host)
    : model(host.model), layout(host.layout), values(backend, layout.size()), terms_(layout.terms()) {
    if (!host.values.empty()) values.copy_in(host.values.data());
    const Topology& topology = layout.topology();
    for (auto* const all : {&terms_.input, &terms_.recurrent})
        for (Term& term : *all) {
            if (term.sparse.empty()) continue;
            std::vector<ProjectionRows> members;
            for (const Index p : term.sparse) {
                const Projection& projection = topology.projections[static_cast<std::size_t>(p)];
                const Index first = topology.target_of(projection).begin - layout.neurons().begin;
                const Synapses& own = layout.synapses(p);
                members.push_back(
                    {std::max<Index>(first, 0), topology.source_of(projection), own.row_begin, own.column});
            }
            const int shards = all == &terms_.input ? 1 : grid.shape().neuron_shards;
            synapses_.push_back(
                std::make_unique<SparsePatterns>(backend, term.rows, members, block_ranges(term.cols, shards)));
            term.synapses = synapses_.back().get();
        }
    // All ranks must use the same size of the state, whatever alphas they hold.
    std::int64_t nonzero = host.has_current();
    grid.control().all_reduce_sum(&nonzero, Scalar::int64, 1);
    has_current_ = nonzero > 0;
}

const char* Network::only_loops() const {
    if (!layout.two_matrices()) return "not all weights are in one dense matrix of delay 1";
    return model.refractory > 0 ? "neurons are refractory" : nullptr;
}

const char* Network::adapted() const {
    if (layout.has(Parameter::threshold)) return "neurons have thresholds of their own";
    return has_adaptation() ? "neurons adapt" : nullptr;
}

void Network::sort_synapses() const {
    for (const Term& term : terms_.input)
        if (term.synapses) term.synapses->sort_by_column((*this)[Parameter::w_in] + term.offset);
    for (const Term& term : terms_.recurrent)
        if (term.synapses) term.synapses->sort_by_column((*this)[Parameter::w_rec] + term.offset);
}

NeuronVectors Network::neurons() const {
    const auto optional = [&](Parameter p) { return layout.has(p) ? (*this)[p] : nullptr; };
    return {(*this)[Parameter::alpha],       (*this)[Parameter::beta], (*this)[Parameter::bias],
            optional(Parameter::threshold),  optional(Parameter::rho), optional(Parameter::adapt_membrane),
            optional(Parameter::adapt_spike)};
}

ConstantSums Network::constant_sums(SumBuffer& gradient) const {
    const auto optional = [&](Parameter p) {
        return layout.has(p) ? gradient.matrix(1, n(), layout.extent(p).offset) : SumMatrix{};
    };
    return {optional(Parameter::alpha), optional(Parameter::beta),           optional(Parameter::threshold),
            optional(Parameter::rho),   optional(Parameter::adapt_membrane), optional(Parameter::adapt_spike)};
}

std::optional<OutOfRange> against_sign(Sign sign, const std::string& array, const float* weights, Index first,
                                       Index count) {
    for (Index c = 0; c < count && sign != Sign::any; ++c)
        if (sign == Sign::excitatory ? weights[c] < 0.0f : weights[c] > 0.0f)
            return OutOfRange{fmt::format("element {} of {} is {}, but its projection is {}", first + c, array,
                                          weights[c], name_of(sign)),
                              "excitatory weights are 0 or more, inhibitory ones 0 or less; use sign any for both"};
    return {};
}

std::optional<OutOfRange> out_of_range(const ParameterLayout& layout, const std::vector<float>& values, bool in_file) {
    std::optional<OutOfRange> found;
    for (const Segment& segment : layout.segments()) {
        const std::string array = in_file ? fmt::format("/network/{}{}", segment.name, segment.part) : segment.name;
        const char* const meaning = meaning_of(segment.parameter);
        const Sign sign = segment.projection < 0
                              ? Sign::any
                              : layout.topology().projections[static_cast<std::size_t>(segment.projection)].sign;
        segment.each_row(values.data(), [&](const float* row, Index first) {
            if (!found) found = against_sign(sign, array, row, first, segment.cols);
            for (Index c = 0; c < segment.cols && meaning && !found; ++c)
                if (!(row[c] >= 0.0f && row[c] < 1.0f))
                    found = {fmt::format("{}[{}] is {} but must be at least 0 and below 1", array, first + c, row[c]),
                             meaning};
        });
    }
    return found;
}

}  // namespace spikefloss
