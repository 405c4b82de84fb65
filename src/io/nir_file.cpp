// Reads and writes NIR files. A file comes from another program, so every name, type and shape in it is checked.
#include "io/nir_graph.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <set>

namespace spikefloss {
namespace {

constexpr int most_nested = 16;          // graphs in graphs
constexpr std::size_t most_nodes = 1e5;  // of a file

// The numbers that spikefloss reads of each type of node. `true`: the node must have it.
using Parameters = std::map<std::string, bool>;
const std::map<std::string, Parameters>& known_types() {
    static const std::map<std::string, Parameters> types = {
        {"Input", {{"shape", true}}},
        {"Output", {}},
        {"Linear", {{"weight", true}}},
        {"Affine", {{"weight", true}, {"bias", true}}},
        {"Scale", {{"scale", true}}},
        {"LIF", {{"tau", true}, {"r", true}, {"v_leak", true}, {"v_threshold", true}, {"v_reset", false}}},
        {"CubaLIF",
         {{"tau_syn", true},
          {"tau_mem", true},
          {"r", true},
          {"v_leak", true},
          {"v_threshold", true},
          {"v_reset", false},
          {"w_in", false}}},
        {"LI", {{"tau", true}, {"r", true}, {"v_leak", true}}},
        {"I", {{"r", true}}},
        {"Threshold", {{"threshold", true}}},
    };
    return types;
}

const char* const write_nir_anew = "write the file again with the program that made it; docs/nir.md shows what is read";

std::string one_text(const InputFile& file, const std::string& name) {
    const std::vector<std::string> texts = file.texts(name);
    if (texts.size() != 1)
        file.fail(fmt::format("{} holds {} texts but must hold one", name, texts.size()), write_nir_anew);
    return texts[0];
}

class Reader {
public:
    explicit Reader(const InputFile& file) : file_(file) {}

    // The nodes and edges of the graph in `group`, with names that begin with `prefix`.
    void read_graph(const std::string& group, const std::string& prefix, int nested) {
        if (nested > most_nested)
            file_.fail(fmt::format("{}: more than {} graphs lie in each other", group, most_nested), write_nir_anew);
        for (const std::string& name : file_.members(group + "/nodes")) {
            const std::string place = fmt::format("{}/nodes/{}", group, name);
            if (++count_ > most_nodes) file_.fail(fmt::format("more than {} nodes", most_nodes), write_nir_anew);
            const std::string type = one_text(file_, place + "/type");
            if (type == "NIRGraph") {
                read_graph(place, prefix + name + ".", nested + 1);
                hide_ports(prefix + name);
            } else {
                read_node(place, prefix + name, type);
            }
        }
        read_edges(group, prefix);
    }

    NirGraph finish() {
        std::sort(graph_.nodes.begin(), graph_.nodes.end(),
                  [](const NirNode& a, const NirNode& b) { return a.name < b.name; });
        for (std::size_t i = 1; i < graph_.nodes.size(); ++i)
            if (graph_.nodes[i].name == graph_.nodes[i - 1].name)
                file_.fail(
                    fmt::format("two nodes are called {} (a.b is node b of the nested graph a)", graph_.nodes[i].name),
                    "give one of them another name");
        std::set<std::string> names;
        for (const NirNode& node : graph_.nodes) names.insert(node.name);
        for (const auto& [source, target] : graph_.edges)
            for (const std::string& name : {source, target})
                if (!names.contains(name))
                    file_.fail(
                        fmt::format("edge {} -> {}: there is no node {}", source, target, name),
                        "an edge must name two nodes of the file: correct it in the program that wrote the file");
        return std::move(graph_);
    }

private:
    void read_node(const std::string& place, const std::string& name, const std::string& type) {
        NirNode node{name, type, {}, {}};
        const auto known = known_types().find(type);
        if (known != known_types().end())
            for (const auto& [parameter, needed] : known->second) {
                const std::string at = fmt::format("{}/{}", place, parameter);
                if (file_.has(at))
                    node.parameters[parameter] = {file_.shape(at), file_.read<double>(at)};
                else if (needed)
                    file_.fail(fmt::format("node {} ({}): parameter {} is missing", name, type, parameter),
                               write_nir_anew);
            }
        if (file_.has(place + "/metadata"))
            for (const std::string& key : file_.members(place + "/metadata")) read_metadata(place, key, node);
        graph_.nodes.push_back(std::move(node));
    }

    // One text or one number; other metadata are not ours.
    void read_metadata(const std::string& place, const std::string& key, NirNode& node) {
        const std::string at = fmt::format("{}/metadata/{}", place, key);
        if (file_.holds_text(at))
            node.metadata[key] = one_text(file_, at);
        else if (file_.holds_numbers(at) && file_.shape(at).empty())
            node.metadata[key] = file_.read<double>(at)[0];
    }

    // The nodes Input and Output of a nested graph only pass on what arrives.
    void hide_ports(const std::string& nested) {
        for (const char* type : {"Input", "Output"}) {
            NirNode* port = nullptr;
            int count = 0;
            for (NirNode& node : graph_.nodes)
                if (node.type == type && node.name.starts_with(nested + ".")) port = &node, ++count;
            if (count != 1)
                file_.fail(fmt::format("nested graph {}: {} nodes of type {}, expected 1", nested, count, type),
                           write_nir_anew);
            port->type = "Identity";
            ports_[type[0] == 'I'][nested] = port->name;
        }
    }

    void read_edges(const std::string& group, const std::string& prefix) {
        const std::string name = group + "/edges";
        const std::vector<Index> shape = file_.shape(name);
        if (!shape.empty() && shape[0] == 0) return;
        if (shape.size() != 2 || shape[1] != 2)
            file_.fail(fmt::format("{} has shape {} but must be [E, 2]: source and target of each edge", name,
                                   shape_text(shape)),
                       write_nir_anew);
        const std::vector<std::string> texts = file_.texts(name);
        const auto port = [&](bool of_target, const std::string& node) {
            const auto found = ports_[of_target].find(prefix + node);
            return found == ports_[of_target].end() ? prefix + node : found->second;
        };
        for (std::size_t e = 0; e + 1 < texts.size(); e += 2) {
            std::pair<std::string, std::string> edge{port(false, texts[e]), port(true, texts[e + 1])};
            if (seen_.insert(edge).second) graph_.edges.push_back(std::move(edge));
        }
    }

    const InputFile& file_;
    NirGraph graph_;
    std::size_t count_ = 0;                        // of nodes
    std::map<std::string, std::string> ports_[2];  // of nested graphs: their Output, their Input
    std::set<std::pair<std::string, std::string>> seen_;
};

}  // namespace

NirGraph read_nir(const std::string& path) {
    const InputFile file(path);
    if (!file.has("/node") || !file.has("/node/nodes"))
        file.fail("there is no group /node/nodes, so this is not a NIR file",
                  "name a file that a NIR program wrote; a file with /network does not end in .nir");
    Reader reader(file);
    reader.read_graph("/node", "", 0);
    return reader.finish();
}

void write_nir(const std::string& path, const NirGraph& graph) {
    const ProcessGrid alone(MPI_COMM_SELF, {1, 1});
    OutputFile file(alone, path);
    file.attribute("/", "format", nir_format);
    file.texts("/version", {}, {"1.0.8"});
    file.texts("/node/type", {}, {"NIRGraph"});
    std::vector<std::string> ends;
    for (const auto& [source, target] : graph.edges) ends.insert(ends.end(), {source, target});
    file.texts("/node/edges", {static_cast<Index>(graph.edges.size()), 2}, ends);
    for (const NirNode& node : graph.nodes) {
        const std::string place = "/node/nodes/" + node.name;
        file.texts(place + "/type", {}, {node.type});
        for (const auto& [name, array] : node.parameters) {
            const std::vector<Block<double>> block = {
                {std::vector<Index>(array.shape.size(), 0), array.shape, array.values.data()}};
            if (name == "shape") {  // a whole number in every NIR program
                const std::vector<std::int64_t> whole(array.values.begin(), array.values.end());
                file.dataset<std::int64_t>(place + "/shape", array.shape, {{{0}, array.shape, whole.data()}});
            } else {
                file.dataset<double>(fmt::format("{}/{}", place, name), array.shape, block);
            }
        }
        for (const auto& [key, value] : node.metadata) {
            const std::string at = fmt::format("{}/metadata/{}", place, key);
            if (const auto* text = std::get_if<std::string>(&value))
                file.texts(at, {}, {*text});
            else if (const auto* number = std::get_if<double>(&value))
                file.dataset<double>(at, {}, {{{}, {}, number}});
            else
                file.dataset<std::int64_t>(at, {}, {{{}, {}, &std::get<std::int64_t>(value)}});
        }
    }
    file.finish();
}

}  // namespace spikefloss
