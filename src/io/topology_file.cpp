#include "io/topology_file.hpp"

#include "core/error.hpp"
#include "core/part_name.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

namespace spikefloss {
namespace {

constexpr const char *populations_group = "/network/populations", *projections_group = "/network/projections";
constexpr Index largest = std::numeric_limits<std::int32_t>::max();

// A name for an error: a damaged file can have any bytes.
std::string shown(const std::string& name) {
    std::string text = name.substr(0, 64);
    std::replace_if(
        text.begin(), text.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return text;
}

void require_name(const InputFile& file, const char* group, const std::string& name) {
    if (!is_part_name(name)) file.fail(fmt::format("{} has a member named '{}'", group, shown(name)), part_name_rule);
}

// A whole number from `least` on.
Index count_attribute(const InputFile& file, const std::string& object, const char* name, Index least) {
    const std::int64_t value = file.integer_attribute(object, name);
    if (value < least || value > largest)
        file.fail(fmt::format("attribute {} of {} is {} but must be {} to {}", name, object, value, least, largest),
                  "docs/files.md shows a file with populations");
    return value;
}

Index population_named(const InputFile& file, const Topology& topology, const std::string& name,
                       const std::string& where) {
    std::vector<std::string> names;
    for (const Population& p : topology.populations) {
        if (p.name == name) return static_cast<Index>(names.size());
        names.push_back(p.name);
    }
    file.fail(fmt::format("{} is '{}', which is no population", where, shown(name)),
              fmt::format("the populations are {}", fmt::join(names, ", ")));
}

std::vector<Population> read_populations(const InputFile& file) {
    std::vector<Population> all;
    for (const std::string& name : file.members(populations_group)) {
        require_name(file, populations_group, name);
        if (name == input_name)
            file.fail("a population is named input", "input means the inputs of the network: choose another name");
        const std::string group = fmt::format("{}/{}", populations_group, name);
        all.push_back({name, count_attribute(file, group, "begin", 0), count_attribute(file, group, "size", 1)});
    }
    if (all.empty())
        file.fail(fmt::format("{} has no population", populations_group), "write at least one, as docs/files.md shows");
    std::sort(all.begin(), all.end(), [](const Population& a, const Population& b) { return a.begin < b.begin; });
    Index end = 0;
    for (const Population& p : all) {
        if (p.begin != end)
            file.fail(fmt::format("population {} begins at neuron {}, but {}", p.name, p.begin,
                                  end == 0 ? "the first one begins at 0"
                                           : fmt::format("the populations before it end at {}", end)),
                      "populations cover all neurons once: each begins where the one before it ends");
        end = p.begin + p.size;
        if (end > largest) file.fail(fmt::format("the populations have more than {} neurons", largest), "use fewer");
    }
    return all;
}

ProjectionEnds ends_of(const Topology& topology, const Projection& projection) {
    const auto name = [&](Index population) {
        return population == from_input ? std::string(input_name)
                                        : topology.populations[static_cast<std::size_t>(population)].name;
    };
    return {name(projection.source), name(projection.target), topology.source_of(projection).size(),
            topology.target_of(projection).size(), projection.sign};
}

Projection read_projection(const InputFile& file, const Topology& topology, const std::string& name) {
    require_name(file, projections_group, name);
    const std::string group = fmt::format("{}/{}", projections_group, name);
    Projection projection{.name = name};
    const std::string from = word_attribute(file, group, "from"), to = word_attribute(file, group, "to");
    if (from != input_name)
        projection.source = population_named(file, topology, from, fmt::format("attribute from of {}", group));
    if (to == input_name) file.fail(fmt::format("attribute to of {} is input", group), "the inputs receive nothing");
    projection.target = population_named(file, topology, to, fmt::format("attribute to of {}", group));
    if (file.has_attribute(group, "delay")) projection.delay = count_attribute(file, group, "delay", 1);
    if (file.has_attribute(group, "sign"))
        projection.sign = choice_from<Sign>(word_attribute(file, group, "sign"),
                                            fmt::format("{}: attribute sign of {}", file.path(), group));
    const StoredWeights stored = read_storage(file, group, ends_of(topology, projection), false);
    projection.sparse = stored.sparse;
    if (stored.sparse) projection.synapses = stored.synapses;
    return projection;
}

}  // namespace

bool has_populations(const InputFile& file) { return file.has(populations_group); }

Topology read_topology(const InputFile& file) {
    Topology topology;
    topology.populations = read_populations(file);
    topology.shape.neurons = topology.populations.back().range().end;
    topology.shape.inputs = count_attribute(file, "/network", "inputs", 1);
    if (file.has_attribute("/network", "readout_from"))
        topology.readout_from = population_named(file, topology, word_attribute(file, "/network", "readout_from"),
                                                 "attribute readout_from of /network");
    if (file.has(projections_group))
        for (const std::string& name : file.members(projections_group))
            topology.projections.push_back(read_projection(file, topology, name));
    return topology;
}

std::vector<Synapses> read_synapses(const InputFile& file, const Topology& topology, BlockRange mine) {
    std::vector<Synapses> all(topology.projections.size());
    for (std::size_t p = 0; p < all.size(); ++p)
        if (const Projection& projection = topology.projections[p]; projection.sparse) {
            const BlockRange target = topology.target_of(projection);
            const Index first = std::clamp(mine.begin, target.begin, target.end) - target.begin;
            all[p] = read_rows(
                file, {fmt::format("{}/{}", projections_group, projection.name), "", true, projection.synapses},
                ends_of(topology, projection), first, std::min(mine.end, target.end) - target.begin - first);
        }
    return all;
}

void write_topology(OutputFile& file, const ProcessGrid& grid, const ParameterLayout& layout) {
    const Topology& topology = layout.topology();
    file.attribute("/network", "inputs", std::int64_t{topology.shape.inputs});
    if (topology.readout_from >= 0)
        file.attribute("/network", "readout_from",
                       topology.populations[static_cast<std::size_t>(topology.readout_from)].name);
    for (const Population& p : topology.populations) {
        const std::string group = fmt::format("{}/{}", populations_group, p.name);
        file.attribute(group, "begin", std::int64_t{p.begin});
        file.attribute(group, "size", std::int64_t{p.size});
    }
    for (std::size_t at = 0; at < topology.projections.size(); ++at) {
        const Projection& p = topology.projections[at];
        const std::string group = fmt::format("{}/{}", projections_group, p.name);
        const ProjectionEnds ends = ends_of(topology, p);
        file.attribute(group, "from", ends.source);
        file.attribute(group, "to", ends.target);
        file.attribute(group, "delay", std::int64_t{p.delay});
        file.attribute(group, "sign", std::string(name_of(p.sign)));
        if (!p.sparse) continue;
        const Synapses& own = layout.synapses(static_cast<Index>(at));
        const BlockRange target = topology.target_of(p);
        const auto rows = static_cast<Index>(own.row_begin.size()) - 1;
        const Index first = std::clamp(layout.neurons().begin, target.begin, target.end) - target.begin;
        // A rank writes the beginnings of its rows, the one with the last row also the end.
        std::vector<std::int64_t> begins;
        for (const Index begin : own.row_begin) begins.push_back(own.first + begin);
        const bool writes = grid.batch_shard() == 0 && rows > 0, last = first + rows == target.size();
        std::vector<Block<std::int64_t>> pointers;
        std::vector<Block<std::int32_t>> columns;
        if (writes) pointers.push_back({{first}, {rows + last}, begins.data()});
        if (writes && own.count()) columns.push_back({{own.first}, {own.count()}, own.column.data()});
        file.dataset(group + "/indptr", {target.size() + 1}, pointers);
        file.dataset(group + "/indices", {p.synapses}, columns);
    }
}

}  // namespace spikefloss
