// Written configs are read back unchanged: TOML, --set in all forms, the example files, docs/config.md.
#include "config/error_text.hpp"
#include "config/schema.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <random>

namespace spikefloss {
namespace {

Config after_set(std::initializer_list<const char*> assignments) {
    Config config;
    for (const char* assignment : assignments) set_key(assignment, config);
    return config;
}

std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

// A value inside the range of the key that is not its default.
struct RandomValue {
    const Key& key;
    std::mt19937_64& random;

    double number() {
        const double low = std::max(key.low, -1e12), high = std::min(key.high, 1e12);
        const double fraction = std::uniform_real_distribution<>(0, 1)(random);
        // Half of the values span many orders of magnitude, where the shortest texts have exponents.
        const double value =
            random() % 2 ? low + fraction * (high - low) : std::pow(10.0, -25 * fraction) * std::min(high, 1.0);
        return std::clamp(value, low, high);
    }
    void operator()(bool* value) { *value = !*value; }
    void operator()(std::int64_t* value) {
        *value = static_cast<std::int64_t>(std::max(key.low, std::floor(number())));
    }
    void operator()(double* value) { *value = number(); }
    void operator()(std::string* value) {
        *value = "a \"quoted\\ name\"\twith # = [x], \n line ends, \x01 and \xc3\xa9";
    }
    template <HasNames Choice>
    void operator()(Choice* value) {
        *value = choices<Choice>[random() % std::size(choices<Choice>)].value;
    }
    void operator()(TrainedName* value) {
        (*this)(&value->parameter);
        if (random() % 2) *value = {.projection = "exc_inh-2"};
    }
    template <class T>
    void operator()(std::vector<T>* values) {
        values->resize(random() % 4);
        for (T& value : *values) (*this)(&value);
    }
};

TEST(ConfigText, DefaultsRoundTrip) {
    for (const bool comments : {false, true}) {
        Config config = after_set({"run.seed=7", "train.steps=3"});
        const std::string text = to_toml(config, comments);
        Config read;
        read_config_text(text, "text", read);
        EXPECT_EQ(to_toml(read, comments), text);
        EXPECT_EQ(read.run.seed, 7);
        EXPECT_EQ(read.train.steps, 3);
    }
}

TEST(ConfigText, RandomValuesRoundTripExactly) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 200; ++round) {
        Config config, read;
        config.populations.resize(static_cast<std::size_t>(round % 3));
        config.projections.resize(static_cast<std::size_t>(round % 4));
        for (const Key& key : keys_of(config)) {
            const bool required = key.name == "name" || key.name == "source" || key.name == "target";
            if (key.given && !required && random() % 2) continue;  // the network's
            key.set_given();
            std::visit(RandomValue{key, random}, key.value);
            if (key.secret) std::get<std::string*>(key.value)->clear();  // never written
        }
        read_config_text(to_toml(config, round % 2 == 0), "text", read);
        const auto written_keys = keys_of(config), read_keys = keys_of(read);
        ASSERT_EQ(written_keys.size(), read_keys.size());
        for (std::size_t n = 0; n < read_keys.size(); ++n) {
            std::visit(
                [&](const auto* written) {
                    const auto* back =
                        std::get<std::remove_const_t<std::remove_pointer_t<decltype(written)>>*>(read_keys[n].value);
                    EXPECT_EQ(*written, *back) << read_keys[n].path() << " = " << value_text(written_keys[n]);
                },
                written_keys[n].value);
        }
    }
}

TEST(ConfigText, DoublesAreShortAndLookLikeFloats) {
    Config config;
    const auto text_of = [&](double value) {
        config.train.learning_rate = value;
        for (const Key& key : keys_of(config)) {
            if (key.path() == "train.learning_rate") return value_text(key);
        }
        return std::string();
    };
    EXPECT_EQ(text_of(1), "1.0");
    EXPECT_EQ(text_of(0.1), "0.1");
    EXPECT_EQ(text_of(-0.0), "-0.0");
    EXPECT_EQ(text_of(1e-8), "1e-08");
    EXPECT_EQ(text_of(0.1 + 0.2), "0.30000000000000004");
}

// A member of Config without a key could never be set, so the values of all keys must cover Config except for padding.
TEST(ConfigText, EveryMemberOfConfigHasAKey) {
    Config config;
    std::vector<std::pair<std::ptrdiff_t, std::ptrdiff_t>> covered;
    const auto* base = reinterpret_cast<const char*>(&config);
    for (const Key& key : keys_of(config)) {
        std::visit(
            [&](const auto* value) {
                const std::ptrdiff_t begin = reinterpret_cast<const char*>(value) - base;
                covered.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(sizeof *value));
            },
            key.value);
        EXPECT_FALSE(key.description.empty()) << key.path();
        EXPECT_EQ(key.description.find('|'), std::string::npos) << key.path() << ": would break its table";
        EXPECT_EQ(key.description.back(), '.') << key.path();
    }
    for (const auto& [begin, size] :
         {std::pair<const void*, std::size_t>(&config.populations, sizeof config.populations),
          {&config.projections, sizeof config.projections}}) {
        const std::ptrdiff_t at = static_cast<const char*>(begin) - base;
        covered.emplace_back(at, at + static_cast<std::ptrdiff_t>(size));
    }
    covered.emplace_back(sizeof config, sizeof config);
    std::sort(covered.begin(), covered.end());
    std::ptrdiff_t end = 0;
    for (const auto& [begin, next_end] : covered) {
        EXPECT_GE(begin, end) << "two keys for one member, which ends at byte " << end;
        EXPECT_LT(begin - end, 8) << "a member at byte " << end << " of Config has no key";
        end = next_end;
    }
}

TEST(ConfigText, DefaultsAreValid) {
    Config config;
    check_config(config);
    for (const Key& key : keys_of(config)) check_value(key, "");
}

TEST(ConfigText, FileSetsWhatItNamesAndNothingElse) {
    Config config, defaults;
    read_config_text(
        "train.batch = 4\n[network]\ntau_mem = 20  # an integer where a float is expected\n[flossing]\n"
        "target = [0, -0.5]\nschedule = [\"before\", 'every']\nthrough_state = false\n",
        "text", config);
    EXPECT_EQ(config.train.batch, 4);
    EXPECT_EQ(config.network.tau_mem, 20.0);
    EXPECT_EQ(config.flossing.target, (std::vector<double>{0, -0.5}));
    EXPECT_EQ(config.flossing.schedule, (std::vector{FlossingTime::before, FlossingTime::every}));
    EXPECT_FALSE(config.flossing.through_state);
    config.train.batch = defaults.train.batch;
    config.network.tau_mem = defaults.network.tau_mem;
    config.flossing.target = defaults.flossing.target;
    config.flossing.schedule = defaults.flossing.schedule;
    config.flossing.through_state = true;
    EXPECT_EQ(to_toml(config, false), to_toml(defaults, false));
}

TEST(ConfigSet, Scalars) {
    const Config config = after_set({"flossing.through_state=false", "train.steps = 1_000", "network.tau_syn=0",
                                     "train.learning_rate=2e-4", "run.seed=0x10"});
    EXPECT_FALSE(config.flossing.through_state);
    EXPECT_EQ(config.train.steps, 1000);
    EXPECT_EQ(config.network.tau_syn, 0.0);
    EXPECT_EQ(config.train.learning_rate, 2e-4);
    EXPECT_EQ(config.run.seed, 16);
}

TEST(ConfigSet, StringsBareAndQuoted) {
    EXPECT_EQ(after_set({"network.reset=none"}).network.reset, Reset::none);
    EXPECT_EQ(after_set({"network.reset = \"none\""}).network.reset, Reset::none);
    EXPECT_EQ(after_set({"network.reset='none'"}).network.reset, Reset::none);
    EXPECT_EQ(after_set({"parallel.grid=2x3"}).parallel.grid, "2x3");
    EXPECT_EQ(after_set({"run.directory=/tmp/a b=c#d"}).run.directory, "/tmp/a b=c#d");
    EXPECT_EQ(after_set({"run.directory=2024"}).run.directory, "2024");
    EXPECT_EQ(after_set({"run.directory=true"}).run.directory, "true");
    EXPECT_EQ(after_set({"run.directory=x", "run.directory="}).run.directory, "");
    EXPECT_EQ(after_set({"run.directory=\"2024\""}).run.directory, "2024");
}

TEST(ConfigSet, Lists) {
    using Times = std::vector<FlossingTime>;
    using Numbers = std::vector<double>;
    for (const char* text : {"flossing.schedule=[\"before\", \"every\"]", "flossing.schedule=before,every",
                             "flossing.schedule=[before, every]", "flossing.schedule=\"before\",\"every\""})
        EXPECT_EQ(after_set({text}).flossing.schedule, (Times{FlossingTime::before, FlossingTime::every})) << text;
    EXPECT_EQ(after_set({"flossing.schedule=at"}).flossing.schedule, Times{FlossingTime::at});
    EXPECT_EQ(after_set({"flossing.schedule=at", "flossing.schedule=[]"}).flossing.schedule, Times{});
    EXPECT_EQ(after_set({"flossing.schedule=at", "flossing.schedule="}).flossing.schedule, Times{});
    EXPECT_EQ(after_set({"flossing.target=-0.05"}).flossing.target, Numbers{-0.05});
    EXPECT_EQ(after_set({"flossing.target=[0, -0.5]"}).flossing.target, (Numbers{0, -0.5}));
    EXPECT_EQ(after_set({"flossing.at=100,200"}).flossing.at, (std::vector<std::int64_t>{100, 200}));
}

TEST(ConfigFiles, AllExamplesParseAndCheck) {
    const std::string folder = SPIKEFLOSS_SOURCE_DIR "/configs";
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".toml") continue;
        const std::string path = entry.path().string();
        names.push_back(entry.path().stem().string());
        EXPECT_EQ(read_text(path).substr(0, 2), "# ") << path << ": the first line says what the file shows";
        EXPECT_EQ(usage_error([&] {
                      Config config;
                      read_config(path, config);
                      check_config(config);
                  }),
                  "");
    }
    for (const char* name : {"tiny", "delayed_xor", "delayed_copy", "cue_recall", "fashion_mnist_rows",
                             "fashion_mnist_pixels", "authors_setting", "delayed_xor_flossed", "cue_recall_4096"})
        EXPECT_EQ(std::count(names.begin(), names.end(), name), 1) << name;
}

TEST(ConfigDocs, ReferenceIsCurrent) {
    const std::string path = SPIKEFLOSS_SOURCE_DIR "/docs/config.md";
    if (std::getenv("SPIKEFLOSS_UPDATE_DOCS")) {
        std::filesystem::create_directories(SPIKEFLOSS_SOURCE_DIR "/docs");
        std::ofstream(path, std::ios::binary) << config_reference();
    }
    EXPECT_TRUE(read_text(path) == config_reference())
        << "docs/config.md is not what src/config/schema.cpp says. To write it anew, in the build folder:\n"
        << "  SPIKEFLOSS_UPDATE_DOCS=1 ctest -R test_config_text";
}

TEST(ConfigDocs, ReferenceNamesEveryKey) {
    Config config;
    const std::string text = config_reference();
    config.populations.emplace_back();
    config.projections.emplace_back();
    for (const Key& key : keys_of(config)) {
        const std::string kind = key.section.substr(0, key.section.find('.'));
        const std::size_t section = text.find("\n## [" + (key.given ? "[" + kind + "]" : kind) + "]\n");
        ASSERT_NE(section, std::string::npos) << key.section;
        EXPECT_NE(text.find("\n| `" + key.name + "` |", section), std::string::npos) << key.path();
    }
    EXPECT_HAS(text, "| `tau_syn_spread` | float | `0.0` | from 0 to below 1 |");
    EXPECT_HAS(text, "| `tau_mem` | float | as in [network] | from 0 to 1e6 |");
    EXPECT_HAS(text, "| `reset` | string | `\"zero\"` | zero, subtract, none |");
    EXPECT_HAS(text, "| `reset_delay` | integer | `1` | from 0 to 1 |");
    EXPECT_HAS(text, "| `dt` | float | `1.0` | from above 0 to 1e6 |");
}

}  // namespace
}  // namespace spikefloss
