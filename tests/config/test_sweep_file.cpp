// Sweep files: their runs, the order, the configs, and the errors of wrong files.
#include "config/error_text.hpp"
#include "config/schema.hpp"
#include "config/sweep.hpp"

#include <filesystem>
#include <fstream>
#include <set>

#include <unistd.h>

namespace spikefloss {
namespace {

// In the folder of a base config with train.steps = 30 and a report every 10 steps.
class SweepFile : public ::testing::Test {
protected:
    SweepFile() {
        std::filesystem::create_directories(folder_ / "sweeps");
        std::ofstream(folder_ / "base.toml") << "[train]\nsteps = 30\nreport_every = 10\n[run]\nseed = 7\n"
                                                "[serve]\ntoken = 'a secret of mine'\n";
    }
    ~SweepFile() override { std::filesystem::remove_all(folder_); }

    Sweep read(const std::string& text) {
        return read_sweep_text("base = '../base.toml'\n" + text, (folder_ / "sweeps/mine.toml").string());
    }
    std::string error(const std::string& text) {
        return usage_error([&] { read(text); });
    }
    std::vector<std::string> names(const std::string& text) {
        std::vector<std::string> found;
        for (const SweepPoint& point : points_of(read(text))) found.push_back(point.name);
        return found;
    }

    const std::filesystem::path folder_ =
        std::filesystem::temp_directory_path() / fmt::format("spikefloss_sweep_{}", ::getpid());
};

using Names = std::vector<std::string>;

// Reading checks every point.
TEST(SweepFiles, AllExamplesAreFine) {
    std::size_t files = 0;
    for (const char* folder : {"sweeps", "experiments"}) {
        for (const auto& entry :
             std::filesystem::directory_iterator(std::string(SPIKEFLOSS_SOURCE_DIR "/configs/") + folder)) {
            const std::string path = entry.path().string();
            EXPECT_EQ(usage_error([&] { read_sweep(path); }), "") << path;
            std::string first;
            std::getline(std::ifstream(path), first);
            EXPECT_TRUE(first.starts_with("# ")) << path << ": the first line says what the file shows";
            ++files;
        }
    }
    EXPECT_GE(files, 7u);
}

constexpr const char* whole = R"(
seeds = {from = 3, to = 4}
success = {accuracy = 0.9, reports = 2}
[set]
train.batch = 8
[variants.method.plain]
[variants.method.flossed]
flossing.schedule = ["before"]
flossing.before = 5
[values]
network.tau_mem = [10, 2.5]
run.sums = ["float64"]
)";

TEST_F(SweepFile, NamesEveryPointSeedsSlowest) {
    EXPECT_EQ(names(whole), (Names{
                                "run.sums=float64,network.tau_mem=10,method=plain,seed=3",
                                "run.sums=float64,network.tau_mem=10,method=flossed,seed=3",
                                "run.sums=float64,network.tau_mem=2.5,method=plain,seed=3",
                                "run.sums=float64,network.tau_mem=2.5,method=flossed,seed=3",
                                "run.sums=float64,network.tau_mem=10,method=plain,seed=4",
                                "run.sums=float64,network.tau_mem=10,method=flossed,seed=4",
                                "run.sums=float64,network.tau_mem=2.5,method=plain,seed=4",
                                "run.sums=float64,network.tau_mem=2.5,method=flossed,seed=4",
                            }));
}

TEST_F(SweepFile, PointsHaveTheConfigOfBaseAndAssignments) {
    const Sweep sweep = read(whole);
    EXPECT_EQ(sweep.name, "mine");
    EXPECT_EQ(sweep.base_path, (folder_ / "base.toml").string());
    EXPECT_EQ(sweep.success.accuracy, 0.9);
    EXPECT_EQ(sweep.success.reports, 2);
    const std::vector<SweepPoint> points = points_of(sweep);
    const Config config = config_of(sweep, points[7]);
    EXPECT_EQ(points[7].values, (Names{"float64", "2.5", "flossed", "4"}));
    EXPECT_EQ(config.run.seed, 4);
    EXPECT_EQ(config.run.sums, Sums::float64);
    EXPECT_EQ(config.network.tau_mem, 2.5);
    EXPECT_EQ(config.train.batch, 8);
    EXPECT_EQ(config.train.steps, 30);
    EXPECT_EQ(config.flossing.schedule, std::vector{FlossingTime::before});
    EXPECT_EQ(config.flossing.before, 5);
    EXPECT_TRUE(config_of(sweep, points[6]).flossing.schedule.empty());
    EXPECT_EQ(config_of(sweep, points[6]).flossing.before, 0);
}

TEST_F(SweepFile, PopulationsAndProjections) {
    std::ofstream(folder_ / "base.toml", std::ios::app)
        << "[[population]]\nname = 'exc'\nneurons = 40\n[[projection]]\nsource = 'input'\ntarget = 'exc'\n";
    const Sweep sweep = read(
        "[values]\npopulation.exc.neurons = [50, 60]\n[set]\nprojection.input_exc.delay = 3\n"
        "[variants.method.slow]\npopulation.exc.tau_mem = 90.0\n");
    const std::vector<SweepPoint> points = points_of(sweep_from_json(sweep_to_json(sweep), "sweep.json"));
    ASSERT_EQ(points.size(), 2u);
    EXPECT_EQ(points[1].name, "population.exc.neurons=60,method=slow,seed=7");
    const Config config = config_of(sweep, points[1]);
    EXPECT_EQ(config.populations[0].neurons, 60);
    EXPECT_EQ(config.populations[0].tau_mem, 90.0);
    EXPECT_EQ(config.projections[0].delay, 3.0);
    EXPECT_HAS(error("[values]\npopulation.ex.neurons = [50]\n"), "there is no population ex");
    EXPECT_HAS(error("[values]\npopulation.neurons = [50]\n"), "population is not followed by the name of one");
    EXPECT_HAS(error("[set]\npopulation = 3\n"), "mine.toml:3: population is not followed by the name");
    EXPECT_HAS(error("[set]\nprojection.input_exc.delay = 0.5\n"), "projection.input_exc.delay = 0.5 ms is shorter");
}

TEST_F(SweepFile, AVariantWinsOverWhatIsSetForAll) {
    const Sweep sweep =
        read("[variants.method.short]\ntrain.steps = 5\n[variants.method.long]\n[set]\ntrain.steps = 50\n");
    const std::vector<SweepPoint> points = points_of(sweep);
    EXPECT_EQ(config_of(sweep, points[0]).train.steps, 5);
    EXPECT_EQ(config_of(sweep, points[1]).train.steps, 50);
}

TEST_F(SweepFile, LeastAndMostOfIt) {
    EXPECT_EQ(names(""), Names{"seed=7"});  // the seed of the base
    EXPECT_EQ(names("seeds = [5]\n"), Names{"seed=5"});
    EXPECT_EQ(names("seeds = {from = 2, to = 2}\n"), Names{"seed=2"});
    // Further seeds do not change the places of the others.
    EXPECT_EQ(
        names("seeds = [9, 1]\n[values]\ntrain.steps = [40, 50]\n"),
        (Names{"train.steps=40,seed=9", "train.steps=50,seed=9", "train.steps=40,seed=1", "train.steps=50,seed=1"}));
    const std::vector<std::string> many = names(
        "seeds = {from = 1, to = 50}\n[variants.a.x]\n[variants.a.y]\n"
        "[variants.b.x]\n[variants.b.y]\n[variants.b.z]\n");
    EXPECT_EQ(many.size(), 300u);
    EXPECT_EQ((std::set<std::string>(many.begin(), many.end())).size(), 300u);
    EXPECT_EQ(many[0], "a=x,b=x,seed=1");
    EXPECT_EQ(many[5], "a=y,b=z,seed=1");
    EXPECT_EQ(many[299], "a=y,b=z,seed=50");
}

TEST_F(SweepFile, NamesAreFoldersWhateverTheValue) {
    EXPECT_EQ(names("[values]\nnetwork.file = ['a b/c,d=e%.h5', 'ä']\n"),
              (Names{"network.file=a%20b%2Fc%2Cd%3De%25.h5,seed=7", "network.file=%C3%A4,seed=7"}));
    EXPECT_EQ(names("[values]\nflossing.target = [[0, -0.5], [1e-20]]\nflossing.exponents = [2]\n"),
              (Names{"flossing.exponents=2,flossing.target=0+-0.5,seed=7",
                     "flossing.exponents=2,flossing.target=1e-20,seed=7"}))
        << "targets fit when there is one for each exponent, or one for all";
    EXPECT_EQ(names("[values]\nflossing.at = [[], [3, 9]]\nflossing.through_state = [true, false]\n"),
              (Names{"flossing.through_state=true,flossing.at=none,seed=7",
                     "flossing.through_state=true,flossing.at=3+9,seed=7",
                     "flossing.through_state=false,flossing.at=none,seed=7",
                     "flossing.through_state=false,flossing.at=3+9,seed=7"}));
    // The order of keys in the file changes neither names nor numbers. The order of values and variants does.
    EXPECT_EQ(names("[values]\ntrain.steps = [40]\nnetwork.neurons = [9]\n"),
              names("[values]\nnetwork.neurons = [9]\ntrain.steps = [40]\n"));
}

TEST_F(SweepFile, RecordReadsBack) {
    const Sweep sweep = read(whole);
    const std::string json = sweep_to_json(sweep);
    EXPECT_EQ(json.find("secret"), std::string::npos);
    const Sweep again = sweep_from_json(json, "sweep.json");
    EXPECT_EQ(sweep_to_json(again), json);
    const std::vector<SweepPoint> points = points_of(sweep), theirs = points_of(again);
    ASSERT_EQ(points.size(), theirs.size());
    for (std::size_t i = 0; i < points.size(); ++i) {
        EXPECT_EQ(points[i].name, theirs[i].name);
        Config mine = config_of(sweep, points[i]);
        mine.serve.token.clear();
        EXPECT_EQ(to_toml(mine, false), to_toml(config_of(again, theirs[i]), false));
    }
    for (const std::string& damaged :
         {json.substr(0, json.size() / 2), std::string("{}"), std::string(), std::string("[1]"),
          std::string(json).replace(json.find("\"seed\""), 6, "\"sead\"")}) {
        try {
            sweep_from_json(damaged, "there/sweep.json");
            ADD_FAILURE() << damaged;
        } catch (const Error& fault) {
            EXPECT_EQ(fault.code(), Exit::bad_file);
            EXPECT_HAS(fault.what(), "there/sweep.json is damaged");
        }
    }
}

TEST_F(SweepFile, ErrorsNameTheLine) {
    const struct {
        const char* text;  // the first line of the text is line 2 of the file
        std::vector<const char*> parts;
    } cases[] = {
        {"seed = 3\n", {"mine.toml:2: unknown key seed", "did you mean seeds?", "base, seeds, success"}},
        {"[variant.a.b]\n", {"mine.toml:2: unknown key variant", "did you mean variants?"}},
        {"[values]\ntask.dealy = [3]\n", {"mine.toml:3: unknown key task.dealy", "did you mean task.delay?"}},
        {"[values]\ntsk.delay = [3]\n", {"mine.toml:3: unknown section [tsk]", "did you mean [task]?"}},
        {"[values]\ndelay = [3]\n", {"mine.toml:3: the key delay is in no section", "did you mean task.delay?"}},
        {"[values]\ntask = [3]\n", {"mine.toml:3: task must be a section"}},
        {"values = 3\n", {"mine.toml:2: values must be a section, not an integer"}},
        {"[values]\ntask.delay = 3\n", {"mine.toml:3: task.delay must be a list of values, not an integer", "[set]"}},
        {"[values]\ntask.delay = []\n", {"mine.toml:3: task.delay must be a list of values, not an empty one"}},
        {"[values]\ntask.delay = [\n2,\n'x']\n", {"mine.toml:5: task.delay must be a float, not a string"}},
        {"[values]\ntask.delay = [2,\n-1]\n", {"mine.toml:4: task.delay = -1.0 is out of range"}},
        {"[values]\nnetwork.reset = ['none', 'soft']\n",
         {"network.reset has no choice \"soft\"", "zero, subtract, none"}},
        {"[values]\nflossing.target = [0.0]\n", {"flossing.target must be a list of floats, not a float"}},
        {"[values]\ntask.delay = [2, 4, 2.0]\n", {"mine.toml:3: task.delay has 2 twice"}},
        {"[values]\nrun.seed = [2]\n", {"mine.toml:3: a sweep cannot set run.seed", "seeds = [1, 2, 3]"}},
        {"[set]\nrun.directory = 'x'\n", {"mine.toml:3: a sweep cannot set run.directory", "--run-dir"}},
        {"[set]\nserve.token = 'xxxxxxxxx'\n", {"mine.toml:3: a sweep cannot set serve.token"}},
        {"[set]\ntask.delay = [3]\n", {"mine.toml:3: task.delay must be a float, not a list"}},
        {"[set]\ntrain.lr = 3\n", {"mine.toml:3: unknown key train.lr", "did you mean train.learning_rate?"}},
        {"[set]\ntask.delay = 4\n[values]\ntask.delay = [2]\n",
         {"mine.toml:5: task.delay is set by [set] and by [values]"}},
        {"[values]\ntask.delay = [2]\n[variants.m.a]\ntask.delay = 4\n", {"by [values] and by [variants.m]"}},
        {"[variants.m.a]\ntask.delay = 2\n[variants.n.b]\ntask.delay = 4\n", {"by [variants.m] and by [variants.n]"}},
        {"[variants.m.a]\ntask.dely = 2\n", {"mine.toml:3: unknown key task.dely", "did you mean task.delay?"}},
        {"[variants.m]\nflossed = 3\n", {"mine.toml:3: variants.m.flossed must be a section, not an integer"}},
        {"[variants]\nm = 3\n",
         {"mine.toml:3: variants.m must be a section, not an integer", "[variants.method.flossed]"}},
        {"[variants.m]\n", {"mine.toml:2: the group m has no variants"}},
        {"[variants.state.a]\n", {"mine.toml:2: a group of variants cannot be named state"}},
        {"[variants.'a b'.a]\n", {"a group of variants cannot be named a b"}},
        {"seeds = 3\n", {"mine.toml:2: seeds must be a list of integers or a range, not an integer"}},
        {"seeds = []\n", {"mine.toml:2: seeds must be a list of integers or a range, not an empty list"}},
        {"seeds = [1, 1.5]\n", {"mine.toml:2: run.seed must be an integer, not a float"}},
        {"seeds = [1, -2]\n", {"mine.toml:2: run.seed = -2 is out of range"}},
        {"seeds = [1, 2, 1]\n", {"mine.toml:2: seed has 1 twice"}},
        {"seeds = {from = 1}\n", {"mine.toml:2: seeds has a range without from and to"}},
        {"seeds = {from = 1, to = 2, step = 1}\n",
         {"mine.toml:2: seeds has a range without from and to, or with more"}},
        {"seeds = {from = 3, to = 2}\n", {"mine.toml:2: the range of seeds from 3 to 2 is empty"}},
        {"seeds = {from = 1, to = 'x'}\n", {"run.seed must be an integer, not a string"}},
        {"seeds = {from = 0, to = 9000000000000000000}\n", {"or has more than 100000"}},
        {"success = 0.9\n", {"mine.toml:2: success must be a section, not a float", "success = {accuracy = 0.95"}},
        {"success = {acuracy = 0.9}\n", {"mine.toml:2: unknown key success.acuracy", "did you mean success.accuracy?"}},
        {"success = {accuracy = 90}\n", {"success.accuracy = 90.0 is out of range", "from above 0 to 1"}},
        {"success = {accuracy = 0.9, reports = 0}\n", {"success.reports = 0 is out of range"}},
        {"success = {accuracy = 0.9, reports = 4}\n",
         {"seed=7: success.reports = 4 is more than the 3 reports of the run"}},
        {"base = 'x'\n", {"mine.toml:2:", "not valid TOML"}},
        // Contradictions are reported with their run.
        {"[values]\ntask.delay = [10, 500]\n",
         {"mine.toml: task.delay=500,seed=7: task.delay = 500 ms is 500 steps, but the sequence has only 300",
          "what to do: make task.duration longer"}},
        {"[values]\ntask.delay = [10, 12]\n[variants.m.a]\n[variants.m.b]\ntask.steps_per_bit = 3\n",
         {"task.delay=10,m=b,seed=7: task.delay = 10 ms is 10 steps, but delayed_xor needs a multiple of 6"}},
    };
    for (const auto& c : cases)
        for (const char* part : c.parts) EXPECT_HAS(error(c.text), part);
}

TEST_F(SweepFile, ReportsAreCountedAsTheyAreMade) {
    const auto fits = [&](const char* set, int reports) {
        return error(fmt::format("success = {{accuracy = 1.0, reports = {}}}\n[set]\n{}\n", reports, set)).empty();
    };
    const struct {
        const char* set;
        int reports;
    } cases[] = {
        {"train.steps = 30", 3},                                                 // 10 20 30
        {"train.steps = 31", 4},                                                 // ... and the last
        {"train.steps = 9", 1},                                                  // 9
        {"train.test_every = 15", 4},                                            // 10 15 20 30
        {"train.steps = 60\ntrain.test_every = 4\ntrain.report_every = 6", 20},  // 10 + 15 - 5
        {"train.steps = 61\ntrain.test_every = 4\ntrain.report_every = 6", 21},
    };
    for (const auto& c : cases) {
        EXPECT_TRUE(fits(c.set, c.reports)) << c.set;
        EXPECT_FALSE(fits(c.set, c.reports + 1)) << c.set;
    }
}

TEST_F(SweepFile, LimitsOfNumberAndLength) {
    EXPECT_HAS(error("seeds = {from = 1, to = 50001}\n[values]\ntask.delay = [10, 12]\n"), "has more than 100000 runs");
    EXPECT_EQ(error("seeds = {from = 1, to = 50000}\n[values]\ntask.delay = [10, 12]\n"), "");
    const std::string file(190, 'x');
    EXPECT_HAS(error("[values]\nnetwork.file = ['" + file + "']\n"), "the name of a run has more than 200 characters");
}

TEST_F(SweepFile, FilesThatCannotBeRead) {
    const auto file_error = [](const std::string& path) { return usage_error([&] { read_sweep(path); }); };
    EXPECT_HAS(file_error((folder_ / "none.toml").string()), "cannot read the sweep file");
    EXPECT_HAS(file_error(folder_.string()), "it is a folder");
    std::ofstream(folder_ / "sweeps/a.toml") << "seeds = [1]\n";
    EXPECT_HAS(file_error((folder_ / "sweeps/a.toml").string()), "a.toml: the key base is missing");
    std::ofstream(folder_ / "sweeps/b.toml") << "\nbase = 3\n";
    EXPECT_HAS(file_error((folder_ / "sweeps/b.toml").string()), "b.toml:2: base must be a string, not an integer");
    std::ofstream(folder_ / "sweeps/c.toml") << "base = 'gone.toml'\n";
    EXPECT_HAS(file_error((folder_ / "sweeps/c.toml").string()), "sweeps/gone.toml: there is no such file");
    // Errors of the base are reported with the name of the base.
    std::ofstream(folder_ / "bad.toml") << "[train]\nstep = 3\n";
    std::ofstream(folder_ / "sweeps/d.toml") << "base = '../bad.toml'\n";
    EXPECT_HAS(file_error((folder_ / "sweeps/d.toml").string()), "bad.toml:2: unknown key train.step");
    std::ofstream(folder_ / "sweeps/e.toml") << fmt::format("base = '{}'\n", (folder_ / "base.toml").string());
    EXPECT_EQ(file_error((folder_ / "sweeps/e.toml").string()), "");
}

}  // namespace
}  // namespace spikefloss
