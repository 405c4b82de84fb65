// Contradictions within and between populations and projections, and the range in which adaptation is stable.
#include "config/nearest.hpp"
#include "core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

namespace spikefloss {
namespace {

using Populations = std::vector<PopulationConfig>;
using Projections = std::vector<ProjectionConfig>;

std::string lines_of_projection(const std::string& source, const std::string& target) {
    return fmt::format("[[projection]]\nsource = \"{}\"\ntarget = \"{}\"", source, target);
}

template <class Part>
std::vector<std::string> names_in(const std::vector<Part>& parts) {
    std::vector<std::string> names;
    for (const Part& part : parts) names.push_back(part.name);
    return names;
}

// Names are parts of keys and of paths in files.
void check_names(const std::vector<std::string>& names, const std::string& kind) {
    for (const std::string& name : names) {
        require(is_part_name(name), Exit::usage, fmt::format("a {} cannot be named \"{}\"", kind, name),
                part_name_rule);
        require(std::count(names.begin(), names.end(), name) == 1, Exit::usage,
                fmt::format("two {}s are named {}", kind, name),
                kind == projection_section ? "give each a name of its own (name = ...)" : "rename one of them");
    }
}

void require_population(const std::string& name, const std::string& key, const std::vector<std::string>& known,
                        bool or_input) {
    if (std::find(known.begin(), known.end(), name) != known.end() || (or_input && name == input_name)) return;
    std::vector<std::string> names = known;
    if (or_input) names.push_back(input_name);
    throw Error(Exit::usage, fmt::format("{} = \"{}\" is no population", key, name),
                fmt::format("did you mean {}? There are {}", nearest_name(name, names), fmt::join(names, ", ")));
}

// The lines that are missing where no projection has this end.
void require_projection(const Projections& projections, const std::string& problem, const std::string& source,
                        const std::string& target, bool (*found)(const ProjectionConfig&, const std::string&),
                        const std::string& name) {
    const bool there = std::any_of(projections.begin(), projections.end(),
                                   [&](const ProjectionConfig& projection) { return found(projection, name); });
    require(there, Exit::usage, problem, "add for example\n" + lines_of_projection(source, target));
}

void check_ends(const NetworkConfig& network, const Populations& populations, const Projections& projections) {
    const std::vector<std::string> names = names_in(populations);
    check_names(names, population_section);
    require(std::find(names.begin(), names.end(), input_name) == names.end(), Exit::usage,
            "a population is named input, which is what projections call the input of the task", "rename it");
    for (const ProjectionConfig& projection : projections) {
        const std::string path = "projection." + projection.name;
        require_population(projection.source, path + ".source", names, true);
        require_population(projection.target, path + ".target", names, false);
    }
    check_names(names_in(projections), projection_section);
    if (!network.readout_from.empty()) require_population(network.readout_from, "network.readout_from", names, false);
    require_projection(
        projections, "no projection is from the input of the task, so the network cannot see it", input_name, names[0],
        [](const ProjectionConfig& p, const std::string&) { return p.source == input_name; }, "");
    for (const std::string& name : names)
        require_projection(
            projections, fmt::format("no projection is to population {}, so it never spikes by its input", name),
            name == names[0] ? input_name : names[0], name,
            [](const ProjectionConfig& p, const std::string& n) { return p.target == n; }, name);
}

void check_connectivity(const ProjectionConfig& projection, const Populations& populations, double dt) {
    const std::string path = "projection." + projection.name;
    require(projection.delay >= dt * (1.0 - 1e-9), Exit::usage,
            fmt::format("{}.delay = {} ms is shorter than one step of network.dt = {} ms", path, projection.delay, dt),
            fmt::format("choose at least {} ms", dt));
    whole_steps(projection.delay, dt, path + ".delay");
    require(projection.storage != Storage::dense || (projection.in_degree == 0 && projection.density == 1.0 &&
                                                     (projection.autapses || projection.source != projection.target)),
            Exit::usage, fmt::format("{}.storage = \"dense\", but only some of the possible synapses exist", path),
            "leave storage out, or density, in_degree and autapses");
    if (projection.file.empty()) {
        require(projection.path == "/", Exit::usage,
                fmt::format("{}.path = \"{}\" is a place in a file, but {}.file is empty", path, projection.path, path),
                "name the file, or leave path out");
    } else {
        require(projection.density == 1.0 && projection.in_degree == 0 && projection.autapses, Exit::usage,
                fmt::format("{}.file = \"{}\" has synapses, but {} says which ones exist, too", path, projection.file,
                            projection.in_degree > 0   ? "in_degree"
                            : projection.density < 1.0 ? "density"
                                                       : "autapses = false"),
                "leave one of them out");
    }
    if (projection.in_degree == 0) return;
    require(projection.density == 1.0, Exit::usage,
            fmt::format("{0}.in_degree = {1} and {0}.density = {2} both say how many synapses there are", path,
                        projection.in_degree, projection.density),
            "leave one of them out");
    for (const PopulationConfig& source : populations) {
        const bool no_autapse = !projection.autapses && projection.source == projection.target;
        const std::int64_t most = source.neurons - (no_autapse ? 1 : 0);
        require(source.name != projection.source || projection.in_degree <= most, Exit::usage,
                fmt::format("{}.in_degree = {} is more than the {} neurons of population {}{}", path,
                            projection.in_degree, source.neurons, source.name, no_autapse ? " without autapses" : ""),
                fmt::format("choose at most {}", most));
    }
}

void check_weights(const ProjectionConfig& projection) {
    const std::string path = "projection." + projection.name;
    const bool has_sign = projection.sign != Sign::any;
    const double sign = projection.sign == Sign::inhibitory ? -1.0 : 1.0;
    require(!has_sign || projection.weight_mean * sign >= 0.0, Exit::usage,
            fmt::format("{0}.sign = \"{1}\", but {0}.weight_mean = {2}", path, name_of(projection.sign),
                        projection.weight_mean),
            "change one of them: excitatory weights are at least 0, inhibitory weights at most 0");
    require(!has_sign || !projection.zero_row_sums, Exit::usage,
            fmt::format("{0}.sign = \"{1}\", but {0}.zero_row_sums = true: such weights have both signs", path,
                        name_of(projection.sign)),
            "leave one of them out");
    require(projection.weight_mean == 0.0 || projection.init == WeightInit::gaussian, Exit::usage,
            fmt::format("{0}.weight_mean = {1}, but {0}.init = \"{2}\" has no such mean", path, projection.weight_mean,
                        name_of(projection.init)),
            "leave it out, or choose init = \"gaussian\"");
    if (projection.init == WeightInit::orthogonal) {
        require(!has_sign, Exit::usage,
                fmt::format("{0}.sign = \"{1}\", but {0}.init = \"orthogonal\" gives weights of both signs", path,
                            name_of(projection.sign)),
                "leave one of them out");
        require(projection.file.empty() && projection.source == projection.target && projection.in_degree == 0 &&
                    projection.density == 1.0 && projection.autapses && projection.storage != Storage::sparse,
                Exit::usage,
                fmt::format("{}.init = \"orthogonal\", but the projection is not dense from a population onto itself",
                            path),
                "choose another init");
    }
    require(has_sign || projection.init != WeightInit::balanced, Exit::usage,
            fmt::format("{0}.init = \"balanced\", but {0}.sign = \"any\"", path),
            "set sign = \"excitatory\" or \"inhibitory\": all initial weights are equal");
}

// The weights of all projections to a population follow from each other.
void check_fluctuation(const PopulationConfig& target, const Projections& projections) {
    std::vector<std::string> with, without;
    int excitatory = 0, inhibitory = 0, given = 0;
    double shares = 0.0;
    for (const ProjectionConfig& projection : projections) {
        if (projection.target != target.name) continue;
        (projection.init == WeightInit::fluctuation ? with : without).push_back(projection.name);
        excitatory += projection.sign == Sign::excitatory;
        inhibitory += projection.sign == Sign::inhibitory;
        given += projection.share > 0.0 ? 1 : 0;
        shares += projection.share;
    }
    if (with.empty()) return;
    const auto number = static_cast<int>(with.size());
    require(without.empty(), Exit::usage,
            fmt::format("population {} receives {} with init = \"fluctuation\" and {} without it", target.name,
                        fmt::join(with, ", "), fmt::join(without, ", ")),
            "choose it for all projections to the population, or for none");
    require(
        (excitatory == 0 && inhibitory == 0) || (excitatory > 0 && inhibitory > 0 && excitatory + inhibitory == number),
        Exit::usage,
        fmt::format("init = \"fluctuation\" of population {} has {} excitatory and {} inhibitory projections of {}",
                    target.name, excitatory, inhibitory, number),
        "give each of them a sign, with at least one of both, or none of them");
    require(excitatory == 0 || target.fluctuation_mean == 0.0, Exit::usage,
            fmt::format("population.{}.fluctuation_mean = {}, but with signs the mean of the membrane is 0",
                        target.name, target.fluctuation_mean),
            "leave it out, or leave the signs out");
    const int sharing = excitatory > 0 ? excitatory : number;
    require(given == 0 || (given == sharing && std::abs(shares - 1.0) < 1e-6), Exit::usage,
            fmt::format("the shares of the {} {}projections to population {} add up to {}", sharing,
                        excitatory > 0 ? "excitatory " : "", target.name, shares),
            "give a share to each of them, 1 together, or leave all out");
    require(target.fluctuation_mean < target.threshold, Exit::usage,
            fmt::format("fluctuation_mean = {} of population {} is not below its threshold = {}",
                        target.fluctuation_mean, target.name, target.threshold),
            "choose a smaller fluctuation_mean");
}

}  // namespace

void check_populations(const Config& config) {
    const NetworkConfig& network = config.network;
    whole_steps(network.refractory, network.dt, "network.refractory");
    require(network.file.empty() || (config.populations.empty() && config.projections.empty()), Exit::usage,
            fmt::format("network.file = \"{}\" has a network of its own, but the config has [[population]] or "
                        "[[projection]] sections",
                        network.file),
            "leave one of them out");
    if (!network.file.empty()) return;
    const Populations populations = populations_of(config);
    const Projections projections = projections_of(config);
    if (config.populations.empty()) {
        if (!config.projections.empty())
            throw Error(Exit::usage,
                        fmt::format("projection {} is there, but no [[population]]", config.projections[0].name),
                        "add for example\n[[population]]\nname = \"exc\"\nneurons = 400");
        require(
            network.readout_from.empty(), Exit::usage,
            fmt::format("network.readout_from = \"{}\", but the config has no [[population]]", network.readout_from),
            "leave it out: all neurons are read");
        require(network.init != WeightInit::balanced, Exit::usage,
                "network.init = \"balanced\" needs excitatory and inhibitory populations",
                "add [[population]] and [[projection]] sections (docs/config.md)");
    } else {
        check_ends(network, populations, projections);
    }
    for (const ProjectionConfig& projection : projections) {
        check_connectivity(projection, populations, network.dt);
        check_weights(projection);
    }
    for (const PopulationConfig& population : populations) {
        check_fluctuation(population, projections);
        if (network.adaptation != Adaptation::none) continue;
        const std::string path = config.populations.empty() ? "network" : "population." + population.name;
        require(population.adapt_membrane == 0.0 && population.adapt_spike == 0.0, Exit::usage,
                fmt::format("{0}.adapt_membrane = {1} and {0}.adapt_spike = {2}, but network.adaptation = \"none\"",
                            path, population.adapt_membrane, population.adapt_spike),
                "choose network.adaptation = \"threshold\" or \"current\", or leave them out");
    }
}

// Without spikes u[t+1] = beta u + (1-beta) (i - w[t+1]), w[t+1] = rho w + a_u u decays if
// -(1-rho) < a_u < (1+beta)(1+rho)/(1-beta).
std::vector<std::string> adaptation_warnings(const Config& config) {
    std::vector<std::string> warnings;
    const NetworkConfig& network = config.network;
    if (network.adaptation != Adaptation::current || !network.file.empty()) return warnings;
    const auto decay = [&](double tau) { return tau > 0.0 ? std::exp(-network.dt / tau) : 0.0; };
    for (const PopulationConfig& population : populations_of(config)) {
        const double rho = decay(population.tau_adapt);
        const double beta = decay(population.tau_mem * (1.0 - population.tau_mem_spread));  // of the fastest neuron
        const double low = -(1.0 - rho), high = (1.0 + beta) * (1.0 + rho) / (1.0 - beta);
        if (population.adapt_membrane > low && population.adapt_membrane < high) continue;
        warnings.push_back(fmt::format(
            "{}.adapt_membrane = {} is outside its stable range, {:.4g} to {:.4g}: membrane and adaptation grow "
            "without spikes",
            config.populations.empty() ? "network" : "population." + population.name, population.adapt_membrane, low,
            high));
    }
    return warnings;
}

}  // namespace spikefloss
