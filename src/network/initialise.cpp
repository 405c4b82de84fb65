#include "network/initialise.hpp"

#include "backend/one_blas_thread.hpp"
#include "core/error.hpp"
#include "core/random.hpp"
#include "core/state_size.hpp"
#include "network/connectivity.hpp"
#include "network/initial_weights.hpp"

#include <lapacke.h>

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

double draw(std::uint64_t seed, Parameter p, Index row, Index col, Index copy = 0) {
    return normal(seed, Stream::weights, static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(row),
                  static_cast<std::uint32_t>(col), static_cast<std::uint32_t>(copy));
}

// A random orthogonal matrix [n, n] (Haar measure): Q of the QR of a Gaussian matrix, columns signed by R's diagonal.
// begin: the first neuron of the population.
std::vector<double> random_orthogonal(std::uint64_t seed, Index begin, Index N, Index copy) {
    std::vector<double> a(static_cast<std::size_t>(N * N)), tau(static_cast<std::size_t>(N)), sign(tau.size());
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j)
            a[static_cast<std::size_t>(j * N + i)] = draw(seed, Parameter::w_rec, begin + i, begin + j, copy);
    const int n = static_cast<int>(N);
    const OneBlasThread one;  // the same weights on every machine and backend
    int info = LAPACKE_dgeqrf(LAPACK_COL_MAJOR, n, n, a.data(), n, tau.data());
    for (Index j = 0; j < N; ++j)
        sign[static_cast<std::size_t>(j)] = a[static_cast<std::size_t>(j * N + j)] < 0 ? -1 : 1;
    if (info == 0) info = LAPACKE_dorgqr(LAPACK_COL_MAJOR, n, n, n, a.data(), n, tau.data());
    require(info == 0, Exit::internal,
            fmt::format("the QR of a random {0} x {0} matrix failed (LAPACK info {1})", N, info));
    std::vector<double> q(a.size());
    for (Index i = 0; i < N; ++i)
        for (Index j = 0; j < N; ++j)
            q[static_cast<std::size_t>(i * N + j)] =
                a[static_cast<std::size_t>(j * N + i)] * sign[static_cast<std::size_t>(j)];
    return q;
}

double decay(double tau, double spread, std::uint64_t seed, Parameter p, Index neuron) {
    if (tau <= 0.0) return 0.0;
    const auto words =
        random_words(seed, Stream::weights, static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(neuron), 0, 1);
    return std::exp(-1.0 / (tau * (1.0 + spread * (2.0 * uniform(words[0]) - 1.0))));
}

// The settings with the numbers that follow from them.
struct Plan {
    const InitialNetwork& settings;
    Topology topology;
    std::vector<Population> populations;     // also of the plain form
    std::vector<Connectivity> connectivity;  // of each projection
    std::vector<Index> copies;               // earlier projections between the same populations

    explicit Plan(const InitialNetwork& wish) : settings(wish) {
        Index begin = 0;
        for (const InitialPopulation& p : wish.populations) {
            const Index size = p.neurons > 0 ? p.neurons : wish.shape.neurons;
            populations.push_back({p.name, begin, size});
            begin += size;
        }
        SPIKEFLOSS_ASSERT(begin == wish.shape.neurons);
        topology.shape = wish.shape;
        topology.readout_from = wish.readout_from;
        topology.thresholds = wish.thresholds;
        topology.adaptation = wish.model.neuron.adaptation != Adaptation::none;
        if (!wish.plain) topology.populations = populations;
        for (std::size_t at = 0; at < wish.projections.size(); ++at) {
            const InitialProjection& p = wish.projections[at];
            const auto target = populations[static_cast<std::size_t>(p.target)].range();
            copies.push_back(std::count_if(
                wish.projections.begin(), wish.projections.begin() + static_cast<std::ptrdiff_t>(at),
                [&](const InitialProjection& q) { return q.source == p.source && q.target == p.target; }));
            const Index sources = source_of(p).size();
            require(p.in_degree <= sources, Exit::usage,
                    fmt::format("projection.{}.in_degree = {} is more than the {} inputs of the task", p.name,
                                p.in_degree, sources),
                    fmt::format("choose at most {}", sources));
            connectivity.emplace_back(p, wish.seed, p.source == from_input ? -1 : source_of(p).begin, sources, target,
                                      copies.back());
            const Connectivity& c = connectivity.back();
            require(!c.has_weights() || p.init != WeightInit::fluctuation, Exit::usage,
                    fmt::format("projection.{}.init = \"fluctuation\", but its file has weights", p.name),
                    fmt::format("choose another init for all projections to population {}, or remove the weights from "
                                "the file, so that they are drawn",
                                populations[static_cast<std::size_t>(p.target)].name));
            if (!wish.plain)
                topology.projections.push_back({p.name, p.source, p.target, p.delay, p.sign, is_sparse(at),
                                                is_sparse(at) ? c.synapses_of(target.size()) : 0});
        }
    }

    bool is_sparse(std::size_t at) const { return settings.projections[at].sparse || !connectivity[at].all(); }
    BlockRange source_of(const InitialProjection& p) const {
        return p.source == from_input ? BlockRange{0, settings.shape.inputs}
                                      : populations[static_cast<std::size_t>(p.source)].range();
    }
    const InitialPopulation& population_of(Index neuron) const {
        std::size_t at = 0;
        while (!populations[at].range().contains(neuron)) ++at;
        return settings.populations[at];
    }
    double on_grid(double w) const {
        return settings.weight_step > 0.0 ? std::round(w / settings.weight_step) * settings.weight_step : w;
    }

    ParameterLayout layout(Index shards, Index shard) const {
        const BlockRange mine = block_range(settings.shape.neurons, shards, shard);
        std::vector<Synapses> synapses(topology.projections.size());
        for (std::size_t at = 0; at < synapses.size(); ++at) {
            if (!topology.projections[at].sparse) continue;
            const BlockRange target = topology.target_of(topology.projections[at]);
            const Index begin = std::clamp(mine.begin, target.begin, target.end),
                        end = std::clamp(mine.end, target.begin, target.end);
            if (end > begin) synapses[at] = connectivity[at].synapses(begin - target.begin, end - begin);
        }
        return ParameterLayout(topology, std::move(synapses), shards, shard);
    }
};

// Calls put(row, column, value) for each synapse of a projection onto the targets first .. first + rows - 1.
// columns: of these rows, empty if all exist.
template <class Put>
void make_weights(const Plan& plan, std::size_t at, Index first, Index rows, const Synapses* synapses, Put&& put) {
    const InitialProjection& p = plan.settings.projections[at];
    const BlockRange source = plan.source_of(p), target = plan.populations[static_cast<std::size_t>(p.target)].range();
    const bool input = p.source == from_input;
    const Parameter parameter = input ? Parameter::w_in : Parameter::w_rec;
    const double sign = p.sign == Sign::inhibitory ? -1.0 : 1.0;
    const double root_k = std::sqrt(plan.connectivity[at].mean_degree());
    std::vector<double> degrees;
    for (const Connectivity& c : plan.connectivity) degrees.push_back(c.mean_degree());
    const WeightScale scale = p.init == WeightInit::balanced      ? balanced_weights(plan.settings, degrees, at)
                              : p.init == WeightInit::fluctuation ? fluctuation_weights(plan.settings, degrees, at)
                                                                  : WeightScale{};
    const std::vector<double> orthogonal =
        p.init == WeightInit::orthogonal
            ? random_orthogonal(plan.settings.seed, source.begin, source.size(), plan.copies[at])
            : std::vector<double>();
    const auto weight = [&](Index row, Index column) {
        if (p.init == WeightInit::orthogonal)
            return p.gain * orthogonal[static_cast<std::size_t>(row * source.size() + column)];
        if (p.init == WeightInit::balanced) return scale.mean;
        const Index i = target.begin + row, j = source.begin + column;
        if (p.init == WeightInit::fluctuation && p.sign != Sign::any) {
            const auto w = random_words(plan.settings.seed, Stream::weights, static_cast<std::uint32_t>(parameter),
                                        static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(j),
                                        static_cast<std::uint32_t>(plan.copies[at]));
            return -scale.mean * std::log(uniform(w[0]));  // exponential distribution
        }
        const double z = draw(plan.settings.seed, parameter, i, j, plan.copies[at]);
        if (p.init == WeightInit::fluctuation) return scale.mean + scale.deviation * z;
        const double w = input ? p.gain / root_k * z : p.gain * (z / root_k);
        return p.sign != Sign::any ? std::fabs(w + p.weight_mean) * sign : p.weight_mean != 0.0 ? w + p.weight_mean : w;
    };
    if (plan.connectivity[at].has_weights()) {
        const Index entries = synapses ? synapses->count() : rows * source.size();
        if (entries == 0) return;
        const std::vector<float> given =
            plan.connectivity[at].weights(synapses ? synapses->first : first * source.size(), entries);
        for (Index e = 0; e < entries; ++e)
            put(e / source.size(), e % source.size(), e, given[static_cast<std::size_t>(e)]);
        return;
    }
    std::vector<double> values;
    for (Index r = 0; r < rows; ++r) {
        const Index begin = synapses ? synapses->row_begin[static_cast<std::size_t>(r)] : 0,
                    count = synapses ? synapses->row_begin[static_cast<std::size_t>(r + 1)] - begin : source.size();
        const auto column = [&](Index k) {
            return synapses ? Index{synapses->column[static_cast<std::size_t>(begin + k)]} : k;
        };
        values.resize(static_cast<std::size_t>(count));
        double mean = 0.0;
        for (Index k = 0; k < count; ++k) {
            values[static_cast<std::size_t>(k)] = weight(first + r, column(k));
            mean += values[static_cast<std::size_t>(k)] / static_cast<double>(count);
        }
        for (Index k = 0; k < count; ++k) {
            const double value = values[static_cast<std::size_t>(k)] - (p.zero_row_sums ? mean : 0.0);
            put(r, k, begin + k, static_cast<float>(plan.on_grid(value)));
        }
    }
}

// The numbers of one array of the file that are no weights of a projection.
double number(const Plan& plan, Parameter parameter, Index row, Index col) {
    const InitialNetwork& s = plan.settings;
    const auto vary = [&](double tau, double spread) { return decay(tau, spread, plan.settings.seed, parameter, col); };
    switch (parameter) {
        case Parameter::w_out: {
            const auto read = static_cast<double>(plan.topology.read().size());
            return plan.on_grid(s.readout_gain / std::sqrt(read) * draw(plan.settings.seed, parameter, row, col));
        }
        case Parameter::kappa: return vary(s.tau_out, 0.0);
        case Parameter::bias_out: return 0.0;
        default: break;
    }
    const InitialPopulation& p = plan.population_of(col);
    switch (parameter) {
        case Parameter::bias:
            return plan.on_grid(p.bias_mean + p.bias_std * draw(plan.settings.seed, parameter, row, col));
        case Parameter::alpha: return vary(p.tau_syn, p.tau_syn_spread);
        case Parameter::beta: return vary(p.tau_mem, p.tau_mem_spread);
        case Parameter::rho: return vary(p.tau_adapt, 0.0);
        case Parameter::threshold: return p.threshold;
        case Parameter::adapt_membrane: return p.adapt_membrane;
        case Parameter::adapt_spike: return p.adapt_spike;
        default: return 0.0;  // the initial state
    }
}

}  // namespace

bool InitialNetwork::has_current() const {
    return std::any_of(populations.begin(), populations.end(),
                       [](const InitialPopulation& p) { return lasts_a_step(p.tau_syn * (1.0 + p.tau_syn_spread)); });
}

HostNetwork planned_network(const InitialNetwork& settings, Index shards, Index shard) {
    return {settings.model, Plan(settings).layout(shards, shard), {}, settings.has_current()};
}

HostNetwork initial_network(const InitialNetwork& settings, HostNetwork planned) {
    const Plan plan(settings);
    HostNetwork network = std::move(planned);
    network.values.assign(static_cast<std::size_t>(network.layout.size()), 0.0f);
    for (const Segment& s : network.layout.segments()) {
        float* values = network.values.data() + s.offset;
        const bool weights = s.parameter == Parameter::w_in || s.parameter == Parameter::w_rec;
        if (!weights) {
            for (Index r = 0; r < s.rows; ++r)
                for (Index c = 0; c < s.cols; ++c)
                    values[r * s.stride + c] = static_cast<float>(number(plan, s.parameter, s.row + r, s.col + c));
            continue;
        }
        const auto at = static_cast<std::size_t>(s.projection >= 0                ? s.projection
                                                 : s.parameter == Parameter::w_in ? 0
                                                                                  : 1);
        const Synapses* synapses = s.projection >= 0 && plan.topology.projections[at].sparse
                                       ? &network.layout.synapses(s.projection)
                                       : nullptr;
        if (synapses) {
            const BlockRange target = plan.topology.target_of(plan.topology.projections[at]);
            const Index first = std::clamp(network.layout.neurons().begin, target.begin, target.end) - target.begin;
            make_weights(plan, at, first, static_cast<Index>(synapses->row_begin.size()) - 1, synapses,
                         [&](Index, Index, Index entry, float value) { values[entry] = value; });
        } else {
            make_weights(plan, at, s.row, s.rows, nullptr,
                         [&](Index row, Index col, Index, float value) { values[row * s.stride + col] = value; });
        }
    }
    return network;
}

void try_given_weights(const InitialNetwork& settings) {
    constexpr Index most = 1 << 20;  // weights that are read at once, or one row
    const Plan plan(settings);
    for (std::size_t at = 0; at < plan.connectivity.size(); ++at) {
        const InitialProjection& p = settings.projections[at];
        if (!plan.connectivity[at].has_weights()) continue;
        const Connectivity& synapses = plan.connectivity[at];
        const Index sources = plan.source_of(p).size(), part = std::max<Index>(1, most / sources) * sources;
        const Index count = synapses.synapses_of(plan.populations[static_cast<std::size_t>(p.target)].size);
        for (Index first = 0; first < count; first += part) synapses.weights(first, std::min(part, count - first));
    }
}

}  // namespace spikefloss
