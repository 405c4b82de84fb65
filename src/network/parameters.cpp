// Lays out the parameters of one rank.
#include "network/parameters.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {

ParameterLayout::ParameterLayout(NetworkShape shape, Index neuron_shards, Index neuron_shard)
    : shape_(shape), neurons_(block_range(shape.neurons, neuron_shards, neuron_shard)) {
    const Index N = shape.neurons, M = shape.inputs, O = shape.outputs, n = neurons_.size(), first = neurons_.begin;
    const auto segment_of = [&](Parameter p) -> Segment {
        switch (p) {
            case Parameter::w_in: return {p, size_, first, 0, n, M, N, M};
            case Parameter::w_rec: return {p, size_, first, 0, n, N, N, N};
            case Parameter::w_out: return {p, size_, 0, first, O, n, O, N};
            case Parameter::bias_out:
            case Parameter::kappa: return {p, size_, 0, 0, 1, O, 1, O, true};
            default: return {p, size_, 0, first, 1, n, 1, N};
        }
    };
    for (Parameter p : all_parameters) {
        Segment& segment = segments_[static_cast<std::size_t>(p)];
        segment = segment_of(p);
        size_ += segment.size();
    }
}

bool HostNetwork::has_current() const {
    if (values.empty()) return planned_current;
    const auto [offset, count] = layout.extent(Parameter::alpha);
    const auto first = values.begin() + offset;
    return std::any_of(first, first + count, [](float alpha) { return alpha != 0.0f; });
}

Network::Network(Backend& backend, const ProcessGrid& grid, const HostNetwork& host)
    : model(host.model), layout(host.layout), values(backend, layout.size()) {
    if (!host.values.empty()) values.copy_in(host.values.data());
    // All ranks must use the same size of the state, whatever alphas they hold.
    std::int64_t nonzero = host.has_current();
    grid.control().all_reduce_sum(&nonzero, Scalar::int64, 1);
    has_current_ = nonzero > 0;
}

}  // namespace spikefloss
