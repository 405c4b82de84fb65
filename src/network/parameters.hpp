// The parameters of a network and their places in this rank's flat buffers. Values, gradients and optimiser moments
// share one layout: all parameters of this rank's neurons one after another.
//
//   w_in [N, M]  w_rec [N, N]  bias [N]  w_out [O, N]  bias_out [O]  alpha [N]  beta [N]  kappa [O]
//   initial_current [N]  initial_membrane [N]
//
// A rank holds the rows of its n neurons (columns of w_out), and all of bias_out and kappa. Every neuron shard holds
// these two and updates them in the same way. Matrices are row-major; W_rec is this rank's rows [n, N].
#pragma once

#include "backend/buffer.hpp"
#include "core/state_size.hpp"
#include "parallel/process_grid.hpp"

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace spikefloss {

struct NetworkShape {
    Index neurons = 0, inputs = 0, outputs = 0;  // N, M, O
    bool operator==(const NetworkShape&) const = default;
};

// The properties of a network other than its parameters: the attributes of /network in a file.
struct NetworkModel {
    NeuronModel neuron;
    Readout readout = Readout::membrane;
};

// This rank's rectangle of a global [rows, cols] parameter, held contiguously (row-major) at `offset` of the flat
// buffer. Vectors are [1, N] (columns sharded).
struct Segment {
    Parameter parameter;
    Index offset = 0;
    Index row = 0, col = 0;    // where it begins in the global array
    Index rows = 0, cols = 0;  // its size
    Index global_rows = 0, global_cols = 0;
    bool replicated = false;  // the same on every neuron shard (bias_out, kappa)
    Index size() const { return rows * cols; }
};

class ParameterLayout {
public:
    ParameterLayout() = default;
    ParameterLayout(NetworkShape shape, Index neuron_shards, Index neuron_shard);

    const NetworkShape& shape() const { return shape_; }
    BlockRange neurons() const { return neurons_; }
    Index size() const { return size_; }
    // One segment per parameter, in memory order.
    std::span<const Segment> segments() const& { return segments_; }
    std::span<const Segment> segments() const&& = delete;  // it would outlive the layout
    // The range of one parameter: {offset, count}.
    struct Extent {
        Index offset, count;
    };
    Extent extent(Parameter parameter) const {
        const Segment& segment = segments_[static_cast<std::size_t>(parameter)];
        return {segment.offset, segment.size()};
    }

private:
    NetworkShape shape_;
    BlockRange neurons_;
    std::array<Segment, parameter_count> segments_{};
    Index size_ = 0;
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

// One rank's part of a network in backend memory.
class Network {
public:
    Network(Backend& backend, const ProcessGrid& grid, const HostNetwork& host);

    NetworkModel model;
    ParameterLayout layout;
    Buffer<float> values;  // [layout.size()]

    const float* operator[](Parameter p) const { return values.data() + layout.extent(p).offset; }
    float* operator[](Parameter p) { return values.data() + layout.extent(p).offset; }
    NeuronVectors neurons() const {
        return {(*this)[Parameter::alpha], (*this)[Parameter::beta], (*this)[Parameter::bias]};
    }
    Index n() const { return layout.neurons().size(); }
    // False when every alpha of the whole network is 0: then the state is the membrane alone (D = N).
    bool has_current() const { return has_current_; }
    Index state_size() const { return spikefloss::state_size(layout.shape().neurons, has_current_); }  // D
    HostNetwork to_host() const { return {model, layout, values.to_host()}; }

private:
    bool has_current_ = true;
};

}  // namespace spikefloss
