// Lays out the parameters of one rank.
#include "network/parameters.hpp"

#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {

std::string_view name_of(Parameter parameter) {
    constexpr std::array<std::string_view, parameter_count> names = {
        "w_in", "w_rec", "bias", "w_out", "bias_out", "alpha", "beta", "kappa", "initial_current", "initial_membrane"};
    return names[static_cast<std::size_t>(parameter)];
}

ParameterLayout::ParameterLayout(NetworkShape shape, Index neuron_shards, Index neuron_shard)
    : shape_(shape), neurons_(block_range(shape.neurons, neuron_shards, neuron_shard)) {
    const Index N = shape.neurons, M = shape.inputs, O = shape.outputs, n = neurons_.size(), first = neurons_.begin;
    const auto add = [&](Segment segment) {
        segment.offset = size_;
        size_ += segment.size();
        segments_.push_back(segment);
    };
    for (Parameter p : all_parameters) {
        const Index begin = size_;
        switch (p) {
            case Parameter::w_in: add({p, 0, first, 0, n, M, N, M}); break;
            case Parameter::w_rec:
                for (const BlockRange& pre : block_ranges(N, neuron_shards))
                    add({p, 0, first, pre.begin, n, pre.size(), N, N});
                break;
            case Parameter::w_out: add({p, 0, 0, first, O, n, O, N}); break;
            case Parameter::bias_out:
            case Parameter::kappa: add({p, 0, 0, 0, 1, O, 1, O, true}); break;
            default: add({p, 0, 0, first, 1, n, 1, N}); break;
        }
        extents_[static_cast<std::size_t>(p)] = {begin, size_ - begin};
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
