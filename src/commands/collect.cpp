// `collect`: writes the runs of a sweep as one table, and prints a summary over the seeds of each setting. The results
// of a run come from its outcome.json and metrics.jsonl. Every run has a row, whatever its state.
#include "commands/commands.hpp"
#include "commands/run_state.hpp"
#include "commands/statistics.hpp"
#include "config/sweep.hpp"
#include "core/whole_file.hpp"
#include "io/record.hpp"

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <set>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr double infinite = std::numeric_limits<double>::infinity();

const std::string result_columns =
    ",state,steps,loss,accuracy,test_accuracy,success,steps_to_success,seconds,flossing_seconds";

struct Row {
    SweepPoint point;
    RunStatus status;
    std::int64_t steps = 0;                // training steps done
    std::optional<double> loss, accuracy;  // means over the last reports
    std::optional<double> test_accuracy, seconds, flossing_seconds;
    std::optional<std::int64_t> steps_to_success;  // the first report at the threshold
    bool at_threshold = false;                     // over the last reports
    int damaged_lines = 0;
    std::string missing;  // records that the run has written and that are gone

    // Divergence is a result; a fault of a disk is not.
    bool counts() const { return status.state == RunState::done || status.state == RunState::diverged; }
    bool success() const { return status.state == RunState::done && at_threshold; }
};

std::optional<double> number(const Json& line, const char* field) {
    const auto found = line.find(field);
    return found != line.end() && found->is_number() ? std::optional<double>(*found) : std::nullopt;
}

// Reads metrics.jsonl. Its last line may be incomplete if the run is in progress or was killed.
void read_metrics(const std::string& path, const SweepSuccess& success, Row& row) {
    std::error_code fault;
    if (!fs::is_regular_file(path, fault)) return;
    std::ifstream file(path, std::ios::binary);
    std::deque<std::pair<double, double>> last;  // loss and accuracy of the last reports
    for (std::string text; std::getline(file, text);) {
        if (file.eof()) break;  // no end of line
        const std::optional<Json> record = read_record(text, RecordKind::metrics);
        if (!record) {
            ++row.damaged_lines;
            continue;
        }
        const Json& line = *record;
        row.seconds = number(line, "seconds");
        row.flossing_seconds = number(line, "flossing_seconds");
        if (line["kind"] != "training") continue;
        row.steps = line["step"];
        if (const auto test = number(line, "test_accuracy")) row.test_accuracy = test;
        const auto loss = number(line, "loss"), accuracy = number(line, "accuracy");
        last.emplace_back(loss.value_or(infinite), accuracy.value_or(-infinite));  // null: not finite
        if (static_cast<std::int64_t>(last.size()) > success.reports) last.pop_front();
        double losses = 0.0, accuracies = 0.0;
        for (const auto& [l, a] : last) losses += l, accuracies += a;
        const auto count = static_cast<double>(last.size());
        row.loss = losses / count;
        if (line.contains("accuracy")) row.accuracy = accuracies / count;
        row.at_threshold = row.accuracy && success.accuracy > 0.0 &&
                           static_cast<std::int64_t>(last.size()) == success.reports &&
                           *row.accuracy >= success.accuracy;
        if (row.at_threshold && !row.steps_to_success) row.steps_to_success = row.steps;
    }
}

Row row_of(const Sweep& sweep, const SweepPoint& point, const std::string& directory) {
    Row row;
    row.point = point;
    row.status = status_of(directory, config_of(sweep, point));
    if (row.status.state == RunState::fresh) return row;
    read_metrics(directory + "/metrics.jsonl", sweep.success, row);
    if (row.status.state == RunState::done) {
        const RunOutcome& outcome = *row.status.outcome;
        row.steps = outcome.step;
        row.seconds = outcome.seconds;
        if (outcome.test && !std::isnan(outcome.test->accuracy)) row.test_accuracy = outcome.test->accuracy;
        row.missing = missing_records(directory, outcome);
    }
    return row;
}

// A cell, quoted as in RFC 4180.
std::string csv_cell(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
    return quoted + '"';
}

template <class T>
std::string csv_number(const std::optional<T>& value) {
    return value ? fmt::format("{}", *value) : "";
}

// Whether a file is a table of csv_table, with any axes.
bool is_table(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string line;
    return std::getline(file, line) && line.starts_with("run,") && line.ends_with(result_columns);
}

std::string csv_table(const Sweep& sweep, const std::vector<Row>& rows) {
    std::string text = "run";
    for (const SweepAxis& axis : sweep.axes) text += fmt::format(",{}", csv_cell(axis.name));
    text += result_columns + "\n";
    for (const Row& row : rows) {
        text += csv_cell(row.point.name);
        for (const std::string& value : row.point.values) text += fmt::format(",{}", csv_cell(value));
        const bool judged = sweep.success.accuracy > 0.0 && row.counts();
        text += fmt::format(",{},{},{},{},{},{},{},{},{}\n", name_of(row.status.state), row.steps, csv_number(row.loss),
                            csv_number(row.accuracy), csv_number(row.test_accuracy),
                            judged ? (row.success() ? "1" : "0") : "", csv_number(row.steps_to_success),
                            csv_number(row.seconds), csv_number(row.flossing_seconds));
    }
    return text;
}

// "0.12 [0.10, 0.15]"; a dash in place of a number that no run, or too few runs, reached.
std::string quartile_text(const std::vector<double>& values, const char* format) {
    const auto text = [&](double value) {
        return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : std::string("-");
    };
    const auto [low, median, high] = quartiles(values);
    return values.empty() ? "-" : fmt::format("{} [{}, {}]", text(median), text(low), text(high));
}

// One line of the summary: the runs that differ only in the seed.
std::vector<std::string> summary_line(const Sweep& sweep, const std::vector<const Row*>& rows) {
    std::vector<double> losses, accuracies, steps;
    std::int64_t done = 0, successes = 0;
    for (const Row* row : rows) {
        if (!row->counts()) continue;
        const bool finite = row->status.state == RunState::done;
        done += finite;
        successes += row->success();
        // A run that diverged is worse than all others; a run without success takes longer.
        losses.push_back(finite ? row->loss.value_or(infinite) : infinite);
        accuracies.push_back(finite ? row->accuracy.value_or(-infinite) : -infinite);
        steps.push_back(row->success() ? static_cast<double>(*row->steps_to_success) : infinite);
    }
    std::vector<std::string> cells(rows[0]->point.values.begin(), rows[0]->point.values.end() - 1);
    cells.push_back(fmt::format("{}/{}", done, rows.size()));
    cells.push_back(quartile_text(losses, "{:.4g}"));
    cells.push_back(quartile_text(accuracies, "{:.4f}"));
    if (sweep.success.accuracy == 0.0) return cells;
    const auto judged = static_cast<std::int64_t>(losses.size());
    const Interval interval = exact_interval(successes, judged);
    cells.push_back(
        judged == 0 ? "-" : fmt::format("{}/{} [{:.3f}, {:.3f}]", successes, judged, interval.low, interval.high));
    cells.push_back(quartile_text(steps, "{:.0f}"));
    return cells;
}

void print_summary(const Sweep& sweep, const std::vector<Row>& rows) {
    std::vector<std::vector<std::string>> lines(1);
    for (std::size_t a = 0; a + 1 < sweep.axes.size(); ++a) lines[0].push_back(sweep.axes[a].name);
    for (const char* name : {"done", "loss", "accuracy"}) lines[0].push_back(name);
    if (sweep.success.accuracy > 0.0)
        for (const char* name : {"success", "steps to success"}) lines[0].push_back(name);
    // Settings vary faster than seeds.
    const std::size_t settings = rows.size() / sweep.axes.back().choices.size();
    for (std::size_t s = 0; s < settings; ++s) {
        std::vector<const Row*> same;
        for (std::size_t i = s; i < rows.size(); i += settings) same.push_back(&rows[i]);
        lines.push_back(summary_line(sweep, same));
    }
    std::vector<std::size_t> width(lines[0].size(), 0);
    for (const auto& line : lines)
        for (std::size_t c = 0; c < line.size(); ++c) width[c] = std::max(width[c], line[c].size());
    for (const auto& line : lines) {
        std::string text;
        for (std::size_t c = 0; c < line.size(); ++c) text += fmt::format("{:<{}}  ", line[c], width[c]);
        fmt::print("{}\n", text.substr(0, text.find_last_not_of(' ') + 1));
    }
}

// Lists the runs that are not done, and the runs with a fault.
void print_exceptions(const std::vector<Row>& rows, const std::string& directory) {
    const auto tell = [](const char* state, const std::vector<std::string>& names) {
        if (names.empty()) return;
        fmt::print("{}: {}\n", state, names.size());
        for (const std::string& name : names) fmt::print("  {}\n", name);
    };
    for (const RunState state : {RunState::failed, RunState::diverged, RunState::differs, RunState::running,
                                 RunState::stopped, RunState::fresh}) {
        std::vector<std::string> names;
        for (const Row& row : rows)
            if (row.status.state == state)
                names.push_back(row.point.name + (row.status.reason.empty() ? "" : ": " + row.status.reason));
        tell(name_of(state), names);
    }
    std::vector<std::string> lost, damaged, missing, unrecorded, unknown;
    std::set<std::string> known;
    for (const Row& row : rows) {
        known.insert(row.point.name);
        if (row.counts() && row.steps_to_success && !row.success()) lost.push_back(row.point.name);
        if (row.damaged_lines > 0)
            damaged.push_back(fmt::format("{}: {} lines of metrics.jsonl", row.point.name, row.damaged_lines));
        if (!row.missing.empty()) missing.push_back(row.point.name + ": " + row.missing);
        if (row.status.state == RunState::done && row.steps > 0 && !row.loss) unrecorded.push_back(row.point.name);
    }
    std::error_code fault;
    for (const auto& entry : fs::directory_iterator(directory, fault)) {
        const std::string name = entry.path().filename().string();
        if (fs::exists(entry.path() / "config.toml", fault) && !known.contains(name)) unknown.push_back(name);
    }
    std::sort(unknown.begin(), unknown.end());
    tell("reached the accuracy and lost it again", lost);
    tell("damaged, and left out of the means", damaged);
    tell("some records are missing; the means are over the rest", missing);
    tell("done, but without records (metrics.jsonl)", unrecorded);
    tell("not part of this sweep, and not in the table", unknown);
}

Sweep recorded_sweep(const std::string& directory) {
    const std::string path = directory + "/sweep.json";
    std::ifstream file(path, std::ios::binary);
    require(static_cast<bool>(file), Exit::bad_file, fmt::format("{} holds no sweep: there is no {}", directory, path),
            "name the directory of a sweep with at least one started run, such as runs/NAME after launch/sweep");
    return sweep_from_json({std::istreambuf_iterator<char>(file), {}}, path);
}

}  // namespace

int collect(const ProcessGrid& everyone, const CollectCommand& command) {
    const std::string output = command.output.empty() ? command.directory + "/table.csv" : command.output;
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        const Sweep sweep = recorded_sweep(command.directory);
        require_may_write({"--output", output, "a table of a sweep", {command.directory}, is_table, command.overwrite});
        std::vector<Row> rows;
        for (const SweepPoint& point : points_of(sweep))
            rows.push_back(row_of(sweep, point, command.directory + "/" + point.name));
        write_whole_file(output, csv_table(sweep, rows));

        const auto done =
            std::count_if(rows.begin(), rows.end(), [](const Row& row) { return row.status.state == RunState::done; });
        fmt::print("{}: {} of {} runs are done\n", sweep.name, done, rows.size());
        print_exceptions(rows, command.directory);
        fmt::print("\nmedian [quartiles] over seeds; loss and accuracy: means over the last {} reports\n",
                   sweep.success.reports);
        if (sweep.success.accuracy > 0.0)
            fmt::print("success: an accuracy of at least {} there, with the exact 95 % interval of its probability\n",
                       sweep.success.accuracy);
        print_summary(sweep, rows);
        fmt::print("\n{}\n", output);
    });
    return 0;
}

}  // namespace spikefloss
