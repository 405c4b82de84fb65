#include "commands/run_state.hpp"

#include "commands/directory_lock.hpp"
#include "commands/options.hpp"
#include "commands/run_directory.hpp"
#include "core/error.hpp"
#include "core/whole_file.hpp"
#include "io/metrics.hpp"
#include "sequences/open_task.hpp"

#include <nlohmann/json.hpp>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

namespace spikefloss {
namespace {

using Json = nlohmann::ordered_json;

std::string outcome_path(const std::string& directory) { return directory + "/outcome.json"; }

// A run stays the same if its data have moved: sets the place in `before` to the new one if the same data are there.
// Each place is read once for all runs.
void take_same_data(const std::string& directory, const Config& config, Config& before) {
    static std::map<std::pair<std::string, std::string>, std::string> digests;  // by key and place
    const auto take = [&](const char* key, const std::string& now, std::string& then, const std::string& digest,
                          auto read) {
        if (now == then || digest.empty()) return;
        const auto [known, added] = digests.try_emplace({key, now});
        try {
            if (added) known->second = read();
        } catch (const Error&) {  // unreadable: the places differ
        }
        if (known->second == digest) then = now;
    };
    const CheckpointOrigin origin = origin_in(directory);
    const auto digest = [&] { return open_task(task_settings(config))->data_digest(); };
    take("task.images", config.task.images, before.task.images, origin.data, digest);
    // The digest is that of all three files.
    const auto files = [](const Config& c) {
        return fmt::format("{}\n{}\n{}", c.task.file, c.task.validation_file, c.task.test_file);
    };
    std::string then = files(before);
    take("task.file", files(config), then, origin.data, digest);
    if (then == files(config)) {
        before.task.file = config.task.file;
        before.task.validation_file = config.task.validation_file;
        before.task.test_file = config.task.test_file;
    }
    const auto files_of_weights = weight_files(config);
    for (std::size_t at = 0; at < files_of_weights.size(); ++at) {
        const auto& [key, path] = files_of_weights[at];
        for (const Key& old : keys_of(before))
            if (std::string* const* place = std::get_if<std::string*>(&old.value); place && old.path() == key)
                take(key.c_str(), path, **place, digest_of_file(origin.network, at),
                     [&file = path] { return weights_digest(file); });
    }
}

// The problem, without the suggestion.
std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

void write_outcome(const std::string& directory, const RunOutcome& outcome) {
    Json json;
    json["exit_code"] = outcome.exit_code;
    if (outcome.exit_code != 0) {
        json["message"] = outcome.message;
    } else {
        json["step"] = outcome.step;
        json["floss_step"] = outcome.floss_step;
        json["seconds"] = outcome.seconds;
        if (outcome.test) {
            json["test_loss"] = outcome.test->loss;
            if (!std::isnan(outcome.test->accuracy)) json["test_accuracy"] = outcome.test->accuracy;
            if (!std::isnan(outcome.test->r2)) json["test_r2"] = outcome.test->r2;
        }
        if (outcome.validation) {
            json["validation_loss"] = outcome.validation->loss;
            if (!std::isnan(outcome.validation->accuracy)) json["validation_accuracy"] = outcome.validation->accuracy;
        }
        if (outcome.best_step >= 0) json["best_step"] = outcome.best_step;
        if (outcome.metrics) json["metrics_records"] = *outcome.metrics;
        if (outcome.diagnostics) json["diagnostics_records"] = *outcome.diagnostics;
        json["train.steps"] = outcome.steps;
        json["train.stop_accuracy"] = outcome.stop_accuracy;
    }
    write_whole_file(outcome_path(directory), json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void record_failure(const std::string& directory, const std::exception& fault) noexcept {
    try {
        RunOutcome outcome;
        const auto* error = dynamic_cast<const Error*>(&fault);
        const bool no_memory = dynamic_cast<const std::bad_alloc*>(&fault) != nullptr;
        outcome.exit_code = static_cast<int>(error       ? error->code()
                                             : no_memory ? out_of_memory().code()
                                                         : Exit::internal);
        outcome.message = first_line(no_memory ? out_of_memory().what() : fault.what());
        if (outcome.exit_code != static_cast<int>(Exit::lost)) write_outcome(directory, outcome);
    } catch (const std::exception&) {
    }
}

std::optional<RunOutcome> read_outcome(const std::string& directory) {
    std::ifstream file(outcome_path(directory));
    const Json json = Json::parse(file, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    try {
        RunOutcome outcome;
        outcome.exit_code = json.at("exit_code");
        if (outcome.exit_code != 0) {
            outcome.message = json.at("message");
            return outcome;
        }
        outcome.step = json.at("step");
        outcome.floss_step = json.at("floss_step");
        outcome.seconds = json.at("seconds");
        outcome.steps = json.at("train.steps");
        outcome.stop_accuracy = json.at("train.stop_accuracy");
        if (json.contains("metrics_records")) outcome.metrics = json["metrics_records"].get<std::int64_t>();
        if (json.contains("diagnostics_records")) outcome.diagnostics = json["diagnostics_records"].get<std::int64_t>();
        // A loss that is not finite is null.
        if (json.contains("test_loss") && json["test_loss"].is_number())
            outcome.test = Outcome{json["test_loss"], json.value("test_accuracy", std::nan(""))};
        return outcome;
    } catch (const std::exception&) {
        return std::nullopt;
    }
}

std::string missing_records(const std::string& directory, const RunOutcome& outcome) {
    std::string text;
    const auto look = [&](const std::string& path, RecordKind kind, const std::optional<std::int64_t>& expected) {
        if (!expected) return;
        const std::string missing =
            missing_text(path, find_records(path, kind, {outcome.step, outcome.floss_step}), *expected);
        if (!missing.empty()) text += (text.empty() ? "" : "; ") + missing;
    };
    look(directory + "/metrics.jsonl", RecordKind::metrics, outcome.metrics);
    look(directory + "/diagnostics.jsonl", RecordKind::diagnostics, outcome.diagnostics);
    return text;
}

const char* name_of(RunState state) {
    switch (state) {
        case RunState::fresh: return "new";
        case RunState::running: return "running";
        case RunState::stopped: return "stopped";
        case RunState::done: return "done";
        case RunState::failed: return "failed";
        case RunState::diverged: return "diverged";
        default: return "differs";
    }
}

RunStatus status_of(const std::string& directory, const Config& config) {
    RunStatus status;
    std::error_code fault;
    const std::string saved = directory + "/config.toml";
    if (!std::filesystem::exists(saved, fault)) return status;
    Config before;
    try {
        read_config(saved, before);
    } catch (const Error& error) {
        return {RunState::differs, first_line(error.what()), std::nullopt};
    }
    take_same_data(directory, config, before);
    if (const std::string changed = result_differences(config, before); !changed.empty())
        return {RunState::differs, changed, std::nullopt};
    if (const std::string holder = holder_of(directory); !holder.empty())
        return {RunState::running, holder, std::nullopt};
    status.state = RunState::stopped;
    status.outcome = read_outcome(directory);
    if (!status.outcome) return status;
    const RunOutcome& outcome = *status.outcome;
    if (outcome.exit_code != 0) {
        status.state = outcome.exit_code == static_cast<int>(Exit::numerics) ? RunState::diverged : RunState::failed;
        status.reason = fmt::format("exit code {}: {}", outcome.exit_code, outcome.message);
    } else if (outcome.steps == config.train.steps && outcome.stop_accuracy == config.train.stop_accuracy) {
        status.state = RunState::done;
    }
    return status;
}

}  // namespace spikefloss
