// From the nodes and edges of a NIR graph to populations and the weights between them: the linear nodes on the way from
// one population to another are multiplied out. An edge within a cycle delays by one step, as NIR programs run it;
// every other edge has an effect in the same step. The depth of a population is the number of populations before it.
#include "io/nir_graph.hpp"

#include "core/error.hpp"

#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <set>

namespace spikefloss {
namespace {

class Compiler {
public:
    Compiler(const NirGraph& graph, const std::string& path) : nodes_(graph.nodes), path_(path) {
        for (std::size_t i = 0; i < nodes_.size(); ++i) index_[nodes_[i].name] = static_cast<int>(i);
        before_.resize(nodes_.size());
        after_.resize(nodes_.size());
        for (const auto& [source, target] : graph.edges) connect(index_.at(source), index_.at(target));
    }

    NirPopulations compile() {
        require_types();
        const int input = only("Input"), output = only("Output");
        NirPopulations result;
        result.inputs = input_size(input);
        fuse_thresholds();
        sources_[input] = nir_input;
        std::vector<int> order;  // the node of each population
        for (int i = 0; i < count(); ++i) {
            if (!is_population(i)) continue;
            sources_[i] = static_cast<int>(order.size());
            order.push_back(i);
        }
        for (const int node : order) result.all.push_back(population(node, result));
        result.output = arriving(output);
        for (NirPopulation& p : result.all) check_sizes(p.arrivals, p.name, p.size, result);
        result.outputs = rows_of(result.output, result);
        check_sizes(result.output, nodes_[at(output)].name, result.outputs, result);
        find_cycles(result);
        find_depths(result);
        return result;
    }

private:
    static std::size_t at(int i) { return static_cast<std::size_t>(i); }
    int count() const { return static_cast<int>(nodes_.size()); }
    const std::string& type(int i) const { return nodes_[at(i)].type; }
    bool is_population(int i) const {
        static const std::set<std::string> types = {"LIF", "CubaLIF", "LI", "I", "Threshold"};
        return types.contains(type(i));
    }

    [[noreturn]] void fail(const std::string& problem, const std::string& suggestion) const {
        throw Error(Exit::bad_file, path_ + ": " + problem, suggestion);
    }

    void connect(int source, int target) {
        before_[at(target)].push_back(source);
        after_[at(source)].push_back(target);
    }

    void require_types() const {
        static const std::set<std::string> others = {"Input", "Output", "Identity", "Linear", "Affine", "Scale"};
        for (int i = 0; i < count(); ++i) {
            if (is_population(i) || others.contains(type(i))) continue;
            const std::string problem = fmt::format("node {}: type {} is not supported", nodes_[at(i)].name, type(i));
            if (type(i) == "IF")
                fail(problem + ": a membrane without a leak would need beta = 1, and spikefloss has beta < 1",
                     "train with LIF neurons of a long tau");
            if (type(i) == "CubaLI")
                fail(problem + ": spikefloss has one filter behind the readout, and CubaLI has two",
                     "use LI, which becomes kappa, or CubaLIF, which spikes");
            if (type(i) == "Delay")
                fail(problem + ": a graph becomes one dense matrix, in which all delays are one step",
                     "write the network as HDF5, where projections have delays (docs/populations.md)");
            fail(problem, "LIF, CubaLIF, LI, I, Threshold, Linear, Affine and Scale are (docs/nir.md)");
        }
    }

    int only(const char* wanted) const {
        int found = -1, number = 0;
        for (int i = 0; i < count(); ++i)
            if (type(i) == wanted) found = i, ++number;
        if (number != 1)
            fail(fmt::format("{} nodes of type {}; exactly one is supported", number, wanted),
                 "join them into one in the program that wrote the file");
        return found;
    }

    Index input_size(int input) const {
        double size = 1.0;
        for (const double n : nodes_[at(input)].parameters.at("shape").values) size *= n;
        if (!(size >= 1.0 && size <= 0x1p31) || size != static_cast<double>(static_cast<Index>(size)))
            fail(fmt::format("node {}: its shape gives {} inputs", nodes_[at(input)].name, size),
                 "the numbers of shape must be whole and at least 1");
        return static_cast<Index>(size);
    }

    // LI -> Threshold, and nothing else behind that LI: neurons that spike and never reset. The LI becomes them.
    void fuse_thresholds() {
        for (int i = 0; i < count(); ++i) {
            if (type(i) != "Threshold" || before_[at(i)].size() != 1) continue;
            const int li = before_[at(i)][0];
            if (type(li) != "LI" || after_[at(li)].size() != 1) continue;
            NirNode &filter = nodes_[at(li)], &threshold = nodes_[at(i)];
            filter.type = "Threshold";
            filter.parameters["threshold"] = threshold.parameters["threshold"];
            filter.metadata.insert(threshold.metadata.begin(), threshold.metadata.end());
            threshold.type = "Identity";
        }
    }

    NirPopulation population(int i, NirPopulations& result) {
        const NirNode& node = nodes_[at(i)];
        NirPopulation p;
        p.name = node.name;
        p.type = node.type;
        p.arrivals = arriving(i);
        for (const auto& [name, array] : node.parameters)
            p.size = std::max(p.size, static_cast<Index>(array.values.size()));
        for (const auto& [source, weights] : p.arrivals.weights)
            p.size = std::max(p.size, !weights.values.empty() ? weights.rows : source == nir_input ? result.inputs : 0);
        p.size = std::max(p.size, static_cast<Index>(p.arrivals.bias.size()));
        for (const auto& [name, array] : node.parameters) {
            if (array.values.size() != 1 && static_cast<Index>(array.values.size()) != p.size)
                fail(fmt::format("node {} ({}): {} has {} values, but the node has {} neurons", node.name, node.type,
                                 name, array.values.size(), p.size),
                     "a parameter has one value, or one for each neuron");
            p.parameters[name] =
                array.values.size() == 1 ? std::vector<double>(at_index(p.size), array.values[0]) : array.values;
        }
        for (const auto& [key, value] : node.metadata) {
            const auto [place, is_new] = result.metadata.try_emplace(key, value);
            if (!is_new && place->second != value && key != "name")
                fail(fmt::format("node {}: its metadata have another {} than those of other nodes", node.name, key),
                     "all neurons of a network have one step and one rule");
        }
        return p;
    }

    static std::size_t at_index(Index i) { return static_cast<std::size_t>(i); }

    // No matrix that the memory of this machine cannot hold.
    std::vector<double> matrix(Index rows, Index cols) const {
        const double bytes = static_cast<double>(rows) * static_cast<double>(cols) * sizeof(double);
        if (bytes > static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE)) / 2)
            fail(fmt::format("weights of {} x {} numbers take too much memory", rows, cols), "use a smaller network");
        return std::vector<double>(at_index(rows * cols), 0.0);
    }

    void make_dense(NirWeights& w, Index size) const {
        if (!w.values.empty()) return;
        w.values = matrix(size, size);
        w.rows = w.cols = size;
        for (Index i = 0; i < size; ++i) w.values[at_index(i * size + i)] = w.scale;
    }

    // total += more
    void add(NirArrivals& total, const NirArrivals& more, const std::string& where) const {
        for (const auto& [source, w] : more.weights) {
            const auto [place, is_new] = total.weights.try_emplace(source, w);
            if (is_new) continue;
            NirWeights& sum = place->second;
            if (sum.values.empty() && w.values.empty()) {
                sum.scale += w.scale;
                continue;
            }
            NirWeights term = w;
            make_dense(sum, term.rows);
            make_dense(term, sum.rows);
            if (sum.rows != term.rows || sum.cols != term.cols)
                fail(fmt::format("node {}: weights of {} x {} and of {} x {} meet here", where, sum.rows, sum.cols,
                                 term.rows, term.cols),
                     "weights that are added must have one shape");
            for (std::size_t i = 0; i < sum.values.size(); ++i) sum.values[i] += term.values[i];
        }
        if (total.bias.empty())
            total.bias = more.bias;
        else if (!more.bias.empty()) {
            if (total.bias.size() != more.bias.size())
                fail(fmt::format("node {}: biases of {} and {} numbers meet here", where, total.bias.size(),
                                 more.bias.size()),
                     "what arrives at a node must have one size");
            for (std::size_t i = 0; i < total.bias.size(); ++i) total.bias[i] += more.bias[i];
        }
    }

    // What arrives at node i.
    NirArrivals arriving(int i) {
        NirArrivals total;
        for (const int source : before_[at(i)]) {
            if (const auto known = sources_.find(source); known != sources_.end())
                add(total, {{{known->second, NirWeights{}}}, {}}, nodes_[at(i)].name);
            else
                add(total, passed(source), nodes_[at(i)].name);
        }
        return total;
    }

    // What a linear node passes on. Kept, because many ways may lead through it.
    const NirArrivals& passed(int i) {
        const auto known = passed_.find(i);
        if (known != passed_.end()) return known->second;
        const NirNode& node = nodes_[at(i)];
        if (node.type == "Output") fail(fmt::format("node {} (Output) drives a node", node.name), "remove that edge");
        way_.push_back(node.name);
        if (way_.size() > 1000 || std::find(way_.begin(), way_.end() - 1, node.name) != way_.end() - 1)
            fail(fmt::format("the linear nodes {} form a cycle without a neuron", fmt::join(way_, " <- ")),
                 "a cycle needs a node with a state: LIF or CubaLIF");
        NirArrivals out = arriving(i);
        if (node.type == "Scale")
            scale(out, node);
        else if (node.type != "Identity")
            multiply(out, node);
        way_.pop_back();
        return passed_.emplace(i, std::move(out)).first->second;
    }

    void scale(NirArrivals& out, const NirNode& node) const {
        const std::vector<double>& factors = node.parameters.at("scale").values;
        const auto factor = [&](Index row, Index rows) {
            if (factors.size() != 1 && static_cast<Index>(factors.size()) != rows)
                fail(fmt::format("node {}: scale has {} values, but {} arrive", node.name, factors.size(), rows),
                     "scale has one value, or one for each that arrives");
            return factors[factors.size() == 1 ? 0 : at_index(row)];
        };
        for (auto& [source, w] : out.weights) {
            if (w.values.empty() && factors.size() == 1) {
                w.scale *= factors[0];
                continue;
            }
            make_dense(w, static_cast<Index>(factors.size()));
            for (Index r = 0; r < w.rows; ++r)
                for (Index c = 0; c < w.cols; ++c) w.values[at_index(r * w.cols + c)] *= factor(r, w.rows);
        }
        for (std::size_t r = 0; r < out.bias.size(); ++r)
            out.bias[r] *= factor(static_cast<Index>(r), static_cast<Index>(out.bias.size()));
    }

    void multiply(NirArrivals& out, const NirNode& node) const {
        const NirArray& weight = node.parameters.at("weight");
        if (weight.shape.size() != 2 || weight.shape[0] < 1 || weight.shape[1] < 1)
            fail(fmt::format("node {} ({}): weight has shape {} but must be a matrix [outputs, inputs]", node.name,
                             node.type, shape_text(weight.shape)),
                 "write one row for each output");
        const Index rows = weight.shape[0], inner = weight.shape[1];
        const auto require_inner = [&](Index size) {
            if (size != inner)
                fail(fmt::format("node {} ({}): weight has {} columns, but {} numbers arrive", node.name, node.type,
                                 inner, size),
                     "the columns of a weight are what arrives at its node");
        };
        for (auto& [source, w] : out.weights) {
            NirWeights product{rows, inner, 1.0, {}};
            if (w.values.empty()) {
                product.values = weight.values;
                if (w.scale != 1.0)
                    for (double& value : product.values) value *= w.scale;
            } else {
                require_inner(w.rows);
                product.cols = w.cols;
                product.values = matrix(rows, w.cols);
                for (Index r = 0; r < rows; ++r)
                    for (Index k = 0; k < inner; ++k)
                        for (Index c = 0; c < w.cols; ++c)
                            product.values[at_index(r * w.cols + c)] +=
                                weight.values[at_index(r * inner + k)] * w.values[at_index(k * w.cols + c)];
            }
            w = std::move(product);
        }
        std::vector<double> bias;
        if (!out.bias.empty()) {
            if (out.bias.size() != 1) require_inner(static_cast<Index>(out.bias.size()));
            bias.assign(at_index(rows), 0.0);
            for (Index r = 0; r < rows; ++r)
                for (Index k = 0; k < inner; ++k)
                    bias[at_index(r)] +=
                        weight.values[at_index(r * inner + k)] * out.bias[out.bias.size() == 1 ? 0 : at_index(k)];
        }
        if (node.type == "Affine") {
            const std::vector<double>& own = node.parameters.at("bias").values;
            if (static_cast<Index>(own.size()) != rows)
                fail(fmt::format("node {} (Affine): bias has {} values, weight has {} rows", node.name, own.size(),
                                 rows),
                     "the bias has one value for each row of the weight");
            if (bias.empty()) bias.assign(own.size(), 0.0);
            for (std::size_t r = 0; r < own.size(); ++r) bias[r] += own[r];
        }
        out.bias = std::move(bias);
    }

    Index size_of(int source, const NirPopulations& all) const {
        return source == nir_input ? all.inputs : all.all[at(source)].size;
    }

    // The number of values that arrive.
    Index rows_of(const NirArrivals& arrivals, const NirPopulations& all) const {
        for (const auto& [source, w] : arrivals.weights) return w.values.empty() ? size_of(source, all) : w.rows;
        return static_cast<Index>(arrivals.bias.size());
    }

    void check_sizes(NirArrivals& arrivals, const std::string& name, Index size, const NirPopulations& all) const {
        for (auto& [source, w] : arrivals.weights) {
            const std::string from = source == nir_input ? "the input" : all.all[at(source)].name;
            const Index sent = size_of(source, all);
            if (w.values.empty()) w.rows = w.cols = sent;
            if (w.cols != sent)
                fail(fmt::format("node {}: weights from {} have {} columns, but {} has {} numbers", name, from, w.cols,
                                 from, sent),
                     "the columns of a weight are what arrives at its node");
            if (w.rows != size)
                fail(fmt::format("node {}: {} numbers arrive from {}, but the node has {}", name, w.rows, from, size),
                     "the rows of a weight are the numbers of the node that it drives");
        }
        if (arrivals.bias.empty()) arrivals.bias.assign(at_index(size), 0.0);
        if (arrivals.bias.size() == 1) arrivals.bias.assign(at_index(size), arrivals.bias[0]);
        if (static_cast<Index>(arrivals.bias.size()) != size)
            fail(fmt::format("node {}: a bias of {} numbers arrives, but the node has {}", name, arrivals.bias.size(),
                             size),
                 "the rows of a weight are the numbers of the node that it drives");
    }

    static void find_cycles(NirPopulations& all) {
        const std::size_t n = all.all.size();
        std::vector<std::set<int>> reached(n);
        for (std::size_t k = 0; k < n; ++k) {
            std::vector<int> todo = {static_cast<int>(k)};
            while (!todo.empty()) {
                const int now = todo.back();
                todo.pop_back();
                for (std::size_t q = 0; q < n; ++q)
                    if (all.all[q].arrivals.weights.contains(now) && reached[k].insert(static_cast<int>(q)).second)
                        todo.push_back(static_cast<int>(q));
            }
        }
        for (std::size_t k = 0; k < n; ++k)
            for (const int q : reached[k])
                if (reached[at(q)].contains(static_cast<int>(k))) all.all[k].cycle.push_back(q);
    }

    // A cycle has one depth: one more than the deepest population before it.
    static void find_depths(NirPopulations& all) {
        bool changed = true;
        while (changed) {  // at most once per population: there is no cycle of cycles
            changed = false;
            for (NirPopulation& p : all.all) {
                Index depth = p.depth;
                for (const auto& [source, w] : p.arrivals.weights)
                    if (source != nir_input)
                        depth = std::max(depth, all.all[at(source)].depth +
                                                    (std::count(p.cycle.begin(), p.cycle.end(), source) ? 0 : 1));
                changed = changed || depth != p.depth;
                p.depth = depth;
            }
        }
    }

    std::vector<NirNode> nodes_;
    const std::string& path_;
    std::map<std::string, int> index_;
    std::vector<std::vector<int>> before_, after_;  // the edges of each node
    std::map<int, int> sources_;                    // node -> population, or nir_input
    std::map<int, NirArrivals> passed_;
    std::vector<std::string> way_;  // of linear nodes, to the present one
};

}  // namespace

NirPopulations nir_populations(const NirGraph& graph, const std::string& path) {
    return Compiler(graph, path).compile();
}

}  // namespace spikefloss
