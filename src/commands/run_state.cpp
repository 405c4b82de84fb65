#include "commands/run_state.hpp"

#include "commands/directory_lock.hpp"
#include "commands/run_directory.hpp"
#include "core/error.hpp"
#include "core/whole_file.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>

namespace spikefloss {
namespace {

using Json = nlohmann::ordered_json;

std::string outcome_path(const std::string& directory) { return directory + "/outcome.json"; }

// The problem without what to do about it.
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
            json["test_accuracy"] = outcome.test->accuracy;
        }
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
        // A loss that is not finite is null.
        if (json.contains("test_loss") && json["test_loss"].is_number() && json["test_accuracy"].is_number())
            outcome.test = Outcome{json["test_loss"], json["test_accuracy"]};
        return outcome;
    } catch (const std::exception&) {
        return std::nullopt;
    }
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
