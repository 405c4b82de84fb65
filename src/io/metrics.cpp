#include "io/metrics.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

namespace spikefloss {
namespace {

using Json = nlohmann::ordered_json;

Json norms_of(const GradientNorms& norms) {
    Json json = Json::object();
    for (Parameter p : norms.present) json[std::string(name_of(p))] = norms.parameter[static_cast<std::size_t>(p)];
    return json;
}

// A loss without right and wrong answers has no accuracy, others have no R^2.
void add_score(Json& json, const char* name, double score) {
    if (!std::isnan(score)) json[name] = score;
}

std::string file_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

std::string stretch_text(const Position& from, const Position& to) {
    if (from.first == to.first) return fmt::format("flossing steps {} and {}", from.second, to.second);
    return fmt::format("steps {} and {}", from.first, to.first);
}

// metrics.jsonl -> metrics.1.jsonl, or the first number that is free. Returns the new name.
std::string keep_aside(const std::string& path) {
    const std::filesystem::path old(path);
    std::filesystem::path aside;
    for (int number = 1; aside.empty() || std::filesystem::exists(aside); ++number)
        aside = old.parent_path() / fmt::format("{}.{}{}", old.stem().string(), number, old.extension().string());
    require(std::rename(path.c_str(), aside.c_str()) == 0, Exit::storage,
            fmt::format("cannot keep {} as {}: {}", path, aside.string(), std::strerror(errno)),
            "choose a run directory that you may write to (--run-dir)");
    return aside.string();
}

}  // namespace

RecordsFound find_records(const std::string& path, RecordKind kind, const Position& until) {
    RecordsFound found;
    Position before{0, 0};
    std::int64_t widest = -1;
    const auto look_at_gap = [&](const Position& at) {
        const std::int64_t width = at.first - before.first + at.second - before.second;
        if (width > widest) widest = width, found.gap_begin = before, found.gap_end = at;
        before = at;
    };
    std::error_code fault;
    if (std::filesystem::is_regular_file(path, fault)) {
        std::ifstream file(path, std::ios::binary);
        for (std::string line; std::getline(file, line);) {
            const auto record = read_record(line, kind);
            if (!record) {
                ++found.damaged;
                continue;
            }
            const Position at((*record)["step"], (*record)["floss_step"]);
            if (at.first > until.first || at.second > until.second) continue;
            look_at_gap(at);
            found.last = at;
            ++found.count;
            found.text += line + "\n";
        }
    }
    look_at_gap(until);
    return found;
}

std::string missing_text(const std::string& path, const RecordsFound& found, std::int64_t expected) {
    if (found.count >= expected) return "";
    return fmt::format("{} of {} records are missing from {}; the widest gap is between {}", expected - found.count,
                       expected, file_name(path), stretch_text(found.gap_begin, found.gap_end));
}

JsonLines::JsonLines(std::string path, RecordKind kind, const std::optional<Position>& resumed,
                     std::optional<std::int64_t> expected)
    : path_(std::move(path)) {
    std::string kept;
    std::error_code fault;
    if (resumed) {
        RecordsFound found = find_records(path_, kind, *resumed);
        if (found.damaged > 0)
            remarks_.push_back(fmt::format("{} line{} of {} {} damaged and left out", found.damaged,
                                           found.damaged == 1 ? "" : "s", file_name(path_),
                                           found.damaged == 1 ? "is" : "are"));
        if (expected && found.count < *expected) remarks_.push_back(missing_text(path_, found, *expected));
        count_ = std::max(found.count, expected.value_or(0));
        last_kept_ = found.last;
        kept = std::move(found.text);
    } else if (std::filesystem::file_size(path_, fault) > 0 && !fault) {
        remarks_.push_back(
            fmt::format("the records of {} are kept as {}", file_name(path_), file_name(keep_aside(path_))));
    }
    write_whole_file(path_, kept);
    size_ = static_cast<std::int64_t>(kept.size());
    file_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    require(file_ >= 0, Exit::storage, fmt::format("cannot write {}: {}", path_, std::strerror(errno)),
            "choose a run directory that you may write to (--run-dir)");
}

JsonLines::~JsonLines() {
    if (file_ >= 0) ::close(file_);
}

void JsonLines::write(const std::string& line) {
    const std::string text = line + "\n";
    for (std::size_t at = 0; at < text.size();) {
        const ssize_t written = ::write(file_, text.data() + at, text.size() - at);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) {
            const int fault = written < 0 ? errno : ENOSPC;
            if (::ftruncate(file_, size_) != 0) errno = fault;  // half a line would count as damaged
            throw Error(Exit::storage, fmt::format("cannot write to {}: {}", path_, std::strerror(fault)),
                        "free space on the disk and continue with --resume");
        }
        at += static_cast<std::size_t>(written);
    }
    size_ += static_cast<std::int64_t>(text.size());
    ++count_;
}

void JsonLines::sync() {
    struct stat mine = {}, named = {};
    const bool there = ::fstat(file_, &mine) == 0 && ::stat(path_.c_str(), &named) == 0 &&
                       mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
    require(there, Exit::storage, fmt::format("{} was removed or replaced while the run wrote to it", path_),
            "do not change the run directory while a run uses it; --resume continues from its last checkpoint, if "
            "there is one");
    require(::fsync(file_) == 0, Exit::storage, fmt::format("cannot write to {}: {}", path_, std::strerror(errno)),
            "free space on the disk and continue with --resume");
}

std::string r2_text(const Outcome& outcome) {
    return std::isnan(outcome.r2) ? "" : fmt::format(", R^2 {:.4f}", outcome.r2);
}

std::string score_text(const char* data, const Outcome& outcome) {
    if (std::isnan(outcome.accuracy)) return fmt::format("{} loss {:.4f}{}", data, outcome.loss, r2_text(outcome));
    return fmt::format("{} accuracy {:.2f} %", data, 100.0 * outcome.accuracy);
}

std::string metrics_line(const MetricsEntry& entry) {
    const StepReport& report = entry.report;
    Json json;
    json["step"] = report.step;
    json["floss_step"] = entry.floss_step;
    json["kind"] = report.flossing ? "flossing" : "training";
    if (!report.flossing) {
        json["loss"] = report.outcome.loss;
        add_score(json, "accuracy", report.outcome.accuracy);
        if (json.contains("accuracy")) json["running_accuracy"] = entry.running_accuracy;
    }
    json["gradient_norm"] = report.norms.global;
    json["gradient_norms"] = norms_of(report.norms);
    if (report.penalty) {
        json["floss_loss"] = report.penalty->loss;
        json["exponents"] = report.penalty->spectrum.exponents;
    }
    json["rate"] = report.rate;
    if (report.rate_penalty) json["rate_penalty"] = *report.rate_penalty;
    if (entry.validation) {
        json["validation_loss"] = entry.validation->loss;
        add_score(json, "validation_accuracy", entry.validation->accuracy);
        add_score(json, "validation_r2", entry.validation->r2);
    }
    if (entry.best_step >= 0) json["best_step"] = entry.best_step;
    if (entry.test) {
        json["test_loss"] = entry.test->loss;
        add_score(json, "test_accuracy", entry.test->accuracy);
        add_score(json, "test_r2", entry.test->r2);
    }
    json["seconds"] = entry.seconds;
    json["flossing_seconds"] = entry.flossing_seconds;
    json["sequences_per_second"] = entry.sequences_per_second;
    json["data_seconds_share"] = entry.data_seconds_share;
    return json.dump();
}

std::string diagnostics_line(std::int64_t step, std::int64_t floss_step, const Diagnosis& diagnosis,
                             const GradientNorms* norms) {
    // By lag before the end of the sequence: lag 0 is the last state.
    std::vector<double> by_lag(diagnosis.state_gradient_norm.rbegin(), diagnosis.state_gradient_norm.rend());
    const KaplanYorke dimension = kaplan_yorke(diagnosis.spectrum);
    Json json;
    json["step"] = step;
    json["floss_step"] = floss_step;
    json["exponents"] = diagnosis.spectrum.exponents;
    json["kaplan_yorke_dimension"] = dimension.dimension;
    json["entropy_rate"] = entropy_rate(diagnosis.spectrum);
    json["state_gradient_norm_by_lag"] = by_lag;
    json["rate"] = diagnosis.rate;
    for (const auto& [field, values] : {std::pair("rate_by_population", &diagnosis.population_rates),
                                        std::pair("zero_share_by_projection", &diagnosis.zero_shares)})
        for (const auto& [name, value] : *values) json[field][name] = value;
    json["loss"] = diagnosis.outcome.loss;
    add_score(json, "accuracy", diagnosis.outcome.accuracy);
    if (norms) json["gradient_norms"] = norms_of(*norms);
    return json.dump();
}

std::vector<GroupScore> group_scores(const Grouping& groups, const Answers& answers) {
    std::map<std::int64_t, GroupScore> scores;
    for (std::size_t i = 0; i < std::min(groups.group.size(), answers.label.size()); ++i) {
        GroupScore& score = scores[groups.group[i]];
        ++score.sequences;
        score.right += answers.named[i] == answers.label[i];
    }
    std::vector<GroupScore> result;
    for (auto& [group, score] : scores) {
        score.group = group;
        if (group >= 0 && group < static_cast<std::int64_t>(groups.names.size()))
            score.name = groups.names[static_cast<std::size_t>(group)];
        score.trained = std::binary_search(groups.trained.begin(), groups.trained.end(), group);
        result.push_back(score);
    }
    return result;
}

std::string confusion_text(std::int64_t step, const char* data, const std::vector<std::string>& names, Index O,
                           const Answers& answers, const Grouping& groups) {
    std::vector<std::vector<std::int64_t>> counts(static_cast<std::size_t>(O),
                                                  std::vector<std::int64_t>(static_cast<std::size_t>(O), 0));
    for (std::size_t i = 0; i < answers.label.size(); ++i)
        ++counts[static_cast<std::size_t>(answers.label[i])][static_cast<std::size_t>(answers.named[i])];
    Json json;
    json["step"] = step;
    json["data"] = data;
    if (names.size() == counts.size()) json["classes"] = names;
    json["counts"] = counts;
    if (!groups.group.empty()) {
        json["group_by"] = groups.name;
        json["groups"] = Json::array();
        for (const GroupScore& score : group_scores(groups, answers)) {
            Json group{{"group", score.group}};
            if (!score.name.empty()) group["name"] = score.name;
            group["trained"] = score.trained;
            group["sequences"] = score.sequences;
            group["right"] = score.right;
            json["groups"].push_back(group);
        }
    }
    return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string raster_text(std::int64_t step, std::int64_t floss_step, const Raster& raster) {
    Json json;
    json["step"] = step;
    json["floss_step"] = floss_step;
    json["neurons"] = raster.neurons;
    json["steps"] = raster.steps;
    for (const Population& population : raster.populations)
        json["populations"].push_back(
            {{"name", population.name}, {"begin", population.begin}, {"size", population.size}});
    json["shown"] = raster.shown;
    json["spikes"] = raster.spikes;
    return json.dump() + "\n";
}

}  // namespace spikefloss
