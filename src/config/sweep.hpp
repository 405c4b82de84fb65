// A sweep: one base config, and the settings that vary, from a TOML file (docs/sweep.md). Every combination is a point:
// the base config with assignments as in --set, and a name made of the varied settings.
#pragma once

#include "config/config.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace spikefloss {

// A setting that varies: a key of the config, a group of variants that set several keys each, or the seed.
struct SweepAxis {
    struct Choice {
        std::string text;                      // "14", "flossed"
        std::vector<std::string> assignments;  // "task.delay=14.0"
    };
    std::string name;  // "task.delay", "method", "seed"
    std::vector<Choice> choices;
};

struct SweepSuccess {
    double accuracy = 0.0;      // mean over the last reports that a run must reach; 0: no such test
    std::int64_t reports = 10;  // of metrics.jsonl, over which loss and accuracy are averaged
};

struct Sweep {
    std::string name;  // of the file, without its ending
    std::string base_path;
    Config base;
    std::vector<std::string> common;  // assignments of every point
    std::vector<SweepAxis> axes;      // keys in the order of docs/config.md, groups by name, the seed
    SweepSuccess success;
};

struct SweepPoint {
    std::string name;                 // "task.delay=14,method=flossed,seed=3": a folder
    std::vector<std::string> values;  // the chosen text of each axis
    std::vector<std::string> assignments;
};

// Columns of a table of runs. No group of variants may have such a name.
inline constexpr std::array<std::string_view, 11> sweep_columns = {"run",
                                                                   "seed",
                                                                   "state",
                                                                   "steps",
                                                                   "loss",
                                                                   "accuracy",
                                                                   "test_accuracy",
                                                                   "success",
                                                                   "steps_to_success",
                                                                   "seconds",
                                                                   "flossing_seconds"};

// Throws Error(Exit::usage) with file and line, as read_config does; also if a point is a contradiction (check_config),
// or has too few reports for the test of success.
Sweep read_sweep(const std::string& path);
Sweep read_sweep_text(const std::string& text, const std::string& path);

// All points. Seeds vary slowest, so a half-finished sweep has every setting, and further seeds do not change the
// places of the others.
std::vector<SweepPoint> points_of(const Sweep& sweep);
Config config_of(const Sweep& sweep, const SweepPoint& point);

// The sweep as JSON and back, for its own directory. Throws Error(Exit::bad_file) for another text; origin: its file.
std::string sweep_to_json(const Sweep& sweep);
Sweep sweep_from_json(const std::string& text, const std::string& origin);

}  // namespace spikefloss
