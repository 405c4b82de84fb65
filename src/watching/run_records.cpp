// Reads the files of a run directory.
#include "watching/run_records.hpp"

#include "config/schema.hpp"
#include "core/error.hpp"

#include <filesystem>
#include <fstream>
#include <sstream>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;
using Json = RunRecords::Json;

constexpr std::size_t shown_exponents = 8;  // over the course of the run; of the newest spectrum all are shown
constexpr std::size_t log_lines = 12;

// The fields of a line that the page draws.
std::string reduced(const Json& line, std::initializer_list<const char*> fields) {
    Json kept;
    for (const char* field : fields) {
        if (!line.contains(field)) continue;
        const Json& value = line[field];
        if (value.is_array() && value.size() > shown_exponents)
            kept[field] = Json(value.begin(), value.begin() + shown_exponents);
        else
            kept[field] = value;
    }
    return kept.dump();
}

std::string text_of(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
}

// The JSON of a whole small file; null when there is none.
Json json_of(const std::string& path) {
    Json json = Json::parse(text_of(path), nullptr, false);
    return json.is_discarded() ? Json() : json;
}

Json last_lines(const std::string& path) {
    std::vector<std::string> lines;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    const std::size_t first = lines.size() > log_lines ? lines.size() - log_lines : 0;
    return Json(std::vector<std::string>(lines.begin() + static_cast<std::ptrdiff_t>(first), lines.end()));
}

std::string joined(const std::vector<std::string>& texts, std::size_t from) {
    std::string all;
    for (std::size_t i = from; i < texts.size(); ++i) all += (i > from ? "," : "") + texts[i];
    return all;
}

// {"every": 1, "from": 0, "lines": [...], "newest": null or the line after those}
std::string lines_json(const Thinned<std::string>& lines, std::size_t from) {
    from = std::min(from, lines.kept().size());
    return fmt::format(R"({{"every":{},"from":{},"lines":[{}],"newest":{}}})", lines.every(), from,
                       joined(lines.kept(), from),
                       lines.added() == 0 || lines.newest_is_kept() ? "null" : lines.newest());
}

}  // namespace

RunRecords::RunRecords(std::string directory)
    : directory_(std::move(directory)),
      metrics_file_{directory_ + "/metrics.jsonl", 0},
      diagnostics_file_{directory_ + "/diagnostics.jsonl", 0} {}

template <class Function>
void RunRecords::read_lines(Tail& tail, Function&& function) {
    std::ifstream file(tail.path, std::ios::binary);
    file.seekg(tail.offset);
    for (std::string line; std::getline(file, line) && !file.eof();) {  // at its end: a line that is not finished yet
        tail.offset += static_cast<std::int64_t>(line.size()) + 1;
        const Json json = Json::parse(line, nullptr, false);
        if (json.is_object() && json.contains("step")) function(json);
    }
}

// A file that has become shorter is another one: the run began anew, or goes on from an earlier step.
void RunRecords::forget() {
    ++generation_;
    metrics_file_.offset = diagnostics_file_.offset = 0;
    metrics_ = Thinned<std::string>(most_lines);
    diagnostics_ = Thinned<std::string>(most_lines);
    lags_ = Thinned<std::string>(most_lags);
    training_ = flossing_ = diagnosis_ = test_ = Json();
}

void RunRecords::read() {
    for (const Tail* tail : {&metrics_file_, &diagnostics_file_}) {
        std::error_code fault;
        const auto size = fs::file_size(tail->path, fault);
        if (!fault && static_cast<std::int64_t>(size) < tail->offset) forget();
    }
    const std::size_t every = metrics_.every() + diagnostics_.every();
    read_lines(metrics_file_, [&](const Json& line) {
        (line.value("kind", "") == "flossing" ? flossing_ : training_) = line;
        if (line.contains("test_loss")) test_ = line;
        metrics_.add(reduced(
            line, {"step", "floss_step", "kind", "loss", "accuracy", "running_accuracy", "gradient_norm", "floss_loss",
                   "exponents", "rate", "test_loss", "test_accuracy", "seconds", "sequences_per_second"}));
    });
    read_lines(diagnostics_file_, [&](const Json& line) {
        diagnosis_ = line;
        diagnostics_.add(reduced(line, {"step", "floss_step", "exponents", "kaplan_yorke_dimension", "entropy_rate",
                                        "rate", "loss", "accuracy"}));
        lags_.add(
            Json({{"step", line["step"]}, {"norms", line.value("state_gradient_norm_by_lag", Json::array())}}).dump());
    });
    if (metrics_.every() + diagnostics_.every() != every) ++generation_;
}

// {"train": {"steps": ["1000", changed from the default], ...}, ...}
Json RunRecords::settings() const {
    Config config, defaults;
    read_config(directory_ + "/config.toml", config);
    const std::vector<Key> keys = keys_of(config), usual = keys_of(defaults);
    Json json;
    for (std::size_t i = 0; i < keys.size(); ++i)
        json[keys[i].section][keys[i].name] = {value_text(keys[i]), value_text(keys[i]) != value_text(usual[i])};
    return json;
}

std::string RunRecords::json(const Json& status, ReadUpTo from) const {
    Config config;
    read_config(directory_ + "/config.toml", config);
    const bool on = from.generation == generation_;
    Json rest;
    rest["name"] = fs::absolute(directory_).lexically_normal().filename().string();
    rest["steps"] = config.train.steps;
    rest["targets"] = config.flossing.schedule.empty() ? std::vector<double>() : config.flossing.target;
    rest["status"] = status;
    rest["session"] = json_of(directory_ + "/session.json");
    rest["settings"] = settings();
    rest["log"] = last_lines(directory_ + "/log.txt");
    rest["raster"] = json_of(directory_ + "/raster.json");
    rest["spectrum"] = diagnosis_;
    std::string lags = joined(lags_.kept(), 0);
    if (lags_.added() > 0 && !lags_.newest_is_kept()) lags += "," + lags_.newest();
    std::string text = rest.dump(-1, ' ', false, Json::error_handler_t::replace);
    text.pop_back();  // the closing brace
    return text + fmt::format(R"(,"generation":{},"lags":[{}],"metrics":{},"diagnostics":{}}})", generation_, lags,
                              lines_json(metrics_, on ? from.metrics : 0),
                              lines_json(diagnostics_, on ? from.diagnostics : 0));
}

}  // namespace spikefloss
