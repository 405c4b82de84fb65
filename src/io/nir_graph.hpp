// A NIR graph (neuroir.org) as its file holds it, and what it means: populations of neurons and the weights between
// them.
//
//   /version                       text
//   /node/type = "NIRGraph"        /node/edges [E, 2] texts: source, target
//   /node/nodes/NAME/type          "CubaLIF", ...; .../PARAMETER numbers; .../metadata/KEY texts and numbers
//
// A node can be a graph itself, with edges and nodes of its own.
#pragma once

#include "io/hdf5_file.hpp"

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace spikefloss {

struct NirArray {
    std::vector<Index> shape;  // none: a scalar
    std::vector<double> values;
};

struct NirNode {
    std::string name, type;
    std::map<std::string, NirArray> parameters;
    std::map<std::string, AttributeValue> metadata;
};

struct NirGraph {
    std::vector<NirNode> nodes;
    std::vector<std::pair<std::string, std::string>> edges;
};

// The graph without nested graphs: node b of the nested graph a is node a.b. Its nodes are in the order of their names;
// types that spikefloss does not know have no parameters. Error(Exit::bad_file) names the node or the edge.
NirGraph read_nir(const std::string& path);

// Writes a graph without nested graphs. On one rank.
void write_nir(const std::string& path, const NirGraph& graph);
inline constexpr const char* nir_format = "spikefloss-nir";  // attribute format of "/"

// Weights from one population to another, [rows, cols]; without `values`: `scale` times the identity.
struct NirWeights {
    Index rows = 0, cols = 0;
    double scale = 1.0;
    std::vector<double> values;
    double at(Index row, Index col) const {
        return values.empty() ? (row == col ? scale : 0.0) : values[static_cast<std::size_t>(row * cols + col)];
    }
};

// What arrives at a node: the weights from each source (a population, or nir_input), and a bias.
inline constexpr int nir_input = -1;
struct NirArrivals {
    std::map<int, NirWeights> weights;
    std::vector<double> bias;  // [rows]; empty: 0
};

struct NirPopulation {
    std::string name, type;  // LIF, CubaLIF, Threshold (which never resets; with tau if it was LI), LI or I
    Index size = 0;
    std::map<std::string, std::vector<double>> parameters;  // [size] each, all that the type has
    NirArrivals arrivals;
    Index depth = 0;         // populations between the input and this one
    std::vector<int> cycle;  // all populations that reach this one and are reached by it; edges between them delay
    bool spikes() const { return type != "LI" && type != "I"; }
};

struct NirPopulations {
    Index inputs = 0;
    std::vector<NirPopulation> all;
    NirArrivals output;  // of the graph
    Index outputs = 0;
    std::map<std::string, AttributeValue> metadata;  // of the populations
};

// Multiplies out the linear nodes between populations. Errors begin with `path`.
NirPopulations nir_populations(const NirGraph& graph, const std::string& path);

}  // namespace spikefloss
