// Contradictions between keys: each key is valid alone, but together they cannot run, or would run something that the
// user did not mean. Messages name both keys with their values, and say which key to change.
#include "config/schema.hpp"
#include "core/error.hpp"
#include "core/state_size.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>

namespace spikefloss {
namespace {

[[noreturn]] void contradiction(const std::string& problem, const std::string& suggestion,
                                std::source_location place = std::source_location::current()) {
    throw Error(Exit::usage, problem, suggestion, place);
}

template <class Choice>
bool contains(const std::vector<Choice>& list, Choice value) {
    return std::find(list.begin(), list.end(), value) != list.end();
}

bool ascending_pair(const std::vector<double>& band) { return band.size() == 2 && band[0] < band[1]; }

// exp(-dt/tau) must be below 1 as a float: a network file with a decay of 1 is refused.
void check_decay(double dt, double tau, double spread, const std::string& key) {
    if (static_cast<float>(std::exp(-dt / (tau * (1.0 + spread)))) < 1.0f) return;
    const double most = dt * 3.3e7 / (1.0 + spread);  // a little below 2^25, where exp(-1/2^25) rounds to 1
    contradiction(
        fmt::format("{} = {} ms is too long for network.dt = {} ms: the decay per step, exp(-dt/tau), rounds "
                    "to 1 in float32{}",
                    key, tau, dt,
                    spread > 0.0 ? fmt::format(" for the slowest neurons ({}_spread = {})", key, spread) : ""),
        fmt::format("choose {} of at most {:g} ms, or a larger network.dt", key, most));
}

void check_decays(const Config& config) {
    const NetworkConfig& network = config.network;
    if (!network.file.empty()) return;  // the decays are in the file
    for (const PopulationConfig& population : populations_of(config)) {
        const std::string path = config.populations.empty() ? "network" : "population." + population.name;
        check_decay(network.dt, population.tau_syn, population.tau_syn_spread, path + ".tau_syn");
        check_decay(network.dt, population.tau_mem, population.tau_mem_spread, path + ".tau_mem");
        if (network.adaptation != Adaptation::none)
            check_decay(network.dt, population.tau_adapt, 0.0, path + ".tau_adapt");
    }
    check_decay(network.dt, network.tau_out, 0.0, "network.tau_out");
}

// The longest of a time constant over all populations, in steps.
double longest(const Config& config, double NeuronConfig::*time) {
    double most = 0.0;
    for (const PopulationConfig& population : populations_of(config)) most = std::max(most, population.*time);
    return most / config.network.dt;
}

template <class Choice>
void check_no_repeats(const std::vector<Choice>& list, const std::string& key) {
    for (const Choice& value : list) {
        if (std::count(list.begin(), list.end(), value) > 1) {
            contradiction(fmt::format("{} names {} more than once", key, name_of(value)), "name it once");
        }
    }
}

// Throws if a named parameter cannot change: a decay is parametrised in (0, 1) and cannot leave 0.
void check_parameters(const std::vector<TrainedName>& names, const std::string& key, const Config& config) {
    if (names.empty()) contradiction(key + " is empty, so nothing can change", "name at least one parameter");
    check_no_repeats(names, key);
    if (!config.network.file.empty()) return;  // the time constants are in the file
    const auto forbid = [&](Parameter parameter, double tau, const std::string& time_constant) {
        if (lasts_a_step(tau) || !contains(names, TrainedName{parameter})) return;
        const std::string_view name = name_of(parameter);
        contradiction(fmt::format("{} names {}, but network.{} is near 0, so it has no effect or cannot change", key,
                                  name, time_constant),
                      fmt::format("leave {} out, or choose a larger network.{}", name, time_constant));
    };
    forbid(Parameter::alpha, longest(config, &NeuronConfig::tau_syn), "tau_syn");
    forbid(Parameter::initial_current, longest(config, &NeuronConfig::tau_syn), "tau_syn");
    forbid(Parameter::beta, longest(config, &NeuronConfig::tau_mem), "tau_mem");
    forbid(Parameter::kappa, config.network.tau_out / config.network.dt, "tau_out");
}

// AdamW multiplies a weight by 1 - learning_rate weight_decay.
void check_decay(const OptimiserConfig& c, const std::string& section) {
    if (c.optimiser != OptimiserKind::adamw || c.learning_rate * c.weight_decay <= 1.0) return;
    contradiction(
        fmt::format("{0}.learning_rate = {1} times {0}.weight_decay = {2} is more than 1, so every update takes "
                    "more than the whole weight off",
                    section, c.learning_rate, c.weight_decay),
        fmt::format("choose a smaller {0}.weight_decay", section));
}

void check_train(const Config& config) {
    const TrainConfig& train = config.train;
    check_decay(train, "train");
    if (train.steps > 0) check_parameters(train.parameters, "train.parameters", config);
    if (train.schedule == RateSchedule::step && train.schedule_steps == 0) {
        contradiction("train.schedule = \"step\" needs train.schedule_steps > 0",
                      "set the number of training steps after which the learning rate falls");
    }
    const bool bounds = train.rate_lower > 0.0 || train.rate_upper < 1.0;
    if (bounds != (train.rate_bound > 0.0)) {
        contradiction(fmt::format("train.rate_bound = {}, but train.rate_lower = {} and train.rate_upper = {}",
                                  train.rate_bound, train.rate_lower, train.rate_upper),
                      "set a weight above 0 and at least one bound, or none of them");
    }
    if (train.rate_lower > train.rate_upper) {
        contradiction(
            fmt::format("train.rate_lower = {} is above train.rate_upper = {}", train.rate_lower, train.rate_upper),
            "exchange them");
    }
    if (train.keep_best && train.test_every == 0) {
        contradiction("train.keep_best = true, but train.test_every = 0: nothing is evaluated before the end",
                      "set the number of training steps between evaluations");
    }
}

// k <= D, and at least one QR after the warm-up within `steps`.
void check_exponents(const std::string& section, std::int64_t exponents, std::int64_t warmup, std::int64_t qr_interval,
                     std::int64_t steps, const Config& config) {
    const bool has_current = lasts_a_step(longest(config, &NeuronConfig::tau_syn));
    const int adapts = config.network.adaptation != Adaptation::none ? 1 : 0;
    const std::int64_t neurons = neurons_of(config), state = state_size(neurons, has_current) + adapts * neurons;
    if (config.network.file.empty() && exponents > state) {
        const char* name = config.populations.empty() ? "network.neurons" : "the neurons of all populations";
        const int variables = (has_current ? 2 : 1) + adapts;
        contradiction(fmt::format("{}.exponents = {} is more than the state size D = {} ({}{}{})", section, exponents,
                                  state, variables > 1 ? fmt::format("{} x ", variables) : "", name,
                                  has_current ? "" : ", as tau_syn is near 0"),
                      fmt::format("choose at most {} exponents, or more neurons", state));
    }
    // QRs follow multiples of qr_interval. A QR counts if its interval begins after the warm-up. An interval that is
    // chosen during the pass (0) ends with the warm-up, and can be 1.
    const std::int64_t m = std::max<std::int64_t>(1, qr_interval);
    const std::int64_t first_counted = ((warmup + m - 1) / m + 1) * m;
    if (first_counted > steps) {
        const std::string every = qr_interval > 0 ? fmt::format(" and a QR every {} steps", m) : "";
        contradiction(
            fmt::format("{}.exponents cannot be measured: with warmup = {}{} the first QR that counts is after "
                        "step {}, but the sequence has only {} steps",
                        section, warmup, every, first_counted, steps),
            "make the warm-up or the interval shorter, or the sequence longer");
    }
}

// A key of a schedule that is not chosen is an error, so that no key is silently ignored.
void check_schedule(const FlossingConfig& f, std::int64_t train_steps) {
    const auto needs = [&](FlossingTime time, bool given, const std::string& key) {
        const std::string_view schedule = name_of(time);
        if (contains(f.schedule, time) && !given) {
            contradiction(fmt::format("flossing.schedule has \"{}\", but {} is not set", schedule, key),
                          fmt::format("set {}, or take \"{}\" out of the schedule", key, schedule));
        }
        if (!contains(f.schedule, time) && given) {
            contradiction(fmt::format("{} is set, but flossing.schedule does not have \"{}\"", key, schedule),
                          fmt::format("add \"{}\" to flossing.schedule, or leave {} out", schedule, key));
        }
    };
    needs(FlossingTime::before, f.before > 0, "flossing.before");
    needs(FlossingTime::at, !f.at.empty(), "flossing.at");
    if (f.weight > 0) needs(FlossingTime::every, true, "flossing.weight");
    for (const std::int64_t step : f.at) {
        const bool stopped = f.stop_step > 0 && step >= f.stop_step;
        if (step < train_steps && !stopped) continue;
        contradiction(fmt::format("flossing.at = {} is never reached: {} = {}", step,
                                  stopped ? "flossing.stop_step" : "train.steps", stopped ? f.stop_step : train_steps),
                      "floss at earlier training steps");
    }
    if (contains(f.schedule, FlossingTime::adaptive) && !ascending_pair(f.adaptive_band)) {
        contradiction("flossing.adaptive_band is not two ascending numbers", "write it like [-0.05, 0.05]");
    }
    if (contains(f.schedule, FlossingTime::adaptive) && f.adaptive_lag > 0 &&
        f.adaptive_quantity != AdaptiveQuantity::exponent) {
        contradiction("flossing.adaptive_lag needs exponents, but flossing.adaptive_quantity = \"gradient\"",
                      "leave one of them out");
    }
    if (!f.stop_band.empty() && !ascending_pair(f.stop_band)) {
        contradiction("flossing.stop_band is not two ascending numbers", "write it like [-0.05, 0.05], or [] for off");
    }
}

void check_flossed_parameters(const Config& config) {
    const FlossingConfig& f = config.flossing;
    check_parameters(f.parameters, "flossing.parameters", config);
    for (const Parameter p : {Parameter::w_out, Parameter::bias_out, Parameter::kappa}) {
        if (!contains(f.parameters, TrainedName{p})) continue;
        contradiction(fmt::format("flossing.parameters names {}, on which the exponents do not depend", name_of(p)),
                      "leave it out");
    }
    for (const Parameter p :
         {Parameter::w_in, Parameter::bias, Parameter::initial_current, Parameter::initial_membrane}) {
        if (f.through_state || !contains(f.parameters, TrainedName{p})) continue;
        contradiction(fmt::format("flossing.parameters names {}, on which the exponents depend only through the state, "
                                  "but flossing.through_state = false",
                                  name_of(p)),
                      "set flossing.through_state = true, or leave it out");
    }
}

void check_flossing(const Config& config, std::int64_t steps) {
    const FlossingConfig& f = config.flossing;
    if (f.schedule.empty()) return;  // so that one --set turns flossing off
    check_no_repeats(f.schedule, "flossing.schedule");
    check_schedule(f, config.train.steps);
    check_decay(f, "flossing");
    check_flossed_parameters(config);
    const double dt = config.network.dt;
    if (contains(f.schedule, FlossingTime::adaptive) && f.adaptive_lag > 0 &&
        whole_steps(f.adaptive_lag, dt, "flossing.adaptive_lag") < 1) {
        contradiction(fmt::format("flossing.adaptive_lag = {} ms is shorter than one step", f.adaptive_lag),
                      "make it at least network.dt");
    }
    const std::int64_t horizon = f.horizon > 0 ? whole_steps(f.horizon, dt, "flossing.horizon") : steps;
    if (horizon > steps) {
        contradiction(fmt::format("flossing.horizon = {} ms is {} steps, but a sequence of the task has only {}",
                                  f.horizon, horizon, steps),
                      "choose a shorter horizon, or 0 for the whole sequence");
    }
    if (f.first == 1)
        check_exponents("flossing", f.exponents, f.warmup, f.qr_interval, horizon, config);
    else
        check_exponents("flossing.first - 1 + flossing", f.first - 1 + f.exponents, f.warmup, f.qr_interval, horizon,
                        config);
    if (contains(f.schedule, FlossingTime::adaptive) && f.adaptive_quantity == AdaptiveQuantity::exponent &&
        config.diagnostics.exponents < f.first)
        contradiction(fmt::format("flossing.first = {}, but the adaptive schedule measures diagnostics.exponents = {}",
                                  f.first, config.diagnostics.exponents),
                      fmt::format("set diagnostics.exponents to at least {}", f.first));
    if (f.target_from == TargetFrom::adaptation && config.network.file.empty() &&
        config.network.adaptation == Adaptation::none)
        contradiction("flossing.target_from = \"adaptation\", but network.adaptation = \"none\"",
                      "count the target from \"zero\"");
    if (f.target.size() != 1 && static_cast<std::int64_t>(f.target.size()) != f.exponents) {
        contradiction(
            fmt::format("flossing.target has {} numbers, but flossing.exponents = {}", f.target.size(), f.exponents),
            "give one number for all exponents, or one for each");
    }
}

// "auto", or PxQ with P, Q > 0.
bool is_grid(const std::string& text) {
    if (text.empty() || text == "auto") return true;
    const std::size_t x = text.find('x');
    if (x == std::string::npos) return false;
    const auto is_count = [](const std::string& digits) {
        return !digits.empty() && digits.size() < 7 && digits[0] != '0' &&
               digits.find_first_not_of("0123456789") == std::string::npos;
    };
    return is_count(text.substr(0, x)) && is_count(text.substr(x + 1));
}

void check_serve(const ServeConfig& serve) {
    if (serve.port == 0) return;
    if (!serve.token.empty()) return check_token(serve.token, "serve.token");
    const char* variable = std::getenv(token_variable);
    if (serve.token_file.empty() && !(variable && *variable) && !is_loopback(serve.address)) {
        contradiction(
            fmt::format("serve.address = \"{}\" can be reached by others, but serve.token is empty", serve.address),
            "name a file with a secret token for visitors (serve.token_file), or leave serve.address at 127.0.0.1");
    }
}

}  // namespace

void check_token(const std::string& token, const std::string& name) {
    const auto visible = [](char c) { return c > ' ' && c < 127; };
    if (token.size() < 8 || !std::all_of(token.begin(), token.end(), visible)) {
        contradiction(fmt::format("{} is easy to guess, or has characters that an address cannot have", name),
                      "take at least 8 letters and digits, for example from: openssl rand -hex 16");
    }
}

bool is_loopback(const std::string& address) {
    const bool number = address.find_first_not_of("0123456789.") == std::string::npos;  // not 127.example.org
    return address == "localhost" || address == "::1" || (number && address.rfind("127.", 0) == 0);
}

void check_config(const Config& config) {
    Config copy = config;
    for (const Key& key : keys_of(copy)) check_value(key, "");
    if (config.network.transposed && config.network.file.empty()) {
        contradiction("network.transposed = true describes network.file, but network.file is empty",
                      "name a file, or leave network.transposed out");
    }
    const std::int64_t steps = task_steps({config.task, config.network.dt});
    check_populations(config);
    check_decays(config);
    check_train(config);
    check_lengths(config, steps);
    if (!is_grid(config.parallel.grid)) {
        contradiction(fmt::format("parallel.grid = \"{}\" is not a process grid", config.parallel.grid),
                      "write PxQ, for example 2x4 for 2 groups of neurons times 4 of sequences, or auto");
    }
    check_comm(config.parallel.backend, config.parallel.comm);
    check_serve(config.serve);
}

void check_lengths(const Config& config, std::int64_t steps) {
    check_flossing(config, steps);
    const DiagnosticsConfig& d = config.diagnostics;
    // The adaptive schedule measures with the settings of the diagnostics.
    const bool measured = d.every > 0 || contains(config.flossing.schedule, FlossingTime::adaptive);
    if (measured) check_exponents("diagnostics", d.exponents, d.warmup, d.qr_interval, steps, config);
}

void check_comm(BackendKind backend, CommKind comm) {
    const bool for_gpus = comm == CommKind::nccl || comm == CommKind::staged;
    if (backend == BackendKind::cpu && for_gpus) {
        contradiction(fmt::format("parallel.comm = \"{}\" carries data between GPUs, but parallel.backend = \"cpu\" "
                                  "computes on CPUs",
                                  name_of(comm)),
                      "choose comm auto or mpi, or backend cuda");
    }
    if (backend == BackendKind::cuda && comm == CommKind::mpi) {
        contradiction(
            "parallel.comm = \"mpi\" carries data in the memory of CPUs, but parallel.backend = \"cuda\" computes on "
            "GPUs",
            "choose comm auto or nccl, or staged for several ranks on one GPU");
    }
}

void check_grid(const Config& config, int neuron_shards, int batch_shards) {
    if (const std::int64_t neurons = neurons_of(config); config.network.file.empty() && neuron_shards > neurons) {
        contradiction(
            fmt::format("the grid {}x{} splits {} over {} groups of ranks", neuron_shards, batch_shards,
                        config.populations.empty() ? fmt::format("network.neurons = {}", neurons)
                                                   : fmt::format("the {} neurons of all populations", neurons),
                        neuron_shards),
            fmt::format("choose at most {} groups (parallel.grid or --grid, PxQ with P <= {})", neurons, neurons));
    }
    if (batch_shards > config.train.batch) {
        contradiction(fmt::format("the grid {}x{} splits train.batch = {} sequences over {} groups of ranks",
                                  neuron_shards, batch_shards, config.train.batch, batch_shards),
                      fmt::format("choose at most {} groups (parallel.grid or --grid, PxQ with Q <= {}), or a larger "
                                  "train.batch",
                                  config.train.batch, config.train.batch));
    }
}

}  // namespace spikefloss
