// Contradictions between keys: a table of settings with the message of each, and settings that must pass.
#include "config/error_text.hpp"
#include "config/schema.hpp"

namespace spikefloss {
namespace {

using Settings = std::vector<const char*>;

std::string check_error(const Settings& settings) {
    Config config;
    for (const char* setting : settings) set_key(setting, config);
    return usage_error([&] { check_config(config); });
}

struct Case {
    Settings settings;
    std::vector<const char*> parts;  // of the message; empty: no error
};

void expect(const std::vector<Case>& cases, const Settings& before = {}) {
    for (const Case& c : cases) {
        Settings settings = before;
        settings.insert(settings.end(), c.settings.begin(), c.settings.end());
        const std::string text = check_error(settings);
        std::string shown;
        for (const char* setting : settings) shown += std::string(" ") + setting;
        SCOPED_TRACE(shown);
        if (c.parts.empty()) {
            EXPECT_EQ(text, "");
        }
        for (const char* part : c.parts) EXPECT_HAS(text, part);
    }
}

// exp(-dt/tau) rounds to 1 in float32 for tau of 2^25 dt or more, and a network file with a decay of 1 is refused.
TEST(ConfigChecks, DecaysBelowOne) {
    for (const std::string key : {"network.tau_syn", "network.tau_mem", "network.tau_out"}) {
        const std::string long_time = key + "=1e6", below = key + "=330000", above = key + "=335545";
        const char* short_step = "network.dt=0.01";
        expect({
            {{long_time.c_str()}, {}},
            {{short_step, below.c_str()}, {}},
            {{short_step, above.c_str()}, {key.c_str(), "rounds to 1 in float32", "of at most 330000 ms"}},
            {{short_step, long_time.c_str()}, {key.c_str(), "rounds to 1 in float32", "of at most 330000 ms"}},
            {{short_step, long_time.c_str(), "network.file=n.h5"}, {}},  // the decays are in the file
        });
    }
    expect({{{"network.dt=0.01", "network.tau_mem=300000", "network.tau_mem_spread=0.5"},
             {"network.tau_mem_spread = 0.5", "of at most 220000 ms"}}});
}

// The config of a run is written as TOML and read back.
TEST(ConfigChecks, TextsAreUtf8) {
    for (const char* good : {"caf\xc3\xa9", "\xe2\x82\xac \xf0\x9f\x98\x80", "a \"quoted\"\n\t\x01\x7f\\ name"}) {
        Config config, back;
        config.run.directory = config.task.images = config.network.file = good;
        EXPECT_NO_THROW(check_config(config)) << good;
        read_config_text(to_toml(config, true), "text", back);
        EXPECT_EQ(back.run.directory, good);
        EXPECT_EQ(back.task.images, good);
        EXPECT_EQ(back.network.file, good);
    }
    // Latin-1; cut off; overlong; a surrogate; beyond U+10FFFF; a single continuation byte.
    for (const char* bad : {"caf\xe9", "\xc3", "\xe2\x82", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                            "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "a\x80"}) {
        Config config;
        config.run.directory = bad;
        EXPECT_HAS(usage_error([&] { check_config(config); }), "run.directory is not UTF-8");
        Config pictures;
        EXPECT_HAS(usage_error([&] { set_key(std::string("task.images=") + bad, pictures); }),
                   "task.images is not UTF-8");
    }
    Config config;
    config.run.directory = "m\xfcller";
    EXPECT_HAS(usage_error([&] { check_config(config); }), "\"m\\xfcller\"");
}

TEST(ConfigChecks, Serving) {
    expect({
        {{"serve.address=0.0.0.0"}, {}},  // the server is off
        {{"serve.port=8080"}, {}},
        {{"serve.port=8080", "serve.address=localhost"}, {}},
        {{"serve.port=8080", "serve.address=127.0.0.5"}, {}},
        {{"serve.port=8080", "serve.address=0.0.0.0"},
         {"serve.address = \"0.0.0.0\" can be reached by others", "serve.token is empty"}},
        {{"serve.port=8080", "serve.address=12.7.0.1"}, {"serve.token is empty"}},
        {{"serve.port=8080", "serve.address=127.example.org"}, {"serve.token is empty"}},
        {{"serve.port=8080", "serve.address=0.0.0.0", "serve.token=longenough"}, {}},
        {{"serve.port=8080", "serve.token=short12"}, {"serve.token is easy to guess"}},
        {{"serve.port=8080", "serve.token=\"with a blank\""}, {"serve.token is easy to guess"}},
    });
}

TEST(ConfigChecks, DelayedBits) {
    expect({
        {{"task.delay=300"}, {"task.delay = 300 ms is 300 steps", "has only 300", "no step has a target"}},
        {{"task.delay=298"}, {}},
        {{"task.duration=10.5"}, {"task.duration = 10.5 ms is not a whole number of steps of network.dt = 1 ms"}},
        {{"task.delay=3.5"}, {"task.delay = 3.5 ms is not a whole number of steps"}},
        {{"network.dt=0.5", "task.delay=3.5", "task.name=delayed_copy"}, {}},
        {{"network.dt=0.1", "task.delay=0.6", "task.duration=0.9"}, {}},
        {{"network.dt=1e-300"}, {"task.duration = 300 ms is more than 2^31 steps"}},
        {{"task.duration=1e-12"}, {"task.duration is shorter than one step"}},
        {{"task.steps_per_bit=301"}, {"task.steps_per_bit = 301 is more than the 300 steps"}},
        {{"task.steps_per_bit=5"}, {}},
        {{"task.steps_per_bit=4"}, {"task.delay = 10 ms is 10 steps, but delayed_xor needs a multiple of 8", "= 16"}},
        {{"task.delay=11"}, {"delayed_xor needs a multiple of 2"}},
        {{"task.delay=0"}, {"delayed_xor needs a multiple of 2", "0 is not allowed"}},
        {{"task.delay=11", "task.name=delayed_copy"}, {}},
        {{"task.delay=0", "task.name=delayed_copy"}, {}},
        {{"task.inputs=2"}, {"task.inputs = 2, but task.coding = \"direct\" has one input"}},
        {{"task.coding=spikes"}, {"task.inputs = 1 is odd"}},
        {{"task.coding=spikes", "task.inputs=6"}, {}},
        {{"task.coding=spikes", "task.inputs=6", "task.rate_silent=0.5"},
         {"task.rate_active and task.rate_silent are both 0.5"}},
    });
}

TEST(ConfigChecks, CueRecallAndImages) {
    expect(
        {
            {{"task.inputs=6"}, {}},
            {{"task.inputs=6", "task.classes=4"}, {"task.inputs = 6 cannot be split into 4 populations"}},
            {{"task.inputs=6", "task.cues=19"}, {}},
            {{"task.inputs=6", "task.cues=20"}, {"task.cues = 20 with task.classes = 2 needs more than 1e6 outputs"}},
            {{"task.inputs=6", "task.cue=0"}, {"task.cue = 0 ms is shorter than one step"}},
            {{"task.inputs=6", "task.answer=0"}, {"task.answer = 0 ms is shorter than one step"}},
            {{"task.inputs=6", "task.delay=0"}, {}},
            {{"task.inputs=6", "task.delay=400", "task.duration=3.5"}, {}},  // the duration is not used
            {{"task.inputs=6", "task.answer=2.5"}, {"task.answer = 2.5 ms is not a whole number of steps"}},
            {{"task.inputs=6", "task.rate_silent=0.5"}, {"task.rate_active and task.rate_silent are both 0.5"}},
        },
        {"task.name=cue_recall"});
    expect(
        {
            {{"task.inputs=7"}, {}},
            {{"task.images="}, {"task.images is empty"}},
            {{"diagnostics.every=1", "diagnostics.warmup=27"}, {}},
            {{"diagnostics.every=1", "diagnostics.warmup=28"}, {"has only 28 steps"}},
            {{"diagnostics.every=1", "diagnostics.warmup=28", "task.order=pixels"}, {}},
            {{"diagnostics.every=1", "diagnostics.warmup=784", "task.order=pixels"}, {"has only 784 steps"}},
        },
        {"task.name=images"});
}

TEST(ConfigChecks, Exponents) {
    expect(
        {
            {{"flossing.exponents=40"}, {}},
            {{"flossing.exponents=41"},
             {"flossing.exponents = 41 is more than the state size D = 40 (2 x network.neurons)"}},
            {{"flossing.exponents=41", "network.file=net.h5"}, {}},
            {{"flossing.exponents=20", "network.tau_syn=0"}, {}},
            {{"flossing.exponents=21", "network.tau_syn=0"},
             {"flossing.exponents = 21", "D = 20 (network.neurons, as"}},
            {{"flossing.exponents=21", "network.tau_syn=0.001"}, {"D = 20"}},  // alpha is 0 in float32
            {{"flossing.exponents=41", "flossing.schedule=[]"}, {}},
            {{"diagnostics.every=5", "diagnostics.exponents=41"}, {"diagnostics.exponents = 41 is more than"}},
            {{"diagnostics.exponents=41"}, {}},
            {{"flossing.warmup=290"}, {}},
            {{"flossing.warmup=290", "flossing.qr_interval=10"}, {}},
            {{"flossing.warmup=290", "flossing.qr_interval=7"}, {"after step 301, but"}},
            {{"flossing.warmup=290", "flossing.qr_interval=11"},
             {"flossing.exponents cannot be measured: with warmup = 290",
              "after step 308, but the sequence has only 300"}},
            {{"flossing.horizon=50", "flossing.warmup=50"}, {"has only 50 steps"}},
            {{"flossing.horizon=50.5"}, {"flossing.horizon = 50.5 ms is not a whole number of steps"}},
            {{"flossing.horizon=301"},
             {"flossing.horizon = 301 ms is 301 steps, but a sequence of the task has only 300"}},
            {{"flossing.horizon=300"}, {}},
            {{"flossing.target=0,0.1"}, {"flossing.target has 2 numbers, but flossing.exponents = 16"}},
            {{"flossing.target="}, {"flossing.target has 0 numbers"}},
            {{"flossing.target=0,0.1", "flossing.exponents=2"}, {}},
        },
        {"flossing.schedule=every", "network.neurons=20"});
}

// An error in a section that is off is a warning, but not if the keys have their defaults.
TEST(ConfigChecks, SectionsThatAreOff) {
    const auto warnings = [](const Settings& settings, std::int64_t known_neurons = 0) {
        Config config;
        for (const char* setting : settings) set_key(setting, config);
        EXPECT_EQ(usage_error([&] { check_config(config); }), "");
        std::string text;
        for (const std::string& warning :
             known_neurons ? config_warnings(config, known_neurons, true) : config_warnings(config))
            text += warning + "\n";
        return text;
    };
    for (const Settings& fine :
         {Settings{},
          {"network.neurons=2"},
          {"task.duration=2", "task.delay=2", "task.name=delayed_copy", "task.steps_per_bit=1", "task.delay=1"},
          {"flossing.exponents=160"},
          {"flossing.before=10"},
          {"flossing.at=0,999"},
          {"flossing.weight=1"},
          {"flossing.schedule=every", "flossing.exponents=159"},
          {"flossing.target=0,0.1", "flossing.exponents=2"},
          {"network.file=net.h5", "flossing.exponents=161"},
          {"diagnostics.exponents=160"},
          {"serve.address=0.0.0.0", "serve.token=longenough"},
          {"flossing.adaptive_lag=10"}})
        EXPECT_EQ(warnings(fine), "") << (fine.empty() ? "" : fine.back());
    const std::vector<Case> cases = {
        {{"network.neurons=32", "flossing.exponents=1000000"},
         {"flossing is off (flossing.schedule is empty), but if it were on: flossing.exponents = 1000000 is more than "
          "the "
          "state size D = 64 (2 x network.neurons)"}},
        {{"flossing.exponents=81", "network.tau_syn=0"}, {"D = 80"}},
        {{"flossing.warmup=300"}, {"flossing is off", "the first QR that counts is after step 301"}},
        {{"flossing.qr_interval=301"}, {"a QR every 301 steps"}},
        {{"flossing.horizon=301"}, {"flossing.horizon = 301 ms is 301 steps, but a sequence of the task has only 300"}},
        {{"flossing.horizon=0.5"}, {"flossing.horizon = 0.5 ms is not a whole number of steps"}},
        {{"flossing.target=0,0.1"}, {"flossing.target has 2 numbers, but flossing.exponents = 16"}},
        {{"flossing.parameters=w_out"}, {"flossing.parameters names w_out"}},
        {{"flossing.at=1000"}, {"flossing.at = 1000 is never reached"}},
        {{"flossing.stop_band=1,0"}, {"flossing.stop_band is not two ascending numbers"}},
        {{"flossing.adaptive_band=0.1"}, {"flossing is off", "flossing.adaptive_band is not two ascending numbers"}},
        {{"flossing.schedule=every", "flossing.adaptive_band=0.1"},
         {"adaptive flossing is off", "adaptive_band is not two"}},
        {{"flossing.adaptive_lag=0.3"}, {"flossing.adaptive_lag = 0.3 ms is not a whole number"}},
        {{"diagnostics.exponents=161"},
         {"diagnostics is off (diagnostics.every = 0), but if it were on: diagnostics.exponents = 161"}},
        {{"diagnostics.warmup=300"}, {"diagnostics is off", "warmup = 300"}},
        {{"serve.address=0.0.0.0"}, {"the live page is off (serve.port = 0)", "can be reached by others"}},
        {{"serve.token=short"}, {"serve.token is easy to guess"}},
        // All of them, not only the first.
        {{"flossing.exponents=161", "flossing.horizon=301", "diagnostics.exponents=162", "serve.address=0.0.0.0"},
         {"flossing.exponents = 161", "flossing.horizon = 301", "diagnostics.exponents = 162", "serve.address"}},
    };
    for (const Case& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(warnings(c.settings), part);
    // Flossing that ends at the first spike.
    const Settings all = {"flossing.schedule=every", "flossing.exponents=160"};
    EXPECT_HAS(warnings(all), "flossing.exponents = 160 covers all directions");
    for (const char* other : {"network.reset=subtract", "flossing.jacobian_reset=ignored", "flossing.exponents=159"})
        EXPECT_EQ(warnings({all[0], all[1], other}), "") << other;
    EXPECT_HAS(warnings({all[0], all[1], "network.reset_delay=0"}), "flossing.exponents = 160 covers all directions");
    EXPECT_EQ(warnings({all[0], "flossing.exponents=80", "network.tau_syn=0", "network.reset_delay=0"}), "");
    // After the file of the network is read.
    EXPECT_HAS(warnings({"network.file=net.h5", "flossing.exponents=161"}, 80),
               "flossing.exponents = 161 is more than");
    EXPECT_EQ(warnings({"network.file=net.h5", "flossing.exponents=161"}, 81), "");
    EXPECT_EQ(warnings({"network.file=net.h5", "network.tau_mem=0", "flossing.parameters=beta"}, 81), "");
}

TEST(ConfigChecks, Schedules) {
    expect({
        {{"flossing.schedule=before"}, {"flossing.schedule has \"before\", but flossing.before is not set"}},
        {{"flossing.schedule=before", "flossing.before=10"}, {}},
        {{"flossing.schedule=every", "flossing.before=10"},
         {"flossing.before is set, but flossing.schedule does not have \"before\""}},
        {{"flossing.before=10"}, {}},  // no flossing at all
        {{"flossing.schedule=at"}, {"flossing.schedule has \"at\", but flossing.at is not set"}},
        {{"flossing.schedule=at", "flossing.at=0,999"}, {}},
        {{"flossing.schedule=at", "flossing.at=0,1000"}, {"flossing.at = 1000 is never reached: train.steps = 1000"}},
        {{"flossing.schedule=at", "flossing.at=50", "flossing.stop_step=50"},
         {"flossing.at = 50 is never reached: flossing.stop_step = 50"}},
        {{"flossing.schedule=every", "flossing.at=3"}, {"flossing.at is set", "does not have \"at\""}},
        {{"flossing.schedule=every", "flossing.weight=0.5"}, {}},
        {{"flossing.schedule=adaptive", "flossing.weight=0.5"},
         {"flossing.weight is set, but flossing.schedule does not have \"every\""}},
        {{"flossing.schedule=adaptive"}, {}},
        {{"flossing.schedule=adaptive", "flossing.adaptive_band=0.1"}, {"flossing.adaptive_band is not two ascending"}},
        {{"flossing.schedule=adaptive", "flossing.adaptive_band=0.1,0.1"}, {"flossing.adaptive_band is not two"}},
        {{"flossing.schedule=every", "flossing.adaptive_band=0.1"}, {}},
        {{"flossing.schedule=adaptive", "flossing.adaptive_lag=20"}, {}},
        {{"flossing.schedule=adaptive", "flossing.adaptive_lag=20.5"},
         {"flossing.adaptive_lag = 20.5 ms is not a whole number"}},
        {{"flossing.schedule=adaptive", "flossing.adaptive_lag=1e-12"},
         {"flossing.adaptive_lag = 1e-12 ms is shorter than one step"}},
        {{"flossing.schedule=adaptive", "flossing.adaptive_quantity=gradient", "flossing.adaptive_lag=20"},
         {"flossing.adaptive_lag needs exponents, but flossing.adaptive_quantity = \"gradient\""}},
        {{"flossing.schedule=adaptive", "flossing.first=20", "flossing.exponents=2"},
         {"flossing.first = 20, but the adaptive schedule measures diagnostics.exponents = 16"}},
        {{"flossing.schedule=adaptive", "flossing.first=16", "flossing.exponents=2"}, {}},
        {{"flossing.schedule=every", "flossing.first=160", "flossing.exponents=2"},
         {"flossing.first - 1 + flossing.exponents = 161 is more than the state size D = 160"}},
        {{"flossing.schedule=every", "flossing.target_from=adaptation"},
         {"flossing.target_from = \"adaptation\", but network.adaptation = \"none\""}},
        {{"flossing.schedule=every", "flossing.stop_band=0.1,-0.1"}, {"flossing.stop_band is not two ascending"}},
        {{"flossing.schedule=every", "flossing.stop_band=-0.1,0.1"}, {}},
        {{"flossing.schedule=every,every"}, {"flossing.schedule names every more than once"}},
        {{"flossing.schedule=every", "flossing.jacobian_reset=ignored", "network.reset=none"}, {}},
        {{"train.schedule=step"}, {"train.schedule = \"step\" needs train.schedule_steps > 0"}},
        {{"train.schedule=step", "train.schedule_steps=10"}, {}},
        {{"train.keep_best=true"}, {"train.keep_best = true, but train.test_every = 0"}},
        {{"train.keep_best=true", "train.test_every=10"}, {}},
        {{"train.rate_bound=1"}, {"train.rate_bound = 1, but train.rate_lower = 0 and train.rate_upper = 1"}},
        {{"train.rate_upper=0.2"}, {"train.rate_bound = 0, but train.rate_lower = 0 and train.rate_upper = 0.2"}},
        {{"train.rate_bound=1", "train.rate_upper=0.2", "train.rate_lower=0.3"}, {"is above train.rate_upper = 0.2"}},
        {{"train.rate_bound=1", "train.rate_upper=0.2", "train.rate_lower=0.1", "train.rate_l1=1"}, {}},
        {{"train.schedule=cosine"}, {}},
        {{"train.optimiser=adamw", "train.learning_rate=0.1", "train.weight_decay=10"}, {}},
        {{"train.optimiser=adamw", "train.learning_rate=0.1", "train.weight_decay=11"},
         {"train.learning_rate = 0.1 times train.weight_decay = 11 is more than 1"}},
        {{"train.learning_rate=0.1", "train.weight_decay=11"}, {}},  // adam has no decay
        {{"flossing.schedule=every", "flossing.optimiser=adamw", "flossing.learning_rate=2", "flossing.weight_decay=1"},
         {"flossing.learning_rate = 2 times flossing.weight_decay = 1 is more than 1"}},
    });
}

TEST(ConfigChecks, Parameters) {
    expect({
        {{"train.parameters="}, {"train.parameters is empty"}},
        {{"train.parameters=", "train.steps=0"}, {}},
        {{"train.parameters=w_in,w_in"}, {"train.parameters names w_in more than once"}},
        {{"train.parameters=alpha,beta"}, {}},
        {{"train.parameters=projection.a-b,w_in"}, {}},
        {{"train.parameters=projection.a,projection.a"}, {"names projection.a more than once"}},
        {{"train.parameters=alpha", "network.tau_syn=0"},
         {"train.parameters names alpha, but network.tau_syn is near 0"}},
        {{"train.parameters=alpha", "network.tau_syn=0", "network.file=net.h5"}, {}},
        {{"train.parameters=initial_current", "network.tau_syn=0"},
         {"names initial_current, but network.tau_syn is near 0"}},
        {{"train.parameters=initial_membrane", "network.tau_syn=0"}, {}},
        {{"train.parameters=beta", "network.tau_mem=0"}, {"names beta, but network.tau_mem is near 0"}},
        {{"train.parameters=kappa"}, {"names kappa, but network.tau_out is near 0"}},
        {{"train.parameters=kappa", "network.tau_out=5"}, {}},
    });
    expect(
        {
            {{"flossing.parameters="}, {"flossing.parameters is empty"}},
            {{"flossing.parameters=w_rec,w_out"},
             {"flossing.parameters names w_out, on which the exponents do not depend"}},
            {{"flossing.parameters=w_rec,w_in,bias"}, {}},
            {{"flossing.parameters=w_rec,w_in", "flossing.through_state=false"},
             {"names w_in", "flossing.through_state = false"}},
            {{"flossing.through_state=false"}, {}},
            {{"flossing.parameters=alpha", "network.tau_syn=0"}, {"flossing.parameters names alpha"}},
        },
        {"flossing.schedule=every"});
}

TEST(ConfigChecks, GridText) {
    expect({
        {{"parallel.grid=2x4"}, {}},
        {{"parallel.grid=auto"}, {}},
        {{"parallel.grid=2*4"}, {"parallel.grid = \"2*4\" is not a process grid", "PxQ"}},
        {{"parallel.grid=0x4"}, {"is not a process grid"}},
        {{"parallel.grid=x4"}, {"is not a process grid"}},
        {{"parallel.grid=2x"}, {"is not a process grid"}},
        {{"parallel.grid=2x4x2"}, {"is not a process grid"}},
    });
}

// Values that the program itself has set in a Config are checked, too.
TEST(ConfigChecks, RangesOfValuesSetInCode) {
    Config config;
    config.train.batch = 0;
    EXPECT_HAS(usage_error([&] { check_config(config); }), "train.batch = 0 is out of range");
}

TEST(ConfigChecks, Grid) {
    Config config;
    config.network.neurons = 5;
    config.train.batch = 3;
    config.flossing.batch = 1;
    const auto error = [&](int p, int q) { return usage_error([&] { check_grid(config, p, q); }); };
    EXPECT_EQ(error(1, 1), "");
    EXPECT_EQ(error(5, 3), "");  // flossing.batch may be smaller than Q
    EXPECT_HAS(error(6, 1), "the grid 6x1 splits network.neurons = 5 over 6 groups");
    EXPECT_HAS(error(1, 4), "the grid 1x4 splits train.batch = 3 sequences over 4 groups");
    config.network.file = "net.h5";  // its size is not known here
    EXPECT_EQ(error(6, 1), "");
}

TEST(ConfigChecks, WholeSteps) {
    EXPECT_EQ(whole_steps(0, 0.5, "x"), 0);
    EXPECT_EQ(whole_steps(0.3, 0.1, "x"), 3);
    EXPECT_EQ(whole_steps(1e6, 0.1, "x"), 10000000);
    EXPECT_HAS(usage_error([] { whole_steps(0.35, 0.1, "task.cue"); }), "task.cue = 0.35 ms is not a whole number");
}

}  // namespace
}  // namespace spikefloss
