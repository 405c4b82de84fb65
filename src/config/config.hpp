// The configuration of a run: one struct of structs. Its members are the keys, with their defaults. schema.cpp has the
// descriptions and ranges; toml.cpp reads and writes the keys. Times are in milliseconds, rates are probabilities per
// step.
#pragma once

#include "tasks/task.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace spikefloss {

struct RunConfig {
    std::int64_t seed = 1;
    std::string directory = "";  // "": runs/<name of the config file>
    Precision precision = Precision::fp32;
    Sums sums = Sums::float32;
    std::vector<StopSignal> stop_signals = {StopSignal::usr1, StopSignal::term, StopSignal::hup};
};

// How to step a NIR file, where it does not say.
struct NirConfig {
    double dt = 0.0;  // in the unit of its time constants; 0: what its metadata say, else 1e-4
    NirReset reset = NirReset::automatic;
    NirIntegration integration = NirIntegration::automatic;
    NirOrder order = NirOrder::automatic;
};

// The keys of neurons. Those of the network are the defaults of every population.
struct NeuronConfig {
    std::int64_t neurons = 80;
    double tau_syn = 5.0;         // ms; 0: delta synapse (alpha = 0)
    double tau_mem = 10.0;        // ms; 0: no memory (beta = 0)
    double tau_syn_spread = 0.0;  // relative half width of a uniform distribution over neurons
    double tau_mem_spread = 0.0;
    double threshold = 1.0;
    double bias_mean = 0.0;
    double bias_std = 0.0;
    double tau_adapt = 200.0;       // ms; time constant of the adaptation, rho = exp(-dt/tau_adapt)
    double adapt_membrane = 0.0;    // a_u: adaptation per step and membrane
    double adapt_spike = 0.0;       // a_s: adaptation per spike
    double fluctuation_mean = 0.0;  // mu: mean of the membrane that init fluctuation aims at
    double fluctuation_xi = 1.0;    // xi: its standard deviation is (threshold - mu)/xi
};

// The keys of initial weights. Those of the network are the defaults of every projection.
struct WeightConfig {
    WeightInit init = WeightInit::gaussian;
    double gain = 1.0;           // standard deviation gain/sqrt(K) of K synapses, or gain times an orthogonal matrix
    double weight_mean = 0.0;    // gaussian
    double rate = 0.02;          // init fluctuation: spikes per step of a source
    bool zero_row_sums = false;  // subtract the mean of every row
};

struct NetworkConfig : NeuronConfig, WeightConfig {
    std::string file = "";    // start from this network file; the other keys then only describe it
    NirConfig nir;            // of network.file
    bool transposed = false;  // its arrays have their axes reversed
    double tau_out = 0.0;     // ms; time constant of the readout filter, 0: none (kappa = 0)
    double dt = 1.0;          // ms
    Reset reset = Reset::zero;
    std::int64_t reset_delay = 1;  // steps
    double refractory = 0.0;       // ms
    Adaptation adaptation = Adaptation::none;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    double sharpness = 5.0;
    Readout readout = Readout::membrane;
    std::string readout_from = "";  // a population; "": all neurons
    double input_gain = 1.0;        // gain of projections from the input
    double readout_gain = 1.0;      // W_out: standard deviation readout_gain/sqrt(neurons that are read)
    double weight_step = 0.0;       // round initial weights to multiples of this; 0: no rounding
};

struct PopulationConfig : NeuronConfig {
    std::string name = "";
    std::vector<std::string> given = {};  // the keys that are not the network's
};

struct ProjectionConfig : WeightConfig {
    std::string name = "";    // "": SOURCE_TARGET
    std::string source = "";  // a population, or "input"
    std::string target = "";  // a population
    double delay = 1.0;       // ms; not given: network.dt
    std::string file = "";    // with the synapses of this projection, in the group or dataset `path`
    std::string path = "/";
    double density = 1.0;        // probability of a synapse
    std::int64_t in_degree = 0;  // synapses of each target; 0: as density says
    bool autapses = true;        // whether a neuron can have a synapse to itself
    Sign sign = Sign::any;
    Storage storage = Storage::automatic;
    double share = 0.0;                   // init fluctuation: of the variance of the membrane; 0: by kind
    std::vector<std::string> given = {};  // the keys that are not the network's
};

// What an optimiser changes: a parameter, or the weights of one projection.
struct TrainedName {
    Parameter parameter = Parameter::w_in;
    std::string projection = "";  // "": the parameter
    bool operator==(const TrainedName&) const = default;
};
inline constexpr const char* trained_projection = "projection.";  // NAME follows
inline std::string name_of(const TrainedName& name) {
    return name.projection.empty() ? std::string(name_of(name.parameter)) : trained_projection + name.projection;
}

struct OptimiserConfig {
    OptimiserKind optimiser = OptimiserKind::adam;
    double learning_rate = 1e-3;
    double beta1 = 0.9;
    double beta2 = 0.999;
    double eps = 1e-8;
    double weight_decay = 0.0;            // adamw
    double momentum = 0.0;                // sgd
    double clip = 0.0;                    // global norm; 0: off
    std::vector<TrainedName> parameters;  // those that change
};

struct TrainConfig : OptimiserConfig {
    TrainConfig() {
        parameters = {
            {Parameter::w_in}, {Parameter::w_rec}, {Parameter::bias}, {Parameter::w_out}, {Parameter::bias_out}};
    }
    std::int64_t batch = 16;
    std::int64_t steps = 1000;
    RateSchedule schedule = RateSchedule::constant;
    std::int64_t schedule_steps = 0;  // step: steps between reductions; cosine: length, 0: train.steps
    double schedule_factor = 0.1;     // step: multiply by; cosine: final fraction
    LossKind loss = LossKind::automatic;
    double rate_l1 = 0.0;     // weight of the mean spike count
    double rate_l2 = 0.0;     // weight of its mean square
    double rate_bound = 0.0;  // weight of the distance of a neuron's rate from its bounds
    double rate_lower = 0.0;  // spikes per step
    double rate_upper = 1.0;
    double adjoint_cap = 0.0;
    TapeKind tape = TapeKind::full;
    std::int64_t report_every = 10;  // steps between entries of metrics.jsonl
    std::int64_t test_every = 0;     // steps between evaluations on validation or test data; 0: only at the end
    std::int64_t test_batches = 10;  // of fresh data; a held-out set is used whole
    bool keep_best = false;          // keep the network that is best on validation data, and test it at the end
    double stop_accuracy = 0.0;      // stop when the running accuracy (0.95) exceeds this; 0: off
};

struct FlossingConfig : OptimiserConfig {
    FlossingConfig() { parameters = {{Parameter::w_rec}}; }
    std::vector<FlossingTime> schedule;  // empty: no flossing
    std::int64_t first = 1;              // the first exponent that is flossed
    std::int64_t exponents = 16;
    std::vector<double> target = {0.0};  // per step; one for all exponents, or one for each
    TargetFrom target_from = TargetFrom::zero;
    std::int64_t warmup = 10;
    std::int64_t qr_interval = 0;  // 0: chosen during the pass
    std::int64_t batch = 1;
    double horizon = 0.0;  // ms; 0: the task's duration
    bool through_state = true;
    JacobianReset jacobian_reset = JacobianReset::detached;
    std::int64_t before = 0;       // schedule before: flossing steps before training
    std::vector<std::int64_t> at;  // schedule at: training steps before which to floss ...
    std::int64_t at_steps = 100;   // ... and the number of flossing steps
    std::int64_t every = 1;        // schedule every: training steps per flossing step
    double weight = 0.0;           // schedule every: > 0: add the penalty to the task's loss with this weight
    AdaptiveQuantity adaptive_quantity = AdaptiveQuantity::exponent;
    std::vector<double> adaptive_band = {-0.05, 0.05};
    std::int64_t adaptive_every = 10;  // training steps between measurements
    std::int64_t adaptive_steps = 20;  // largest number of flossing steps after one measurement
    double adaptive_lag = 0.0;         // ms; > 0: band and slack are per this time, not per step
    double adaptive_slack = 0.0;       // then, exponents less than this below their target are not penalised
    double adaptive_progress = 0.0;    // no flossing if the running loss fell by more than this fraction; 0: off
    std::int64_t stop_step = 0;        // no flossing from this training step on; 0: never
    double stop_accuracy = 0.0;        // no flossing while the running accuracy exceeds this; 0: off
    std::vector<double> stop_band;     // end flossing for good once exponent `first` is inside; empty: off
};

struct DiagnosticsConfig {
    std::int64_t every = 0;  // training steps; 0: off
    std::int64_t exponents = 16;
    std::int64_t batch = 1;
    std::int64_t warmup = 10;
    std::int64_t qr_interval = 0;  // 0: chosen during the pass
};

struct MetricsConfig {
    bool tensorboard = false;
};

struct CheckpointConfig {
    std::int64_t every = 100;  // training steps; 0: only at the end
    std::int64_t keep = 2;
};

struct ServeConfig {
    std::int64_t port = 0;  // 0: do not serve
    std::string address = "127.0.0.1";
    std::string token = "";       // that every visitor must show
    std::string token_file = "";  // file with the token in its first line
};

struct ParallelConfig {
    std::string grid = "auto";  // PxQ | auto (1 x ranks)
    BackendKind backend = BackendKind::automatic;
    CommKind comm = CommKind::automatic;
    std::int64_t threads = 0;  // per rank; 0: cores / ranks
    PassKind passes = PassKind::automatic;
};

struct WatchdogConfig {
    double seconds = 600.0;  // that a rank waits for the others; 0: no limit
};

struct Config {
    RunConfig run;
    NetworkConfig network;
    std::vector<PopulationConfig> populations;  // none: one population, of all neurons of the network ...
    std::vector<ProjectionConfig> projections;  // ... with dense projections from the input and onto itself
    TaskConfig task;
    TrainConfig train;
    FlossingConfig flossing;
    DiagnosticsConfig diagnostics;
    MetricsConfig metrics;
    CheckpointConfig checkpoint;
    ServeConfig serve;
    ParallelConfig parallel;
    WatchdogConfig watchdog;
};

}  // namespace spikefloss
