// Reads the files of a run directory.
#include "watching/run_records.hpp"

#include "config/schema.hpp"
#include "core/error.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;
using Json = RunRecords::Json;

constexpr std::size_t shown_exponents = 8;  // over the course of the run; of the newest spectrum all are shown
constexpr std::size_t log_lines = 12;
constexpr std::int64_t log_bytes = 1 << 16;

// The fields of a record that the page draws.
std::string reduced(const Json& record, std::initializer_list<const char*> fields) {
    Json kept;
    for (const char* field : fields) {
        if (!record.contains(field)) continue;
        const Json& value = record[field];
        if (value.is_array() && value.size() > shown_exponents)
            kept[field] = Json(value.begin(), value.begin() + shown_exponents);
        else
            kept[field] = value;
    }
    return kept.dump();
}

// The last lines of a text file of any size.
Json last_lines(const std::string& path) {
    std::error_code fault;
    if (!fs::is_regular_file(path, fault)) return Json::array();
    std::ifstream file(path, std::ios::binary);
    file.seekg(0, std::ios::end);
    const std::int64_t size = file.tellg(), from = std::max<std::int64_t>(0, size - log_bytes);
    file.seekg(from);
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(line);
    if (from > 0 && !lines.empty()) lines.erase(lines.begin());  // its beginning may be missing
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
      metrics_file_{directory_ + "/metrics.jsonl", RecordKind::metrics},
      diagnostics_file_{directory_ + "/diagnostics.jsonl", RecordKind::diagnostics},
      session_file_{directory_ + "/session.json", read_session, {}},
      raster_file_{directory_ + "/raster.json", read_raster, {}},
      confusion_file_{directory_ + "/confusion.json", read_confusion, {}} {}

template <class Function>
void RunRecords::read_lines(Tail& tail, Function&& function) {
    std::error_code fault;
    if (!fs::is_regular_file(tail.path, fault)) return;  // a FIFO without a writer would block
    std::ifstream file(tail.path, std::ios::binary);
    file.seekg(tail.offset);
    for (std::string line; std::getline(file, line) && !file.eof();) {  // at the end: an incomplete line
        tail.offset += static_cast<std::int64_t>(line.size()) + 1;
        if (const std::optional<Json> record = read_record(line, tail.kind))
            function(*record);
        else
            ++tail.damaged;
    }
}

void RunRecords::read_whole(Whole& whole) {
    std::error_code fault;
    if (!fs::is_regular_file(whole.path, fault)) {
        whole.json = "null", whole.seen = {};
        whole.damaged = fs::exists(whole.path, fault);
        return;
    }
    const auto now = std::pair(fs::file_size(whole.path, fault), fs::last_write_time(whole.path, fault));
    if (now == whole.seen) return;
    std::ostringstream text;
    text << std::ifstream(whole.path, std::ios::binary).rdbuf();
    const std::optional<Json> json = whole.reader(text.str());
    whole.json = json ? json->dump() : "null";
    whole.damaged = !json;
    whole.seen = now;
}

std::string RunRecords::damage() const {
    std::vector<std::string> parts;
    for (const auto& [tail, name] :
         {std::pair(&metrics_file_, "metrics.jsonl"), std::pair(&diagnostics_file_, "diagnostics.jsonl")})
        if (tail->damaged > 0)
            parts.push_back(fmt::format("{} line{} of {}", tail->damaged, tail->damaged == 1 ? "" : "s", name));
    if (raster_file_.damaged) parts.push_back("raster.json");
    if (confusion_file_.damaged) parts.push_back("confusion.json");
    if (session_file_.damaged) parts.push_back("session.json");
    return parts.empty() ? "" : fmt::format("damaged and left out: {}", fmt::join(parts, ", "));
}

// A file that has become shorter is a new one: the run was started again, or continues from an earlier step.
void RunRecords::forget() {
    ++generation_;
    metrics_file_.offset = diagnostics_file_.offset = 0;
    metrics_file_.damaged = diagnostics_file_.damaged = 0;
    metrics_ = Thinned<std::string>(most_lines);
    diagnostics_ = Thinned<std::string>(most_lines);
    lags_ = Thinned<std::string>(most_lags);
    training_ = flossing_ = diagnosis_ = test_ = validation_ = Json();
}

void RunRecords::read() {
    for (const Tail* tail : {&metrics_file_, &diagnostics_file_}) {
        std::error_code fault;
        const auto size = fs::file_size(tail->path, fault);
        if (!fault && static_cast<std::int64_t>(size) < tail->offset) forget();
    }
    const std::size_t every = metrics_.every() + diagnostics_.every();
    read_lines(metrics_file_, [&](const Json& line) {
        (line["kind"] == "flossing" ? flossing_ : training_) = line;
        if (line.contains("test_loss")) test_ = line;
        if (line.contains("validation_loss")) validation_ = line;
        metrics_.add(
            reduced(line, {"step", "floss_step", "kind", "loss", "accuracy", "running_accuracy", "gradient_norm",
                           "floss_loss", "exponents", "rate", "validation_loss", "validation_accuracy", "best_step",
                           "test_loss", "test_accuracy", "seconds", "sequences_per_second"}));
    });
    read_lines(diagnostics_file_, [&](const Json& line) {
        diagnosis_ = line;
        diagnostics_.add(reduced(line, {"step", "floss_step", "exponents", "kaplan_yorke_dimension", "entropy_rate",
                                        "rate", "rate_by_population", "zero_share_by_projection", "loss", "accuracy"}));
        lags_.add(
            Json({{"step", line["step"]}, {"norms", line.value("state_gradient_norm_by_lag", Json::array())}}).dump());
    });
    if (metrics_.every() + diagnostics_.every() != every) ++generation_;
    read_whole(session_file_);
    read_whole(raster_file_);
    read_whole(confusion_file_);
}

namespace {

// "name":...,"steps":...,"targets":...,"settings":{"train": {"steps": ["1000", changed from the default], ...}, ...}
std::string settings_of(const std::string& directory) {
    Config config, defaults;
    read_config(directory + "/config.toml", config);
    defaults.populations = config.populations;  // so that the keys of both are at the same places
    defaults.projections = config.projections;
    const std::vector<Key> keys = keys_of(config), usual = keys_of(defaults);
    fs::path place = fs::absolute(directory).lexically_normal();
    if (!place.has_filename()) place = place.parent_path();  // runs/x/, and . inside the directory
    Json json;
    json["name"] = place.filename().string();
    json["steps"] = config.train.steps;
    json["targets"] = config.flossing.schedule.empty() ? std::vector<double>() : config.flossing.target;
    for (std::size_t i = 0; i < keys.size(); ++i)
        json["settings"][keys[i].section][keys[i].name] = {
            value_text(keys[i]), keys[i].given ? keys[i].is_given() : value_text(keys[i]) != value_text(usual[i])};
    const std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
    return text.substr(1, text.size() - 2);
}

}  // namespace

std::string RunRecords::json(const Json& status, ReadUpTo from) {
    if (settings_.empty()) settings_ = settings_of(directory_);
    const bool on = from.generation == generation_;
    const std::string log = last_lines(directory_ + "/log.txt").dump(-1, ' ', false, Json::error_handler_t::replace);
    std::string lags = joined(lags_.kept(), 0);
    if (lags_.added() > 0 && !lags_.newest_is_kept()) lags += "," + lags_.newest();
    return fmt::format(R"({{{},"status":{},"damage":{},"session":{},"log":{},"raster":{},"confusion":{},"spectrum":{})",
                       settings_, status.dump(), Json(damage()).dump(), session_file_.json, log, raster_file_.json,
                       confusion_file_.json, diagnosis_.dump()) +
           fmt::format(R"(,"generation":{},"lags":[{}],"metrics":{},"diagnostics":{}}})", generation_, lags,
                       lines_json(metrics_, on ? from.metrics : 0),
                       lines_json(diagnostics_, on ? from.diagnostics : 0));
}

}  // namespace spikefloss
