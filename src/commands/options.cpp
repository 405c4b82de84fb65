#include "commands/options.hpp"

#include "config/nearest.hpp"
#include "core/error.hpp"
#include "io/file_probe.hpp"
#include "io/projection_file.hpp"

#include <fmt/ranges.h>

#include <algorithm>

namespace spikefloss {
namespace {

Index steps_of(const Config& config, double time, const char* key) { return whole_steps(time, config.network.dt, key); }

OptimiserOptions optimiser_options(const OptimiserConfig& config) {
    OptimiserOptions options;
    options.kind = config.optimiser;
    options.learning_rate = config.learning_rate;
    options.beta1 = config.beta1;
    options.beta2 = config.beta2;
    options.eps = config.eps;
    options.weight_decay = config.weight_decay;
    options.momentum = config.momentum;
    options.clip = config.clip;
    for (const TrainedName& name : config.parameters)
        if (name.projection.empty())
            options.parameters.push_back(name.parameter);
        else
            options.projections.push_back(name.projection);
    return options;
}

// The unit of adaptive_band and adaptive_slack in steps.
double adaptive_lag(const Config& config) {
    const double lag = config.flossing.adaptive_lag;
    return lag > 0.0 ? static_cast<double>(steps_of(config, lag, "flossing.adaptive_lag")) : 1.0;
}

Band band(const std::vector<double>& ends) { return ends.size() == 2 ? Band{ends[0], ends[1]} : Band{}; }

FlossingScheduleOptions floss_schedule(const Config& config) {
    const FlossingConfig& f = config.flossing;
    const auto scheduled = [&](FlossingTime time) {
        return std::find(f.schedule.begin(), f.schedule.end(), time) != f.schedule.end();
    };
    FlossingScheduleOptions options;
    if (scheduled(FlossingTime::before)) options.before = f.before;
    if (scheduled(FlossingTime::at)) options.at = f.at, options.at_steps = f.at_steps;
    if (scheduled(FlossingTime::every)) options.every = f.every, options.joint_weight = f.weight;
    if (scheduled(FlossingTime::adaptive)) {
        options.adaptive_every = f.adaptive_every;
        options.adaptive_steps = f.adaptive_steps;
        options.adaptive_progress = f.adaptive_progress;
        const Band of_lag = band(f.adaptive_band);
        options.adaptive_band = {of_lag.low / adaptive_lag(config), of_lag.high / adaptive_lag(config)};
        options.adaptive_quantity = f.adaptive_quantity;
    }
    options.stop_step = f.stop_step;
    options.stop_accuracy = f.stop_accuracy;
    options.has_stop_band = !f.stop_band.empty();
    options.stop_band = band(f.stop_band);
    return options;
}

}  // namespace

TaskSettings task_settings(const Config& config, int threads) {
    return {config.task, config.network.dt, static_cast<std::uint64_t>(config.run.seed), threads};
}

InitialNetwork initial_settings(const Config& config, const Task& task) {
    const NetworkConfig& n = config.network;
    const std::vector<PopulationConfig> populations = populations_of(config);
    const auto steps = [&](double time) { return steps_of(config, time, "a time"); };
    const auto population_at = [&](const std::string& name) {
        Index at = 0;
        while (at < static_cast<Index>(populations.size()) && populations[static_cast<std::size_t>(at)].name != name)
            ++at;
        return at;
    };
    InitialNetwork initial;
    const double threshold = populations[0].threshold;
    initial.model.neuron = {static_cast<float>(threshold),   n.reset,     static_cast<int>(n.reset_delay), n.surrogate,
                            static_cast<float>(n.sharpness), n.adaptation};
    initial.model.readout = n.readout;
    initial.model.refractory = steps(n.refractory);
    initial.shape = {neurons_of(config), task.inputs(), task.outputs()};
    initial.seed = static_cast<std::uint64_t>(config.run.seed);
    initial.plain = config.populations.empty();
    initial.populations.clear();
    for (const PopulationConfig& p : populations) {
        initial.populations.push_back({p.name, p.neurons, p.tau_syn / n.dt, p.tau_mem / n.dt, p.tau_adapt / n.dt,
                                       p.tau_syn_spread, p.tau_mem_spread, p.threshold, p.adapt_membrane, p.adapt_spike,
                                       p.bias_mean, p.bias_std, p.fluctuation_mean, p.fluctuation_xi});
        initial.thresholds = initial.thresholds || p.threshold != threshold;
    }
    initial.projections.clear();
    for (const ProjectionConfig& p : projections_of(config)) {
        initial.projections.push_back({p.name, p.source == input_name ? from_input : population_at(p.source),
                                       population_at(p.target), steps(p.delay), p.sign, p.storage == Storage::sparse,
                                       p.density, p.in_degree, p.autapses, p.init, p.gain, p.weight_mean, p.rate,
                                       p.share, p.zero_row_sums});
        if (p.file.empty()) continue;
        initial.projections.back().given = [p](Index targets, Index sources) {
            GivenSynapses given = given_synapses(p.file, p.path, {p.source, p.target, sources, targets, p.sign});
            require(!given.sparse || p.storage != Storage::dense, Exit::usage,
                    fmt::format("projection.{}.storage = \"dense\", but {} in {} is sparse", p.name, p.path, p.file),
                    "leave storage out");
            return given;
        };
    }
    if (!n.readout_from.empty()) initial.readout_from = population_at(n.readout_from);
    initial.tau_out = n.tau_out / n.dt;
    initial.readout_gain = n.readout_gain;
    initial.weight_step = n.weight_step;
    return initial;
}

void require_readable_networks(const Config& config, const ProcessGrid& grid) {
    if (!config.network.file.empty()) require_readable(config.network.file, grid);
    for (const ProjectionConfig& p : config.projections)
        if (!p.file.empty()) require_readable(p.file, grid, datasets_of_projection(p.path));
}

NirRules nir_rules(const Config& config) {
    if (!is_nir(config.network.file)) return {config.network.nir, {}, 0.0, 0};
    return {config.network.nir, config.network.surrogate, config.network.sharpness, 0};
}

TrainerOptions trainer_options(const Config& config, const Task& task) {
    TrainerOptions options;
    options.seed = static_cast<std::uint64_t>(config.run.seed);
    options.batch = config.train.batch;
    options.loss = config.train.loss;
    options.rate = {config.train.rate_l1, config.train.rate_l2, config.train.rate_bound, config.train.rate_lower,
                    config.train.rate_upper};
    options.adjoint_cap = config.train.adjoint_cap;
    options.tape = config.train.tape;
    options.whole_passes = config.parallel.passes == PassKind::automatic;
    // A held-out data set is used once, as a whole; a generated task gives this many fresh batches.
    const Index held_out = task.dataset_size(Purpose::test);
    options.validation_sequences = task.dataset_size(Purpose::validation);
    options.test_sequences = held_out > 0 ? held_out : config.train.test_batches * options.batch;
    options.optimiser = optimiser_options(config.train);
    options.optimiser.schedule = config.train.schedule;
    options.optimiser.schedule_steps = config.train.schedule_steps;
    if (options.optimiser.schedule == RateSchedule::cosine && config.train.schedule_steps == 0)
        options.optimiser.schedule_steps = config.train.steps;
    options.optimiser.schedule_factor = config.train.schedule_factor;

    const FlossingConfig& f = config.flossing;
    options.floss_batch = f.batch;
    options.floss_horizon = f.horizon > 0.0 ? steps_of(config, f.horizon, "flossing.horizon") : task.steps();
    options.flossing.tangent = {f.first - 1 + f.exponents, f.warmup, f.qr_interval, f.jacobian_reset};
    options.flossing.through_state = f.through_state;
    options.penalty.target = options.adaptive_penalty.target = f.target;
    options.penalty.skipped = options.adaptive_penalty.skipped = f.first - 1;
    options.penalty.from = options.adaptive_penalty.from = f.target_from;
    options.adaptive_penalty.slack = f.adaptive_slack / adaptive_lag(config);
    options.floss_optimiser = optimiser_options(f);
    if (f.schedule.empty())  // so that it holds no moments
        options.floss_optimiser.parameters.clear(), options.floss_optimiser.projections.clear();
    options.floss_schedule = floss_schedule(config);
    options.diagnostics = {config.diagnostics.exponents, config.diagnostics.batch, config.diagnostics.warmup,
                           config.diagnostics.qr_interval};
    return options;
}

HostNetwork to_train(const Config& config, HostNetwork network, Index shards, Index shard) {
    const auto names = [](const std::vector<TrainedName>& parameters) {
        return std::find(parameters.begin(), parameters.end(), TrainedName{Parameter::threshold}) != parameters.end();
    };
    const bool flossed = !config.flossing.schedule.empty() && names(config.flossing.parameters);
    return names(config.train.parameters) || flossed ? with_thresholds(network, shards, shard) : std::move(network);
}

namespace {

// The projection must exist, not be trained already, and have an effect on what is trained.
void check_trained_projection(const Config& config, const HostNetwork& network, const char* key,
                              const std::vector<TrainedName>& all, const TrainedName& name) {
    const std::vector<Projection>& projections = network.layout.topology().projections;
    require(!projections.empty(), Exit::usage,
            fmt::format("{} names {}, but the network has no populations", key, name_of(name)),
            "name w_in for the weights from the input, or w_rec for the recurrent weights");
    std::vector<std::string> names;
    for (const Projection& p : projections) names.push_back(trained_projection + p.name);
    const auto found = std::find(names.begin(), names.end(), name_of(name));
    require(
        found != names.end(), Exit::usage, fmt::format("{} names {}, which does not exist", key, name_of(name)),
        fmt::format("did you mean {}? The network has {}", nearest_name(name_of(name), names), fmt::join(names, ", ")));
    const bool input = projections[static_cast<std::size_t>(found - names.begin())].source == from_input;
    const TrainedName group{input ? Parameter::w_in : Parameter::w_rec};
    require(std::find(all.begin(), all.end(), group) == all.end(), Exit::usage,
            fmt::format("{} names {} and {}, which contains it", key, name_of(name), name_of(group)),
            "leave one of them out");
    require(!input || key[0] == 't' || config.flossing.through_state, Exit::usage,
            fmt::format("{} names {}, on which the exponents depend only through the state, but "
                        "flossing.through_state = false",
                        key, name_of(name)),
            "set flossing.through_state = true, or leave it out");
}

}  // namespace

std::vector<std::string> file_warnings(const Config& config, const NetworkModel& model) {
    std::vector<std::string> warnings;
    if (config.network.file.empty()) return warnings;
    Config usual, of_file;
    NetworkConfig& n = of_file.network;
    n.threshold = model.neuron.threshold;
    n.reset = model.neuron.reset;
    n.reset_delay = model.neuron.reset_delay;
    n.surrogate = model.neuron.surrogate;
    n.sharpness = model.neuron.sharpness;
    n.adaptation = model.neuron.adaptation;
    n.readout = model.readout;
    n.refractory = static_cast<double>(model.refractory) * config.network.dt;
    Config mine = config;
    mine.network.threshold = static_cast<float>(mine.network.threshold);  // as the file has them
    mine.network.sharpness = static_cast<float>(mine.network.sharpness);
    const std::vector<Key> asked = keys_of(mine), defaults = keys_of(usual), there = keys_of(of_file);
    for (const char* name :
         {"threshold", "reset", "reset_delay", "surrogate", "sharpness", "adaptation", "readout", "refractory"}) {
        const auto text = [&](const std::vector<Key>& keys) {
            const auto named = [&](const Key& key) { return key.section == "network" && key.name == name; };
            return value_text(*std::find_if(keys.begin(), keys.end(), named));
        };
        if (text(asked) == text(defaults) || text(asked) == text(there)) continue;
        warnings.push_back(fmt::format("network.{} = {} is not used: network.file = \"{}\" has {}", name, text(asked),
                                       config.network.file, text(there)));
    }
    return warnings;
}

void check_network(const Config& config, const Task& task, const HostNetwork& network) {
    const NetworkShape& shape = network.layout.shape();
    const Index state_size =
        spikefloss::state_size(shape.neurons, network.has_current(), network.layout.topology().adaptation);
    for (const auto& [key, parameters] : {std::pair("train.parameters", &config.train.parameters),
                                          std::pair("flossing.parameters", &config.flossing.parameters)})
        for (const TrainedName& name : *parameters) {
            if (key[0] == 'f' && config.flossing.schedule.empty()) continue;
            require(network.layout.has(name.parameter), Exit::usage,
                    fmt::format("{} names {}, which this network does not have", key, name_of(name)),
                    "its neurons do not adapt: set network.adaptation, or leave it out");
            if (!name.projection.empty()) check_trained_projection(config, network, key, *parameters, name);
        }
    require(shape.inputs == task.inputs() && shape.outputs == task.outputs(), Exit::usage,
            fmt::format("the network (network.file = \"{}\") has {} inputs and {} outputs, but task {} needs {} and {}",
                        config.network.file, shape.inputs, shape.outputs, name_of(config.task.name), task.inputs(),
                        task.outputs()),
            "choose a network file and a task that fit each other");
    check_lengths(config, task.steps());
    require(!config.train.keep_best || task.dataset_size(Purpose::validation) > 0, Exit::usage,
            fmt::format("train.keep_best = true, but task {} has no validation data", name_of(config.task.name)),
            "hold some back with task.validation, or leave train.keep_best out");
    const LossKind loss = chosen_loss(config.train.loss, task.loss(), "train.loss =");
    for (const auto& [key, value] : {std::pair("train.stop_accuracy", config.train.stop_accuracy),
                                     std::pair("flossing.stop_accuracy", config.flossing.stop_accuracy)})
        require(value == 0.0 || has_accuracy(loss), Exit::usage,
                fmt::format("{} = {}, but the loss {} has no accuracy", key, value, name_of(loss)), "leave it out");
    const bool flosses = !config.flossing.schedule.empty();
    require(!flosses || config.flossing.first - 1 + config.flossing.exponents <= state_size, Exit::usage,
            fmt::format("flossing.exponents = {}{} is more than the {} dimensions of the network's state",
                        config.flossing.exponents,
                        config.flossing.first > 1 ? fmt::format(" from number {} on", config.flossing.first) : "",
                        state_size),
            fmt::format("choose at most {}", state_size));
    require(!flosses || config.flossing.target_from == TargetFrom::zero || network.layout.topology().adaptation,
            Exit::usage, "flossing.target_from = \"adaptation\", but the neurons of the network do not adapt",
            "count the target from \"zero\"");
    const std::vector<FlossingTime>& schedule = config.flossing.schedule;
    const bool adaptive = std::find(schedule.begin(), schedule.end(), FlossingTime::adaptive) != schedule.end();
    const bool measured = config.diagnostics.every > 0 || adaptive;
    require(!measured || config.diagnostics.exponents <= state_size, Exit::usage,
            fmt::format("diagnostics.exponents = {} is more than the {} dimensions of the network's state",
                        config.diagnostics.exponents, state_size),
            fmt::format("choose at most {}", state_size));
}

ParallelChoice parallel_choice(const Config& config) {
    const ParallelConfig& p = config.parallel;
    return {p.grid, p.threads, p.backend, p.comm, config.run.precision, config.watchdog.seconds};
}

Config config_of(const std::string& path, const std::vector<std::string>& assignments, const ParallelChoice& choice) {
    Config config;
    read_config(path, config);
    for (const std::string& assignment : assignments) set_key(assignment, config);
    ParallelConfig& p = config.parallel;
    if (!choice.grid.empty()) p.grid = choice.grid;
    p.backend = choice.backend.value_or(p.backend);
    p.comm = choice.comm.value_or(p.comm);
    config.run.precision = choice.precision.value_or(config.run.precision);
    if (choice.threads > 0) p.threads = choice.threads;
    config.watchdog.seconds = choice.watchdog_seconds.value_or(config.watchdog.seconds);
    return config;
}

}  // namespace spikefloss
