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
    const bool weights = file.has(group + "/weights"), data = file.has(group + "/data");
    if (weights == data)
        file.fail(
            fmt::format("{} has {} weights {} data", group, weights ? "both" : "neither", weights ? "and" : "nor"),
            "a dense projection has weights [post, pre]; a sparse one has indptr, indices and data");
    const Index rows = topology.target_of(projection).size(), cols = topology.source_of(projection).size();
    if (weights) {
        file.require_shape(group + "/weights", {rows, cols}, "[post, pre]",
                           fmt::format("population {} has {} neurons and {} has {}", to, rows, from, cols));
        return projection;
    }
    projection.sparse = true;
    file.require_shape(group + "/indptr", {rows + 1}, "[post + 1]",
                       fmt::format("population {} has {} neurons", to, rows));
    const std::vector<Index> dims = file.shape(group + "/data");
    if (dims.size() != 1)
        file.fail(fmt::format("{}/data has shape {} but must be [nnz]", group, shape_text(dims)),
                  "indptr, indices and data are those of scipy.sparse.csr_matrix");
    projection.synapses = dims[0];
    file.require_shape(group + "/indices", dims, "[nnz]", fmt::format("{}/data has {} numbers", group, dims[0]));
    return projection;
}

Synapses read_rows(const InputFile& file, const Topology& topology, const Projection& projection, BlockRange mine) {
    const std::string group = fmt::format("{}/{}", projections_group, projection.name);
    const BlockRange target = topology.target_of(projection);
    const Index first = std::clamp(mine.begin, target.begin, target.end) - target.begin,
                rows = std::max<Index>(0, std::min(mine.end, target.end) - target.begin - first);
    Synapses own;
    if (rows == 0) return own;
    own.row_begin = file.read<std::int64_t>(group + "/indptr", {first}, {rows + 1});
    const auto fail_pointer = [&](Index at, const std::string& why) {
        file.fail(
            fmt::format("{}/indptr[{}] is {} {}", group, first + at, own.row_begin[static_cast<std::size_t>(at)], why),
            "indptr is that of scipy.sparse.csr_matrix: the first entry of each row, and their number at the end");
    };
    if (first == 0 && own.row_begin.front() != 0) fail_pointer(0, "but must be 0");
    for (Index r = 0; r < rows; ++r) {
        const Index begin = own.row_begin[static_cast<std::size_t>(r)],
                    end = own.row_begin[static_cast<std::size_t>(r + 1)];
        if (begin < 0 || end < begin) fail_pointer(r + 1, "but must not be less than the number before it");
        if (end > projection.synapses) fail_pointer(r + 1, fmt::format("but data has {} numbers", projection.synapses));
    }
    if (first + rows == target.size() && own.row_begin.back() != projection.synapses)
        fail_pointer(rows, fmt::format("but must be {}, the length of data", projection.synapses));
    own.first = own.row_begin.front();
    const Index count = own.row_begin.back() - own.first, sources = topology.source_of(projection).size();
    file.require_room(group + "/indices", {count}, sizeof(std::int32_t));
    own.column = file.read<std::int32_t>(group + "/indices", {own.first}, {count});
    for (Index& begin : own.row_begin) begin -= own.first;
    for (Index r = 0; r < rows; ++r)
        for (Index e = own.row_begin[static_cast<std::size_t>(r)]; e < own.row_begin[static_cast<std::size_t>(r + 1)];
             ++e) {
            const Index column = own.column[static_cast<std::size_t>(e)];
            if (column < 0 || column >= sources)
                file.fail(
                    fmt::format("{}/indices[{}] is {} but must be 0 to {}", group, own.first + e, column, sources - 1),
                    "a column is a neuron of the source, counted from 0");
            if (e > own.row_begin[static_cast<std::size_t>(r)] && column <= own.column[static_cast<std::size_t>(e - 1)])
                file.fail(fmt::format("{}/indices[{}] is {}, which does not rise within row {}", group, own.first + e,
                                      column, first + r),
                          "sort the rows and join equal entries: W.sum_duplicates() of scipy.sparse");
        }
    return own;
}

}  // namespace

std::string word_attribute(const InputFile& file, const std::string& object, const std::string& name) {
    std::string text = file.string_attribute(object, name);
    if (text.size() > 64 || !std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; }))
        file.fail(fmt::format("attribute {} of {} is not a word but {} other bytes", name, object, text.size()),
                  "docs/files.md lists the allowed words; a damaged file may have such bytes, too");
    return text;
}

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
        if (topology.projections[p].sparse) all[p] = read_rows(file, topology, topology.projections[p], mine);
    return all;
}

void require_signs(const InputFile& file, const ParameterLayout& layout, const std::vector<float>& values) {
    for (const Segment& segment : layout.segments()) {
        if (segment.projection < 0) continue;
        const Sign sign = layout.topology().projections[static_cast<std::size_t>(segment.projection)].sign;
        if (sign == Sign::any) continue;
        segment.each_row(values.data(), [&](const float* row, Index first) {
            for (Index c = 0; c < segment.cols; ++c)
                if (sign == Sign::excitatory ? row[c] < 0.0f : row[c] > 0.0f)
                    file.fail(fmt::format("element {} of /network/{} is {}, but its projection is {}", first + c,
                                          segment.name + segment.part, row[c], name_of(sign)),
                              "excitatory weights are 0 or more, inhibitory ones 0 or less; use sign any for both");
        });
    }
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
        const auto name = [&](Index population) {
            return population == from_input ? std::string(input_name)
                                            : topology.populations[static_cast<std::size_t>(population)].name;
        };
        file.attribute(group, "from", name(p.source));
        file.attribute(group, "to", name(p.target));
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
