// The keys of the network, its populations and its projections, and what a population or projection takes from the
// network.
#include "config/section.hpp"

namespace spikefloss {
namespace {

// Of the network, as defaults, and of each population.
void add_neurons(Section& s, NeuronConfig& c) {
    s.add("neurons", c.neurons, "Number of recurrent neurons: N, or those of the population.", {1, 1e6});
    s.add("tau_syn", c.tau_syn,
          "Synaptic time constant in ms (current decays by alpha = exp(-dt/tau_syn)); 0: delta synapse, alpha = 0.",
          {0, 1e6});
    s.add("tau_mem", c.tau_mem,
          "Membrane time constant in ms (membrane decays by beta = exp(-dt/tau_mem)); 0: no memory, beta = 0.",
          {0, 1e6});
    s.add("tau_syn_spread", c.tau_syn_spread,
          "Heterogeneity of tau_syn: each neuron draws it uniformly within this fraction on either side.",
          {0, below(1)});
    s.add("tau_mem_spread", c.tau_mem_spread,
          "Heterogeneity of tau_mem: each neuron draws it uniformly within this fraction on either side.",
          {0, below(1)});
    s.add("threshold", c.threshold, "Threshold theta: a neuron spikes when its membrane exceeds it.",
          {-1e6, 1e6, least_float});
    s.add("tau_adapt", c.tau_adapt,
          "Time constant of the adaptation in ms (it decays by rho = exp(-dt/tau_adapt)); see network.adaptation.",
          {0, 1e6});
    s.add("adapt_membrane", c.adapt_membrane,
          "What the adaptation gains in each step per unit of the membrane (a_u); see network.adaptation.",
          {-1e6, 1e6, least_float});
    s.add("adapt_spike", c.adapt_spike, "What the adaptation gains at each spike (a_s); see network.adaptation.",
          {-1e6, 1e6, least_float});
    s.add("bias_mean", c.bias_mean, "Mean of the initial bias currents.", {-1e6, 1e6, least_float});
    s.add("bias_std", c.bias_std, "Standard deviation of the initial bias currents over neurons.",
          {0, 1e6, least_float});
    s.add("fluctuation_mean", c.fluctuation_mean,
          "init fluctuation: mean mu over time of a membrane without spikes that receives the expected rates.",
          {-1e6, 1e6, least_float});
    s.add("fluctuation_xi", c.fluctuation_xi,
          "init fluctuation: the standard deviation of that membrane over time is (threshold - mu) divided by this.",
          {above(0), 1e6, least_float});
}

// Of the network, as defaults, and of each projection.
void add_weights(Section& s, WeightConfig& c) {
    s.add(
        "init", c.init,
        "Initial weights, with K synapses per target. gaussian: independent normal, standard deviation gain/sqrt(K); "
        "orthogonal: gain times a random orthogonal matrix, for a dense projection of a population onto itself; "
        "balanced: all equal, gain/sqrt(K), where K are the excitatory synapses of the target from populations; "
        "fluctuation: such that the membranes of the target have the mean fluctuation_mean and the standard deviation "
        "that fluctuation_xi says, if sources spike at their rate. With init = orthogonal in [network], projections "
        "from the input and those with a file are gaussian.");
    s.add("gain", c.gain,
          "Strength of the initial weights (see init); for projections from the input the default is "
          "network.input_gain.",
          {0, 1e6, least_float});
    s.add("weight_mean", c.weight_mean,
          "init gaussian: mean of the initial weights; with gain = 0 all weights are equal to it.",
          {-1e6, 1e6, least_float});
    s.add("rate", c.rate, "init fluctuation: expected spikes per step of a neuron of the source.",
          {above(0), below(1), least_float});
    s.add("zero_row_sums", c.zero_row_sums,
          "Subtract their mean from the initial recurrent weights of each neuron, so that excitation and inhibition "
          "balance.");
}

void add_network(Section s, NetworkConfig& c) {
    s.add("file", c.file,
          "HDF5 file with a /network to start from, or a NIR file (NAME.nir); the other keys of this section then only "
          "describe it, and one that is set to another value prints a warning. Empty: a random network.");
    s.add("nir_dt", c.nir.dt,
          "Time step of a NIR network.file, in the unit of its time constants; 0: what its metadata say, else 1e-4.",
          {0, 1e9});
    s.add("nir_reset", c.nir.reset,
          "Reset of a NIR network.file, which acts at once. auto: what its metadata say, else zero.");
    s.add("nir_integration", c.nir.integration,
          "Decay of a NIR network.file in a step: euler is 1 - dt/tau, exponential is exp(-dt/tau). auto: what its "
          "metadata say, else euler.");
    s.add("nir_order", c.nir.order,
          "Whether the new or the old current of a step reaches the membrane in a NIR network.file. auto: what its "
          "metadata say, else new. Of old, only networks without currents have an exact form.");
    s.add("transposed", c.transposed,
          "The arrays of network.file have their axes reversed, as Julia, MATLAB and R write them; the attribute "
          "layout = column_major of /network has the same effect.");
    add_neurons(s, c);
    s.add("tau_out", c.tau_out,
          "Time constant of the readout's low-pass filter in ms (kappa = exp(-dt/tau_out)); 0: no filter, kappa = 0.",
          {0, 1e6});
    s.add("dt", c.dt, "Length of one time step in ms.", {above(0), 1e6});
    s.add("reset", c.reset,
          "Effect of a spike on the membrane: zero sets it to 0, subtract subtracts the threshold, none leaves it.");
    s.add(
        "reset_delay", c.reset_delay,
        "Steps from a spike to its reset. 1: the reset acts on the membrane of the next step, and on the input of that "
        "step, too; 0: it acts at once, as in NIR, Norse, NEST and Brian2.",
        {0, 1});
    s.add("refractory", c.refractory,
          "Time in ms after a spike in which a neuron cannot spike, a multiple of dt (t_ref of NEST); its membrane "
          "goes on. 0: none.",
          {0, 1e6});
    s.add("adaptation", c.adaptation,
          "Effect of the adaptation w of each neuron, which gains adapt_membrane times the membrane in each step, and "
          "adapt_spike at each spike. threshold: it is added to the threshold (ALIF); current: it is subtracted from "
          "the input current (adLIF); none: there is no w.");
    s.add("surrogate", c.surrogate,
          "Shape of the surrogate derivative psi, which replaces the derivative of the spike function.");
    s.add("sharpness", c.sharpness,
          "Sharpness g of the surrogate derivative; its width in membrane potential is about 1/g.",
          {above(0), 1e6, least_float});
    s.add("readout", c.readout, "Input of the linear readout: membrane potentials or spikes.");
    s.add("readout_from", c.readout_from, "The population that is read out; empty: all neurons.");
    add_weights(s, c);
    s.add("input_gain", c.input_gain, "Gain of the initial weights from the input (see gain and init).",
          {0, 1e6, least_float});
    s.add("readout_gain", c.readout_gain,
          "Initial readout weights: standard deviation readout_gain/sqrt(number of neurons that are read).",
          {0, 1e6, least_float});
    s.add("weight_step", c.weight_step,
          "Round initial weights to multiples of this (2^-10 makes sums exact, so that all grids agree bit for bit); "
          "0: no rounding.",
          {0, 1, least_float});
}

void add_population(Section s, PopulationConfig& c) {
    s.add("name", c.name, "Name of the population: letters, digits, _ and -, but not input.");
    add_neurons(s, c);
}

void add_projection(Section s, ProjectionConfig& c) {
    s.add("name", c.name, "Name of the projection; if it is not given, SOURCE_TARGET.");
    s.add("source", c.source, "Population whose spikes it carries, or input for the inputs of the task.");
    s.add("target", c.target, "Population that receives them.");
    s.add("delay", c.delay,
          "Time in ms from a spike to its effect on the current of the target, a multiple of dt and at least dt; the "
          "default is network.dt.",
          {0, 1e6});
    s.add(
        "file", c.file,
        "HDF5 file with the synapses of this projection, and their weights if it has some; otherwise init draws them. "
        "Empty: random synapses.");
    s.add("path", c.path,
          "Group of file with weights [post, pre] of a dense projection, or indptr, indices and data (optional) of a "
          "sparse one, as in scipy.sparse; or a dataset [post, pre].");
    s.add("density", c.density, "Probability of each synapse; 1: all exist.", {above(0), 1});
    s.add("in_degree", c.in_degree,
          "Number of synapses of each target neuron, from different sources; 0: as density says.", {0, 1e9});
    s.add("autapses", c.autapses, "Whether a neuron can have a synapse onto itself.");
    s.add("sign", c.sign,
          "Sign of the weights, which training keeps (Dale's law): excitatory weights are at least 0, inhibitory "
          "weights at most 0.");
    s.add("storage", c.storage,
          "How the weights are held; the result is the same. auto: dense where all possible synapses exist, else "
          "sparse.");
    add_weights(s, c);
    s.add("share", c.share,
          "init fluctuation: share of the projection in the variance of the membrane, or in that of all excitatory "
          "projections of a target with signs. 0: 0.9 for all that are not from the target itself together, 0.1 for "
          "all that are.",
          {0, 1, least_float});
}

// Gives `keys` the values of the network's keys of the same names, except for those that are given.
template <class Add, class Part>
void inherit(const std::vector<Key>& keys, Add&& add, Part& network) {
    std::vector<Key> usual;
    Section section(usual, "network");
    add(section, network);
    for (const Key& key : keys)
        for (const Key& from : usual)
            if (key.name == from.name && !key.is_given()) copy_value(key, from);
}

void inherit(PopulationConfig& population, NetworkConfig& network) {
    inherit(keys_of(population), add_neurons, static_cast<NeuronConfig&>(network));
}

void inherit(ProjectionConfig& projection, NetworkConfig& network) {
    WeightConfig usual = network;
    if (projection.source == input_name) {
        usual.gain = network.input_gain;
        usual.zero_row_sums = false;
    }
    if ((projection.source == input_name || !projection.file.empty()) && usual.init == WeightInit::orthogonal)
        usual.init = WeightInit::gaussian;
    const std::vector<Key> keys = keys_of(projection);
    inherit(keys, add_weights, usual);
    for (const Key& key : keys)
        if (key.name == "delay" && !key.is_given()) projection.delay = network.dt;
}

template <class Part>
std::vector<Part> inherited(std::vector<Part> parts, NetworkConfig network) {
    for (Part& part : parts) inherit(part, network);
    return parts;
}

ProjectionConfig dense_projection(const char* name, const std::string& source, const std::string& target) {
    ProjectionConfig projection;
    projection.name = name;
    projection.source = source;
    projection.target = target;
    return projection;
}

constexpr const char* only_population = "neurons";

}  // namespace

std::vector<Key> keys_of(PopulationConfig& population) {
    std::vector<Key> keys;
    add_population({keys, "population." + population.name, &population.given}, population);
    return keys;
}

std::vector<Key> keys_of(ProjectionConfig& projection) {
    std::vector<Key> keys;
    add_projection({keys, "projection." + projection.name, &projection.given}, projection);
    return keys;
}

void add_network_keys(std::vector<Key>& keys, Config& config) {
    add_network({keys, "network"}, config.network);
    const auto add = [&](auto& parts) {
        for (auto& part : parts) {
            inherit(part, config.network);
            for (Key& key : keys_of(part)) keys.push_back(std::move(key));
        }
    };
    add(config.populations);
    add(config.projections);
}

std::vector<PopulationConfig> populations_of(const Config& config) {
    std::vector<PopulationConfig> populations = config.populations;
    if (populations.empty()) populations.emplace_back().name = only_population;
    return inherited(std::move(populations), config.network);
}

std::vector<ProjectionConfig> projections_of(const Config& config) {
    if (!config.populations.empty()) return inherited(config.projections, config.network);
    return inherited(std::vector{dense_projection("w_in", input_name, only_population),
                                 dense_projection("w_rec", only_population, only_population)},
                     config.network);
}

std::int64_t neurons_of(const Config& config) {
    std::int64_t neurons = 0;
    for (const PopulationConfig& population : populations_of(config)) neurons += population.neurons;
    return neurons;
}

}  // namespace spikefloss
