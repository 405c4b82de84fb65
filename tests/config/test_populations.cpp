// Populations and projections of a config: what they take from the network, and their contradictions.
#include "config/error_text.hpp"
#include "config/schema.hpp"

namespace spikefloss {
namespace {

using Settings = std::vector<const char*>;

constexpr const char* with_defaults = R"(
[network]
tau_mem = 20
gain = 3
input_gain = 4
init = "orthogonal"
[[projection]]
source = "exc"
target = "inh"
delay = 2.0
in_degree = 40
sign = "excitatory"
init = "gaussian"
[[projection]]
name = "x"
source = "input"
target = "exc"
[[population]]
name = "exc"
neurons = 400
[[population]]
name = "inh"
tau_mem = 5
)";

// A population or a projection has its own keys, then those of the network, whatever is set first.
TEST(Populations, OwnKeysThenThoseOfTheNetwork) {
    Config config;
    read_config_text(with_defaults, "text", config);
    for (const char* setting : {"network.neurons=100", "population.inh.tau_syn=3", "network.tau_syn=2",
                                "projection.exc_inh.density=0.5", "network.dt=0.5"})
        set_key(setting, config);
    for (int round = 0; round < 2; ++round) {
        const std::vector<PopulationConfig> populations = populations_of(config);
        ASSERT_EQ(populations.size(), 2u);
        EXPECT_EQ(populations[0].name, "exc");
        EXPECT_EQ(populations[0].neurons, 400);
        EXPECT_EQ(populations[0].tau_mem, 20.0);
        EXPECT_EQ(populations[0].tau_syn, 2.0);
        EXPECT_EQ(populations[1].neurons, 100);
        EXPECT_EQ(populations[1].tau_mem, 5.0);
        EXPECT_EQ(populations[1].tau_syn, 3.0);
        EXPECT_EQ(neurons_of(config), 500);
        const std::vector<ProjectionConfig> projections = projections_of(config);
        ASSERT_EQ(projections.size(), 2u);
        EXPECT_EQ(projections[0].name, "exc_inh");
        EXPECT_EQ(projections[0].delay, 2.0);
        EXPECT_EQ(projections[0].density, 0.5);
        EXPECT_EQ(projections[0].in_degree, 40);
        EXPECT_EQ(projections[0].sign, Sign::excitatory);
        EXPECT_EQ(projections[0].init, WeightInit::gaussian);
        EXPECT_EQ(projections[0].gain, 3.0);
        EXPECT_EQ(projections[1].name, "x");
        EXPECT_EQ(projections[1].gain, 4.0);
        EXPECT_EQ(projections[1].delay, 0.5);
        EXPECT_EQ(projections[1].init, WeightInit::gaussian);  // an input cannot be orthogonal
        Config read;
        read_config_text(to_toml(config, round == 0), "text", read);
        config = read;
    }
    // Without any, there is one population with the names of the parameters.
    const Config plain;
    EXPECT_EQ(populations_of(plain).size(), 1u);
    EXPECT_EQ(populations_of(plain)[0].neurons, 80);
    EXPECT_EQ(projections_of(plain)[1].name, "w_rec");
}

// E and I, with a projection from the input to E and one of each kind between them.
constexpr const char* two_populations =
    "[[population]]\nname = 'exc'\nneurons = 40\n[[population]]\nname = 'inh'\nneurons = 10\n"
    "[[projection]]\nsource = 'input'\ntarget = 'exc'\n"
    "[[projection]]\nsource = 'exc'\ntarget = 'inh'\nsign = 'excitatory'\n"
    "[[projection]]\nsource = 'inh'\ntarget = 'exc'\nsign = 'inhibitory'\n"
    "[[projection]]\nsource = 'exc'\ntarget = 'exc'\n";

std::string check_error(const std::string& text, const Settings& settings) {
    return usage_error([&] {
        Config config;
        read_config_text(text, "my.toml", config);
        for (const char* setting : settings) set_key(setting, config);
        check_config(config);
    });
}

struct Case {
    Settings settings;
    std::vector<const char*> parts;  // of the message; empty: no error
};

void expect(const char* text, const std::vector<Case>& cases) {
    for (const Case& c : cases) {
        const std::string error = check_error(text, c.settings);
        SCOPED_TRACE(c.settings.empty() ? "" : c.settings.back());
        if (c.parts.empty()) {
            EXPECT_EQ(error, "");
        }
        for (const char* part : c.parts) EXPECT_HAS(error, part);
    }
}

TEST(Populations, Contradictions) {
    const std::vector<Case> cases = {
        {{}, {}},
        {{"population.exc.name=e-1_X"},
         {"projection.input_exc.target = \"exc\" is no population", "There are e-1_X, inh"}},
        {{"projection.exc_inh.source=ex"},
         {"projection.exc_inh.source = \"ex\" is no population", "mean exc?", "input"}},
        {{"projection.exc_inh.target=input"}, {"projection.exc_inh.target = \"input\" is no population"}},
        {{"network.readout_from=in"}, {"network.readout_from = \"in\" is no population", "did you mean inh?"}},
        {{"network.readout_from=inh"}, {}},
        {{"population.exc.name=inh"}, {"two populations are named inh"}},
        {{"population.inh.name=input"}, {"a population is named input"}},
        {{"population.inh.name=a b"}, {"a population cannot be named \"a b\"", "letters, digits, _ and -"}},
        {{"population.inh.name="}, {"a population cannot be named \"\""}},
        {{"projection.exc_inh.name=inh_exc"}, {"two projections are named inh_exc", "name = ..."}},
        {{"projection.exc_inh.name=a/b"}, {"a projection cannot be named \"a/b\""}},
        {{"projection.exc_inh.delay=0.5"},
         {"projection.exc_inh.delay = 0.5 ms is shorter than one step", "at least 1 ms"}},
        {{"projection.exc_inh.delay=0"}, {"projection.exc_inh.delay = 0 ms is shorter than one step"}},
        {{"projection.exc_inh.delay=1.5"}, {"projection.exc_inh.delay = 1.5 ms is not a whole number of steps"}},
        {{"projection.exc_inh.delay=1.5", "network.dt=0.5"}, {}},
        {{"network.dt=0.5"}, {}},  // the other delays are one step
        {{"projection.exc_inh.in_degree=41"}, {"projection.exc_inh.in_degree = 41 is more than the 40 neurons", "exc"}},
        {{"projection.exc_inh.in_degree=40"}, {}},
        {{"projection.exc_exc.in_degree=40", "projection.exc_exc.autapses=false"}, {"without autapses", "at most 39"}},
        {{"projection.exc_inh.in_degree=4", "projection.exc_inh.density=0.5"}, {"both say how many synapses"}},
        {{"projection.exc_inh.storage=dense"}, {}},
        {{"projection.exc_inh.storage=dense", "projection.exc_inh.density=0.5"},
         {"only some of the possible synapses"}},
        {{"projection.exc_exc.storage=dense", "projection.exc_exc.autapses=false"}, {"only some of the possible"}},
        {{"projection.exc_inh.path=w"}, {"projection.exc_inh.path = \"w\" is a place in a file, but", "name the file"}},
        {{"projection.exc_inh.file=w.h5", "projection.exc_inh.path=w"}, {}},
        {{"projection.exc_inh.file=w.h5", "projection.exc_inh.density=0.5"},
         {"projection.exc_inh.file = \"w.h5\" has synapses, but density says which ones exist, too"}},
        {{"projection.exc_inh.file=w.h5", "projection.exc_inh.in_degree=5"}, {"but in_degree says"}},
        {{"projection.exc_exc.file=w.h5", "projection.exc_exc.autapses=false"}, {"but autapses = false says"}},
        {{"projection.exc_exc.file=w.h5", "projection.exc_exc.init=orthogonal"}, {"is not dense from a population"}},
        {{"projection.exc_exc.file=w.h5", "network.init=orthogonal", "projection.exc_inh.init=gaussian",
          "projection.inh_exc.init=gaussian"},
         {}},
        {{"population.exc.neurons=0"}, {"population.exc.neurons = 0 is out of range", "from 1 to 1e6"}},
        {{"population.exc.neurons=1000000000"}, {"population.exc.neurons = 1000000000 is out of range"}},
        {{"population.nosuch.neurons=3"}, {"there is no population nosuch", "The config has exc, inh"}},
        {{"projection.inh_inh.delay=3"}, {"there is no projection inh_inh", "did you mean projection."}},
        {{"projection.exc_inh.density=0"}, {"density = 0.0 is out of range", "from above 0 to 1"}},
        {{"projection.exc_inh.density=1.5"}, {"density = 1.5 is out of range"}},
        {{"projection.exc_inh.in_degree=-1"}, {"in_degree = -1 is out of range"}},
        {{"projection.exc_inh.sign=both"}, {"sign has no choice \"both\"", "any, excitatory, inhibitory"}},
        {{"projection.exc_inh.delay=inf"}, {"delay = inf is out of range"}},
        {{"network.adaptation=current", "population.inh.tau_adapt=-5"}, {"tau_adapt = -5.0 is out of range"}},
        {{"projection.exc_inh.weight_mean=-1"}, {"sign = \"excitatory\", but projection.exc_inh.weight_mean = -1"}},
        {{"projection.exc_inh.weight_mean=1"}, {}},
        {{"projection.inh_exc.weight_mean=1"}, {"sign = \"inhibitory\", but projection.inh_exc.weight_mean = 1"}},
        {{"projection.exc_inh.zero_row_sums=true"}, {"zero_row_sums = true: such weights have both signs"}},
        {{"projection.exc_inh.init=orthogonal"}, {"\"orthogonal\" gives weights of both signs"}},
        {{"projection.exc_exc.init=orthogonal"}, {}},
        {{"projection.exc_exc.init=orthogonal", "projection.exc_exc.density=0.5"}, {"is not dense from a population"}},
        {{"projection.exc_exc.init=balanced"}, {"init = \"balanced\", but projection.exc_exc.sign = \"any\""}},
        {{"projection.exc_inh.init=balanced", "projection.exc_inh.weight_mean=1"}, {"\"balanced\" has no such mean"}},
        {{"projection.exc_exc.init=fluctuation"}, {"population exc receives exc_exc", "input_exc, inh_exc without it"}},
        {{"network.init=fluctuation"}, {"0 excitatory and 1 inhibitory projections of 3"}},
        {{"network.init=fluctuation", "projection.inh_exc.sign=any"},
         {"population inh has 1 excitatory and 0 inhibitory projections of 1"}},
        {{"network.init=fluctuation", "projection.exc_inh.sign=any", "projection.inh_exc.sign=any"}, {}},
        {{"network.init=fluctuation", "projection.exc_inh.sign=any", "projection.inh_exc.sign=any",
          "projection.inh_exc.share=0.3"},
         {"the shares of the 3 projections to population exc add up to 0.3"}},
        {{"network.init=fluctuation", "projection.exc_inh.sign=any", "projection.inh_exc.sign=any",
          "network.fluctuation_mean=1"},
         {"fluctuation_mean = 1 of population exc is not below its threshold = 1"}},
        {{"population.inh.adapt_spike=0.1"}, {"population.inh.adapt_spike = 0.1, but network.adaptation = \"none\""}},
        {{"population.inh.adapt_spike=0.1", "network.adaptation=threshold"}, {}},
        {{"network.refractory=0.5"}, {"network.refractory = 0.5 ms is not a whole number of steps"}},
        {{"network.file=n.h5"}, {"network.file = \"n.h5\" has a network of its own"}},
        {{"population.inh.tau_mem=1e6", "network.dt=0.01"}, {"population.inh.tau_mem = 1000000 ms is too long"}},
        {{"flossing.schedule=every", "flossing.exponents=101"}, {"D = 100 (2 x the neurons of all populations)"}},
        {{"flossing.schedule=every", "flossing.exponents=101", "network.adaptation=current"}, {}},
        {{"flossing.schedule=every", "flossing.exponents=51", "network.tau_syn=0"}, {"D = 50 (the neurons of all"}},
    };
    expect(two_populations, cases);
}

TEST(Populations, PopulationsAndProjectionsNeedEachOther) {
    const std::string exc = "[[population]]\nname = 'exc'\n", inh = "[[population]]\nname = 'inh'\n",
                      in = "[[projection]]\nsource = 'input'\ntarget = 'exc'\n",
                      rec = "[[projection]]\nsource = 'exc'\ntarget = 'exc'\n";
    EXPECT_HAS(check_error(exc, {}), "no projection is from the input of the task");
    EXPECT_HAS(check_error(exc, {}), "[[projection]]\nsource = \"input\"\ntarget = \"exc\"");
    EXPECT_HAS(check_error(exc + rec, {}), "no projection is from the input of the task");
    EXPECT_HAS(check_error(exc + inh + in, {}), "no projection is to population inh");
    EXPECT_HAS(check_error(exc + inh + in, {}), "[[projection]]\nsource = \"exc\"\ntarget = \"inh\"");
    EXPECT_EQ(check_error(exc + in, {}), "");  // no recurrence
    EXPECT_HAS(check_error(in, {}), "projection input_exc is there, but no [[population]]");
    EXPECT_HAS(check_error(in, {}), "[[population]]\nname = \"exc\"");
    expect("",
           {{{"network.readout_from=exc"}, {"network.readout_from = \"exc\", but the config has no [[population]]"}},
            {{"network.init=balanced"}, {"network.init = \"balanced\" needs excitatory and inhibitory populations"}},
            {{"network.init=fluctuation"}, {}},
            {{"network.adapt_membrane=0.1"}, {"network.adapt_membrane = 0.1", "network.adaptation = \"none\""}}});
    Config config;
    read_config_text(two_populations, "my.toml", config);
    EXPECT_EQ(usage_error([&] { check_grid(config, 50, 1); }), "");
    EXPECT_HAS(usage_error([&] { check_grid(config, 51, 1); }), "the 50 neurons of all populations over 51 groups");
}

// rho = exp(-1/200) = 0.99501, beta = exp(-1/10) = 0.90484: stable from -0.0049875 to 39.93.
TEST(Populations, StableAdaptation) {
    const auto warnings = [](const std::string& text, const Settings& settings) {
        Config config;
        read_config_text(text, "my.toml", config);
        for (const char* setting : settings) set_key(setting, config);
        check_config(config);
        const std::vector<std::string> all = config_warnings(config);
        return all.empty() ? "" : all[0];
    };
    for (const char* stable : {"network.adapt_membrane=39.9", "network.adapt_membrane=-0.00498"})
        EXPECT_EQ(warnings("", {"network.adaptation=current", stable}), "");
    for (const char* unstable : {"network.adapt_membrane=39.94", "network.adapt_membrane=-0.005"}) {
        EXPECT_HAS(warnings("", {"network.adaptation=current", unstable}),
                   "outside its stable range, -0.004988 to 39.93");
        EXPECT_EQ(warnings("", {"network.adaptation=threshold", unstable}), "");
    }
    EXPECT_HAS(warnings(two_populations, {"network.adaptation=current", "population.inh.adapt_membrane=50"}),
               "population.inh.adapt_membrane = 50 is outside its stable range");
}

}  // namespace
}  // namespace spikefloss
