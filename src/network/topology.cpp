// The delays of a topology.
#include "network/topology.hpp"

#include <algorithm>

namespace spikefloss {

Index Topology::longest_delay() const {
    Index longest = 1;
    for (const Projection& p : projections)
        if (p.source != from_input) longest = std::max(longest, p.delay);
    return longest;
}

std::vector<Index> Topology::depths() const {
    std::vector<Index> depths(populations.size(), 0);
    for (const Projection& p : projections)
        if (p.source != from_input) {
            Index& depth = depths[static_cast<std::size_t>(p.source)];
            depth = std::max(depth, p.delay - 1);
        }
    return depths;
}

}  // namespace spikefloss
