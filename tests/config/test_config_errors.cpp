// Every kind of bad config file or --set argument: the text of the error, and the place that it names.
#include "config/error_text.hpp"
#include "config/schema.hpp"
#include "config/toml_depth.hpp"

#include <cmath>
#include <filesystem>
#include <fstream>

#include <unistd.h>

namespace spikefloss {
namespace {

std::string file_error(const std::string& text) {
    return usage_error([&] {
        Config config;
        read_config_text(text, "my.toml", config);
    });
}

std::string set_error(const std::string& assignment) {
    return usage_error([&] {
        Config config;
        set_key(assignment, config);
    });
}

struct Case {
    const char* text;  // a TOML text or a --set argument
    std::vector<const char*> parts;
};

TEST(ConfigErrors, UnknownNamesFindTheNearest) {
    const Case cases[] = {
        {"[train]\nlr = 1e-3\n", {"my.toml:2: unknown key train.lr", "did you mean train.learning_rate?"}},
        {"[flossing]\nlr = 1e-3\n", {"my.toml:2: unknown key flossing.lr", "did you mean flossing.learning_rate?"}},
        {"# x\n\n[network]\nneurons = 4\nneuron = 5\n", {"my.toml:5: unknown key network.neuron", "network.neurons?"}},
        {"[network]\nlearning_rate = 1\n", {"my.toml:2: unknown key network.learning_rate", ".learning_rate?"}},
        {"[task]\ntau_mem = 20\n", {"my.toml:2: unknown key task.tau_mem", "did you mean network.tau_mem?"}},
        {"[train]\nbatch_size = 3\n", {"unknown key train.batch_size", "did you mean train.batch?"}},
        {"[train]\noptimizer = 'adam'\n", {"unknown key train.optimizer", "did you mean train.optimiser?"}},
        {"[train]\nexponents = 3\n", {"unknown key train.exponents", ".exponents?"}},
        {"[parallel]\ntimeout = 60\n", {"my.toml:2: unknown key parallel.timeout", "now called watchdog.seconds"}},
        {"[parallel]\nneuron_shards = 2\n",
         {"my.toml:2: unknown key parallel.neuron_shards", "--grid 2x4 is 2 neuron"}},
        {"[run]\nseed = 1\n[run.more]\nx = 1\n", {"my.toml:3: unknown key run.more"}},
        {"[trian]\nsteps = 1\n", {"my.toml:1: unknown section [trian]", "did you mean [train]?", "diagnostics"}},
        {"seed = 3\n", {"my.toml:1: the key seed is in no section", "did you mean run.seed?"}},
        {"train = 3\n", {"my.toml:1: train must be a section", "[train]"}},
        {"[[train]]\nsteps = 3\n", {"my.toml:1: train must be a section"}},
        {"[[populatoin]]\nname = 'a'\n", {"my.toml:1: unknown section [[populatoin]]", "mean [[population]]?"}},
        {"[population]\nname = 'a'\n", {"my.toml:1: population must be a list of sections", "[[population]]"}},
        {"population = [1]\n", {"my.toml:1: population must be a list of sections"}},
        {"[[population]]\nneurons = 3\n", {"my.toml:1: a [[population]] has no name", "name = \"exc\""}},
        {"[[projection]]\nsource = 'a'\n", {"my.toml:1: a [[projection]] has no target"}},
        {"[[projection]]\ntarget = 'a'\n", {"my.toml:1: a [[projection]] has no source", "or \"input\""}},
        {"[[population]]\nname = 'a'\nneuron = 4\n", {"my.toml:3: unknown key population.a.neuron", ".a.neurons?"}},
        {"[[population]]\nname = 'a'\nreset = 'none'\n", {"unknown key population.a.reset", "network.reset?"}},
        {"[[projection]]\nsource = 'a'\ntarget = 'b'\ndelays = 1\n",
         {"my.toml:4: unknown key projection.a_b.delays", "projection.a_b.delay?"}},
        {"[[projection]]\nsource = 'a'\ntarget = 'b'\ndensity = 0\n",
         {"my.toml:4: projection.a_b.density = 0.0 is out of range", "from above 0 to 1"}},
    };
    for (const Case& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(file_error(c.text), part);
}

TEST(ConfigErrors, UnknownPopulationsOfSettings) {
    const auto error = [](const std::string& text, const std::string& assignment) {
        return usage_error([&] {
            Config config;
            read_config_text(text, "my.toml", config);
            set_key(assignment, config);
        });
    };
    const std::string two = "[[population]]\nname = 'exc'\n[[population]]\nname = 'inh'\n";
    EXPECT_EQ(error(two, "population.exc.neurons=3"), "");
    EXPECT_HAS(error(two, "population.ex.neurons=3"), "there is no population ex");
    EXPECT_HAS(error(two, "population.ex.neurons=3"), "did you mean population.exc? The config has exc, inh");
    EXPECT_HAS(error(two, "population.exc.neuron=3"), "did you mean population.exc.neurons?");
    EXPECT_HAS(error(two, "population.neurons=3"), "population is not followed by the name of one");
    EXPECT_HAS(error(two, "population.exc.neurons=0"), "population.exc.neurons = 0 is out of range");
    EXPECT_HAS(error(two, "projection.a_b.delay=3"), "there is no projection a_b");
    EXPECT_HAS(error(two, "projection.a_b.delay=3"), "a section [[projection]]");
}

TEST(ConfigErrors, WrongTypesSayWhatIsExpected) {
    const Case cases[] = {
        {"[train]\nsteps = 1.0\n", {"my.toml:2: train.steps must be an integer, not a float", "steps = 1000"}},
        {"[train]\nsteps = 1e3\n", {"my.toml:2: train.steps must be an integer, not a float"}},
        {"[train]\nsteps = '7'\n", {"train.steps must be an integer, not a string"}},
        {"[network]\n\ndt = \"1\"\n", {"my.toml:3: network.dt must be a float, not a string", "one time step in ms"}},
        {"[network]\nzero_row_sums = 1\n", {"network.zero_row_sums must be true or false, not an integer"}},
        {"[network]\nreset = true\n", {"network.reset must be a string, not true or false"}},
        {"[network]\nreset = 2020-01-01\n", {"network.reset must be a string, not a date"}},
        {"[network.reset]\nx = 1\n", {"network.reset must be a string, not a section"}},
        {"[flossing]\ntarget = 0.0\n", {"flossing.target must be a list of floats, not a float", "target = [0.0]"}},
        {"[flossing]\ntarget = [0.0, 'x']\n",
         {"flossing.target must be a list of floats, not a list of something else"}},
        {"[flossing]\nat = [1, 2.0]\n", {"flossing.at must be a list of integers, not a list of something else"}},
        {"[flossing]\nschedule = 'before'\n",
         {"flossing.schedule must be a list of strings, not a string", "write it like schedule = [\"before\"]"}},
        {"[flossing]\nschedule = 'bfore'\n", {"flossing.schedule", "has no choice \"bfore\"", "choose from before"}},
        {"[flossing]\ntarget = -0.25\n", {"not a float", "write it like target = [-0.25]"}},
    };
    for (const Case& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(file_error(c.text), part);
}

// TOML has nan and inf. No key of the schema accepts them, alone or in a list, from a file, from --set or set by the
// program.
TEST(ConfigErrors, NoNumberIsNanOrInfinite) {
    Config config;
    int numbers = 0;
    for (const Key& key : keys_of(config)) {
        const bool list = std::holds_alternative<std::vector<double>*>(key.value) ||
                          std::holds_alternative<std::vector<std::int64_t>*>(key.value);
        const bool number =
            list || std::holds_alternative<double*>(key.value) || std::holds_alternative<std::int64_t*>(key.value);
        if (!number) continue;
        ++numbers;
        for (const std::string value : {"nan", "-nan", "+nan", "inf", "-inf", "+inf"}) {
            const std::string text = list ? "[" + value + "]" : value;
            EXPECT_HAS(file_error("[" + key.section + "]\n" + key.name + " = " + text + "\n"), key.path());
            EXPECT_HAS(set_error(key.path() + "=" + text), key.path());
            if (list) {
                EXPECT_HAS(set_error(key.path() + "=" + value), key.path());
            }
        }
        for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
            Config set;
            for (const Key& mine : keys_of(set)) {
                if (mine.path() != key.path()) continue;
                if (auto* one = std::get_if<double*>(&mine.value))
                    **one = value;
                else if (auto* many = std::get_if<std::vector<double>*>(&mine.value))
                    **many = {0.0, value};
                else
                    continue;
                EXPECT_HAS(usage_error([&] { check_config(set); }), key.path() + " = ");
            }
        }
    }
    EXPECT_GT(numbers, 40);
}

// The program computes in float32. A value that is 0 or infinite in float32 is refused where float32 is used.
TEST(ConfigErrors, NumbersThatFloat32CannotHold) {
    for (const std::string key :
         {"network.threshold", "network.sharpness", "network.gain", "network.input_gain", "network.readout_gain",
          "network.bias_mean", "network.bias_std", "network.weight_step", "train.learning_rate", "train.weight_decay",
          "train.clip", "train.adjoint_cap", "train.eps", "flossing.learning_rate", "flossing.clip",
          "flossing.weight"}) {
        EXPECT_HAS(set_error(key + "=1e-46"), key + " = 1e-46 is ");
        EXPECT_HAS(set_error(key + "=1e-39"), key + " = 1e-39 is ");
        EXPECT_HAS(set_error(key + "=1e39"), key + " = 1e+39 is out of range");
    }
    EXPECT_HAS(set_error("train.learning_rate=1e-46"),
               "train.learning_rate = 1e-46 is too near 0 for float32: its size must be at least 1.2e-38, or 0");
    EXPECT_HAS(set_error("network.sharpness=1e-46"), "its size must be at least 1.2e-38\n");
    EXPECT_HAS(set_error("network.threshold=-1e-46"), "too near 0");
    for (const char* fine : {"train.learning_rate=0", "train.learning_rate=1e-37", "network.threshold=-0.0",
                             "train.clip=1e-30", "network.sharpness=1e-30"})
        EXPECT_EQ(set_error(fine), "") << fine;
    // Decays of the optimisers that would be 1 in float32. Their corrections divide by 1 - beta.
    for (const std::string key : {"train.beta1", "train.beta2", "train.momentum", "flossing.beta2"}) {
        EXPECT_HAS(set_error(key + "=0.9999999999"), "out of range: it must be a number from 0 to 0.999999");
        EXPECT_EQ(set_error(key + "=0.999999"), "");
    }
}

TEST(ConfigErrors, RangesAndChoicesAreNamed) {
    const Case cases[] = {
        {"[train]\nbatch = 0\n", {"my.toml:2: train.batch = 0 is out of range", "it must be a number from 1 to 1e9"}},
        {"[run]\nseed = -1\n", {"run.seed = -1 is out of range: it must be a number from 0 to"}},
        {"[network]\ndt = 0\n", {"network.dt = 0.0 is out of range", "a number from above 0 to 1e6"}},
        {"[network]\ntau_mem_spread = 1\n", {"network.tau_mem_spread = 1.0", "from 0 to below 1"}},
        {"[train]\nlearning_rate = nan\n",
         {"train.learning_rate = nan", "out of range: it must be a number from 0 to"}},
        {"[network]\nthreshold = inf\n", {"network.threshold = inf", "from -1e6 to 1e6"}},
        {"[flossing]\nat = [5, -5]\n", {"my.toml:2: flossing.at = -5 is out of range"}},
        {"[network]\nreset = 'soft'\n",
         {"my.toml:2: network.reset has no choice \"soft\"", "choose from zero, subtract, none"}},
        {"[flossing]\nschedule = ['before', 'after']\n",
         {"flossing.schedule has no choice \"after\"", "choose from before, at, every, adaptive; [] is none of them"}},
        {"[train]\nparameters = ['w_rec', 'w_hidden']\n", {"no choice \"w_hidden\"", "w_in, w_rec, bias, w_out,"}},
    };
    for (const Case& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(file_error(c.text), part);
}

TEST(ConfigErrors, BadTomlNamesTheLine) {
    const Case cases[] = {
        {"[train]\nsteps = \n", {"my.toml:2:", "not valid TOML"}},
        {"[train]\nsteps = 1\nsteps = 2\n", {"my.toml:3:", "not valid TOML", "steps"}},
        {"[train\nsteps = 1\n", {"my.toml:1:", "not valid TOML"}},
        {"[network]\nreset = none\n", {"my.toml:2:", "not valid TOML", "strings need quotes"}},
        {"\x89HDF\r\n\x1a\n\xff", {"my.toml:1:", "not valid TOML"}},
    };
    for (const Case& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(file_error(c.text), part);
}

TEST(ConfigErrors, OnlyANearNameIsSuggested) {
    EXPECT_HAS(set_error("train.epochs=3"), "unknown key train.epochs\n  what to do: docs/config.md lists all keys");
    EXPECT_HAS(set_error("network.hidden=3"),
               "unknown key network.hidden\n  what to do: docs/config.md lists all keys");
    EXPECT_HAS(set_error("network.neuron=3"), "did you mean network.neurons?");
}

TEST(ConfigErrors, SetNamesTheArgument) {
    const Case cases[] = {
        {"train.lr=3", {"--set train.lr=3: unknown key train.lr", "did you mean train.learning_rate?"}},
        {"trian.steps=3", {"--set trian.steps=3: unknown section [trian]", "did you mean [train]?"}},
        {"steps=3", {"--set steps=3: not of the form section.key=value"}},
        {"train.steps", {"--set train.steps: not of the form section.key=value"}},
        {"", {"--set : not of the form section.key=value"}},
        {"train.steps=abc", {"--set train.steps=abc: train.steps must be an integer, not abc"}},
        {"train.steps=1.5", {"train.steps must be an integer, not a float"}},
        {"train.steps=", {"train.steps must be an integer, not nothing"}},
        {"train.steps=3\n[run]", {"train.steps must be an integer"}},
        {"train.batch=0", {"--set train.batch=0: train.batch = 0 is out of range", "from 1 to"}},
        {"network.reset=soft", {"network.reset has no choice \"soft\"", "zero, subtract, none"}},
        {"network.reset=3", {"network.reset has no choice \"3\""}},
        {"run.directory=\"half", {"run.directory must be a string, not \"half"}},
        {"flossing.schedule=before,after", {"flossing.schedule has no choice \"after\""}},
        {"flossing.schedule=[1]", {"flossing.schedule must be a list of strings"}},
        {"flossing.target=a", {"flossing.target must be a list of floats, not [a]"}},
        {"flossing.through_state=yes", {"flossing.through_state must be true or false, not yes"}},
    };
    for (const Case& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(set_error(c.text), part);
}

std::string repeated(const std::string& text, int times) {
    std::string all;
    for (int n = 0; n < times; ++n) all += text;
    return all;
}

// Each of these overflowed the stack of the parser, or would do so if the strings before it were misread.
TEST(ConfigErrors, NestingTooDeep) {
    constexpr int deep = 50'000;
    const std::string keys = "a" + repeated(".a", deep);
    for (const std::string& text :
         {keys + " = 1\n", "[" + keys + "]\n", "[[" + keys + "]]\n", "[run]\nseed = {" + keys + " = 1}\n",
          "[run]\nseed = " + repeated("[", deep), "[run]\nseed = " + repeated("{a = ", deep),
          "[run]\nseed = " + repeated("[{a.a = ", deep), "a" + repeated(" . \"a\"", deep) + " = 1\n",
          R"(x = ["""a"""", {)" + keys + " = 1}]\n", "x = ['''a''''', {" + keys + " = 1}]\n",
          R"(x = ['a\', {)" + keys + " = 1}]\n",
          R"(x = "a\"#" # ")"
          "\n" +
              keys + " = 1\n"})
        EXPECT_HAS(file_error(text).substr(0, 100), "my.toml: keys, lists and tables nest ");
    EXPECT_HAS(set_error("train.steps=" + repeated("[", deep)), "train.steps must be an integer");
    EXPECT_HAS(set_error("train.steps={" + keys + "=1}"), "train.steps must be an integer");
    EXPECT_HAS(set_error("flossing.target=" + repeated("{a=", deep)), "flossing.target must be a list of floats");
    EXPECT_EQ(set_error("run.directory=" + keys), "");
}

TEST(ConfigErrors, Depth) {
    const std::pair<const char*, int> cases[] = {{"", 0},
                                                 {"a = 1", 0},
                                                 {"a = 1.5", 1},
                                                 {"a.b = 1\nc.d.e = 1", 2},
                                                 {"[a.b]\nc.d = 2", 2},
                                                 {"a.b = [{c = 1}]", 3},
                                                 {"a.b = [{c.d = 1}, [2.5]]", 4},
                                                 {"a = [1.5,\n 2.5, # 3.4.5 [[[\n 3.5]\nb = 1", 2},
                                                 {R"(a = "[[[[.....\"[[[")", 0},
                                                 {R"(a = '[[[.\' # ")", 0},
                                                 {"a = \"\"\"\n[[[\n\"\"\"\nb.c = 1", 1},
                                                 {"a = \"unfinished\nb.c = 1", 1}};
    for (const auto& [text, depth] : cases) EXPECT_EQ(toml_depth(text), depth) << text;
}

TEST(ConfigErrors, UnreadableFiles) {
    const auto folder = std::filesystem::temp_directory_path() / fmt::format("spikefloss_config_{}", ::getpid());
    std::filesystem::create_directories(folder);
    Config config;
    const auto error = [&](const std::string& path) { return usage_error([&] { read_config(path, config); }); };
    EXPECT_HAS(error(folder / "none.toml"), "none.toml: there is no such file");
    EXPECT_HAS(error(folder), "it is a folder");
    std::ofstream(folder / "bad.toml") << "[run]\nseeds = 4\n";
    EXPECT_HAS(error(folder / "bad.toml"), (folder / "bad.toml").string() + ":2: unknown key run.seeds");
    std::ofstream(folder / "good.toml") << "[run]\nseed = 4\n";
    EXPECT_EQ(error(folder / "good.toml"), "");
    EXPECT_EQ(config.run.seed, 4);
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace spikefloss
