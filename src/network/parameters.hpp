// The parameters of a network and their places in this rank's flat buffers. Values, gradients and optimiser moments
// share one layout: all parameters of this rank's neurons one after another.
//
//   w_in [N, M]  w_rec [N, N]  bias [N]  w_out [O, N]  bias_out [O]  alpha [N]  beta [N]  kappa [O]
//   initial_current [N]  initial_membrane [N], and those that not every network has:
//   threshold [N]  rho [N]  adapt_membrane [N]  adapt_spike [N]  initial_adaptation [N]
//
// A rank holds the rows of its n neurons (columns of w_out), and all of bias_out and kappa. Every neuron shard holds
// these two and updates them in the same way. Matrices are row-major; W_rec is this rank's rows [n, N].
//
// In a network of populations the weights lie in terms. A term is what a step multiplies with the inputs or the spikes
// of one delay: all dense projections of this delay as one matrix [n, M] or [n, N], with zeros (holes) where no
// projection is, or all sparse ones, one after another. Dense projections that would leave most of the matrix empty are
// kept as sparse ones with all entries. Of several projections with the same source, target and delay each has its own
// term. w_in are the terms of the inputs, w_rec those of the spikes.
#pragma once

#include "backend/buffer.hpp"
#include "core/state_size.hpp"
#include "network/sparse_patterns.hpp"
#include "network/topology.hpp"
#include "parallel/process_grid.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace spikefloss {

// The properties of a network other than its parameters: the attributes of /network in a file.
struct NetworkModel {
    NeuronModel neuron;
    Readout readout = Readout::membrane;
    Index refractory = 0;  // steps after a spike in which a neuron cannot spike
};

// This rank's rectangle of one global array of a file, [global_rows, global_cols] row-major, in the flat buffer.
// Vectors are [1, N] (columns sharded), the values of a sparse projection [1, synapses].
struct Segment {
    Parameter parameter;
    std::string name, part = {};  // its dataset is NAME in gradients and moments, and NAME PART in /network
    Index offset = 0;
    Index row = 0, col = 0;    // where it begins in the global array
    Index rows = 0, cols = 0;  // its size
    Index stride = 0;          // from row to row
    Index global_rows = 0, global_cols = 0;
    bool matrix = false;      // the array has two axes in the file
    bool replicated = false;  // the same on every neuron shard (bias_out, kappa)
    Index projection = -1;    // whose weights these are
    Index size() const { return rows * cols; }
    // The axes of the global array.
    std::vector<Index> dims() const {
        return matrix ? std::vector<Index>{global_rows, global_cols} : std::vector<Index>{global_cols};
    }
    // Calls work(values of a row, where they begin in the global array).
    template <class Values, class Work>
    void each_row(Values* values, Work&& work) const {
        for (Index r = 0; r < rows; ++r) work(values + offset + r * stride, (row + r) * global_cols + col);
    }
};

struct Term {
    Index delay = 1;
    Index offset = 0;                    // of its values in the extent of w_in or w_rec
    Index rows = 0, cols = 0;            // n, and M or N
    std::vector<Index> sparse = {};      // the sparse projections, in the order of their values; none: a dense matrix
    Index entries = 0;                   // its values
    SparsePatterns* synapses = nullptr;  // of sparse ones, in backend memory
};

// All products of a step.
struct Terms {
    std::vector<Term> input, recurrent;
};
// Of the plain form: [n, M] and [n, N].
inline Terms plain_terms(Index n, Index N, Index M) {
    return {{{.rows = n, .cols = M, .entries = n * M}}, {{.rows = n, .cols = N, .entries = n * N}}};
}

// A rectangle of a flat buffer, row after row.
struct Rectangle {
    Index offset, rows, cols, stride;
};

class ParameterLayout {
public:
    ParameterLayout() = default;
    // The part of neuron shard `shard`. synapses: of each projection, this rank's; empty for dense ones.
    ParameterLayout(Topology topology, std::vector<Synapses> synapses, Index shards, Index shard);
    // Of the plain form.
    ParameterLayout(NetworkShape shape, Index shards, Index shard)
        : ParameterLayout(Topology{.shape = shape}, {}, shards, shard) {}

    const Topology& topology() const { return structure_->topology; }
    const NetworkShape& shape() const { return structure_->topology.shape; }
    BlockRange neurons() const { return structure_->neurons; }
    Index size() const { return structure_->size; }
    // The arrays of the file, in memory order.
    std::span<const Segment> segments() const { return structure_->segments; }
    // The one array of a parameter of the plain form, or of a vector.
    const Segment& segment(Parameter parameter) const;
    // The range of one parameter; count 0 if the network does not have it.
    struct Extent {
        Index offset = 0, count = 0;
    };
    Extent extent(Parameter parameter) const { return structure_->extents[static_cast<std::size_t>(parameter)]; }
    bool has(Parameter parameter) const { return structure_->present[static_cast<std::size_t>(parameter)]; }
    bool replicated(Parameter parameter) const {
        return parameter == Parameter::bias_out || parameter == Parameter::kappa;
    }
    const Terms& terms() const { return structure_->terms; }
    // What belongs to no parameter.
    std::span<const Rectangle> holes() const { return structure_->holes; }
    // This rank's synapses of a projection that is kept as a sparse one.
    const Synapses& synapses(Index projection) const {
        return structure_->synapses[static_cast<std::size_t>(projection)];
    }
    const std::vector<Synapses>& synapses() const { return structure_->synapses; }
    // Whether W_in is one dense matrix and W_rec another, both of delay 1, as whole passes of the backends take them.
    bool two_matrices() const;

private:
    struct Structure {
        Topology topology;
        std::vector<Synapses> synapses;
        BlockRange neurons;
        std::vector<Segment> segments;
        Terms terms;
        std::vector<Rectangle> holes;
        std::array<Extent, parameter_count> extents{};
        std::array<bool, parameter_count> present{};
        Index size = 0;

        void add_weights(Parameter parameter);
        void add_plain(Parameter parameter, Index cols);
        void add_matrix(Index delay, const std::vector<Index>& members, Parameter parameter, Index cols);
        void add_sparse(const std::vector<Index>& members, Parameter parameter);
        void add_readout();
        void add_vector(Parameter parameter, bool replicated);
    };
    std::shared_ptr<const Structure> structure_ = std::make_shared<Structure>();
};

// One rank's part of a network in host memory, as it is read from and written to files.
struct HostNetwork {
    NetworkModel model;
    ParameterLayout layout;
    std::vector<float> values;    // [layout.size()]; empty in a plan, where only sizes count
    bool planned_current = true;  // of a plan: whether any alpha is not 0
    std::string nir = {};         // of a network that was a NIR graph: io/nir_network.hpp

    // Whether any alpha of this rank's neurons is not 0.
    bool has_current() const;
};

// The same network in which each neuron has a threshold of its own, so that it can be trained.
HostNetwork with_thresholds(const HostNetwork& network, Index shards, Index shard);

// What is wrong with a number of a network, and what to do.
struct OutOfRange {
    std::string problem, suggestion;
};
// The first of these weights, number `first` of `array` and the following ones, that is against the sign.
std::optional<OutOfRange> against_sign(Sign sign, const std::string& array, const float* weights, Index first,
                                       Index count);
// The same of all weights of this rank, and decays outside 0 to 1. in_file: arrays are named as in a network file.
std::optional<OutOfRange> out_of_range(const ParameterLayout& layout, const std::vector<float>& values, bool in_file);

// One rank's part of a network in backend memory.
class Network {
public:
    Network(Backend& backend, const ProcessGrid& grid, const HostNetwork& host);

    NetworkModel model;
    ParameterLayout layout;
    Buffer<float> values;  // [layout.size()]

    const float* operator[](Parameter p) const { return values.data() + layout.extent(p).offset; }
    float* operator[](Parameter p) { return values.data() + layout.extent(p).offset; }
    NeuronVectors neurons() const;
    // Where a gradient of this layout has the sums of the neurons' constants.
    ConstantSums constant_sums(SumBuffer& gradient) const;
    // Copies the weights of sparse projections to the order by column, which products take less time with. To be called
    // before a pass, because updates change the weights.
    void sort_synapses() const;
    // The terms with their synapses. Valid while the network is.
    const Terms& terms() const { return terms_; }
    Index n() const { return layout.neurons().size(); }
    // Why no whole pass of a backend can take this network; null: some can.
    const char* only_loops() const;
    // What makes its neurons other than plain ones, which every whole pass can take; null: nothing.
    const char* adapted() const;
    // False when every alpha of the whole network is 0: then the state has no currents.
    bool has_current() const { return has_current_; }
    bool has_adaptation() const { return layout.topology().adaptation; }
    // The state without delay lines: D = N times the 1 to 3 numbers of a neuron.
    Index state_parts() const { return spikefloss::state_parts(has_current_, has_adaptation()); }
    Index state_size() const { return layout.shape().neurons * state_parts(); }
    HostNetwork to_host() const { return {model, layout, values.to_host()}; }

private:
    bool has_current_ = true;
    std::vector<std::unique_ptr<SparsePatterns>> synapses_;
    Terms terms_;
};

}  // namespace spikefloss
