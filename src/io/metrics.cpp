#include "io/metrics.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <cmath>
#include <cstring>

namespace spikefloss {
namespace {

using Json = nlohmann::ordered_json;

Json norms_of(const GradientNorms& norms) {
    Json json = Json::object();
    for (Parameter p : all_parameters)
        json[std::string(name_of(p))] = norms.parameter[static_cast<std::size_t>(p)];
    return json;
}

// (step, floss_step) of a line; none of a damaged one (a crash while writing).
std::optional<std::pair<std::int64_t, std::int64_t>> position_of(const std::string& line) {
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number()) return std::nullopt;
    return std::pair(json["step"].get<std::int64_t>(), json.value("floss_step", std::int64_t(0)));
}

}  // namespace

JsonLines::JsonLines(std::string path, std::int64_t step, std::int64_t floss_step) : path_(std::move(path)) {
    std::string keep;
    if (std::ifstream before(path_); before)
        for (std::string line; std::getline(before, line);)
            if (const auto at = position_of(line); at && at->first <= step && at->second <= floss_step) {
                keep += line + "\n";
                last_kept_ = *at;
            }
    write_whole_file(path_, keep);
    file_.open(path_, std::ios::app);
    require(static_cast<bool>(file_), Exit::storage, fmt::format("cannot write {}: {}", path_, std::strerror(errno)),
            "choose a run directory that you may write to (--run-dir)");
}

void JsonLines::write(const std::string& line) {
    file_ << line << "\n" << std::flush;
    require(static_cast<bool>(file_), Exit::storage, fmt::format("cannot write to {}: {}", path_, std::strerror(errno)),
            "make room on the disk and go on with --resume");
}

std::string metrics_line(const MetricsEntry& entry) {
    const StepReport& report = entry.report;
    Json json;
    json["step"] = report.step;
    json["floss_step"] = entry.floss_step;
    json["kind"] = report.flossing ? "flossing" : "training";
    if (!report.flossing) {
        json["loss"] = report.outcome.loss;
        json["accuracy"] = report.outcome.accuracy;
        json["running_accuracy"] = entry.running_accuracy;
    }
    json["gradient_norm"] = report.norms.global;
    json["gradient_norms"] = norms_of(report.norms);
    if (report.penalty) {
        json["floss_loss"] = report.penalty->loss;
        json["exponents"] = report.penalty->spectrum.exponents;
    }
    json["rate"] = report.rate;
    if (entry.test) {
        json["test_loss"] = entry.test->loss;
        json["test_accuracy"] = entry.test->accuracy;
    }
    json["seconds"] = entry.seconds;
    json["flossing_seconds"] = entry.flossing_seconds;
    json["sequences_per_second"] = entry.sequences_per_second;
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
    json["loss"] = diagnosis.outcome.loss;
    json["accuracy"] = diagnosis.outcome.accuracy;
    if (norms) json["gradient_norms"] = norms_of(*norms);
    return json.dump();
}

std::string raster_text(std::int64_t step, std::int64_t floss_step, const Raster& raster) {
    Json json;
    json["step"] = step;
    json["floss_step"] = floss_step;
    json["neurons"] = raster.neurons;
    json["steps"] = raster.steps;
    json["shown"] = raster.shown;
    json["spikes"] = raster.spikes;
    return json.dump() + "\n";
}

}  // namespace spikefloss
