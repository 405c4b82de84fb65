// Writes, finds and reads checkpoints.
#include "io/checkpoint.hpp"

#include "core/error.hpp"
#include "io/file_probe.hpp"
#include "io/hdf5_checksum.hpp"
#include "io/network_file.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <functional>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;

constexpr const char* checkpoint_format = "spikefloss-checkpoint";
constexpr std::int64_t checkpoint_version = 1;
const std::string newest = "checkpoint_", best = "best_", suffix = ".h5";

std::string path_of(const std::string& folder, std::int64_t step, const std::string& prefix = newest) {
    return (fs::path(folder) / fmt::format("{}{:09d}{}", prefix, step, suffix)).string();
}

// Steps of the checkpoints in a folder, newest first.
std::vector<std::int64_t> steps_in(const std::string& folder, const std::string& prefix = newest) {
    std::vector<std::int64_t> steps;
    std::error_code code;
    for (const auto& entry : fs::directory_iterator(folder, code)) {
        const std::string name = entry.path().filename().string();
        if (name.size() <= prefix.size() + suffix.size() || !name.starts_with(prefix) || !name.ends_with(suffix))
            continue;
        const std::string digits = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
        if (digits.size() > 18 ||
            !std::all_of(digits.begin(), digits.end(), [](unsigned char c) { return std::isdigit(c); }))
            continue;
        const std::int64_t step = std::stoll(digits);
        if (path_of(folder, step, prefix) == (fs::path(folder) / name).string()) steps.push_back(step);
    }
    std::sort(steps.begin(), steps.end(), std::greater<>());
    return steps;
}

// Checkpoints of later steps stay: they can only be damaged ones, which a resumed run has skipped.
void remove_old(const std::string& folder, std::int64_t step, int keep) {
    std::error_code code;  // a file that cannot be removed does not stop training
    int kept = 0;
    for (std::int64_t other : steps_in(folder))
        if (other <= step && kept++ >= std::max(keep, 1)) fs::remove(path_of(folder, other), code);
}

void remove_best_except(const std::string& folder, std::initializer_list<std::int64_t> kept) {
    std::error_code code;
    for (std::int64_t step : steps_in(folder, best))
        if (std::find(kept.begin(), kept.end(), step) == kept.end()) fs::remove(path_of(folder, step, best), code);
}

// Names each number of Progress once, for writing and for reading. The structured binding stops compiling when
// Progress grows, so that no new number is forgotten here.
template <class State, class Visit>
void visit_progress(State& progress, const Visit& visit) {
    auto& [step, floss_steps, floss_pending, adaptive_pending, adaptive_loss, flossing_over, accuracy, loss, seconds,
           flossing_seconds, best_step, best_accuracy, best_loss] = progress;
    visit("step", step);
    visit("floss_steps", floss_steps);
    visit("floss_pending", floss_pending);
    visit("adaptive_pending", adaptive_pending);
    visit("adaptive_loss", adaptive_loss);
    visit("flossing_over", flossing_over);
    visit("running_accuracy", accuracy);
    visit("running_loss", loss);
    visit("seconds", seconds);
    visit("flossing_seconds", flossing_seconds);
    visit("best_step", best_step);
    visit("best_accuracy", best_accuracy);
    visit("best_loss", best_loss);
}

void write_optimiser(OutputFile& file, const ProcessGrid& grid, const std::string& group, const ParameterLayout& layout,
                     const OptimiserState& state) {
    file.attribute(group, "updates", state.updates);
    if (!state.first.empty()) write_parameters(file, grid, group + "/first", layout, state.first);
    if (!state.second.empty()) write_parameters(file, grid, group + "/second", layout, state.second);
}

OptimiserState read_optimiser(const InputFile& file, const std::string& group, const ParameterLayout& layout) {
    OptimiserState state;
    state.updates = file.integer_attribute(group, "updates");
    if (file.has(group + "/first")) state.first = read_parameters(file, group + "/first", layout);
    if (file.has(group + "/second")) state.second = read_parameters(file, group + "/second", layout);
    return state;
}

Progress progress_in(const InputFile& file) {
    Progress progress;
    visit_progress(progress, [&](const char* name, auto& value) {
        using Value = std::remove_reference_t<decltype(value)>;
        // Older checkpoints lack these numbers. All others are required.
        const std::string_view text = name;
        const bool newer = text == "flossing_seconds" || text == "adaptive_loss" || text.starts_with("best_");
        if (newer && !file.has_attribute("/progress", name)) return;
        if constexpr (std::is_same_v<Value, double>)
            value = file.number_attribute("/progress", name);
        else
            value = static_cast<Value>(file.integer_attribute("/progress", name));
    });
    return progress;
}

InputFile open_checkpoint(const std::string& path) {
    InputFile file(path);
    if (!file.has_attribute("/", "format") || file.string_attribute("/", "format") != checkpoint_format)
        file.fail("this is not a checkpoint of spikefloss", "name a checkpoint_*.h5 file of a run directory");
    const std::int64_t version = file.integer_attribute("/", "version");
    if (version != checkpoint_version)
        file.fail(fmt::format("this checkpoint has version {} of its format; this program reads version {}", version,
                              checkpoint_version),
                  "use the spikefloss that wrote it");
    return file;
}

void write_state(const ProcessGrid& grid, const std::string& folder, const std::string& prefix,
                 const TrainingState& state, const CheckpointOrigin& origin) {
    grid.agree([&] {
        if (grid.rank() == 0) make_folder(folder);
    });
    OutputFile file(grid, path_of(folder, state.progress.step, prefix));
    file.attribute("/", "format", checkpoint_format);
    file.attribute("/", "version", checkpoint_version);
    file.attribute("/", "config", origin.config);
    file.attribute("/", "build", origin.build);
    file.attribute("/", "run", origin.run);
    file.attribute("/", "data", origin.data);
    file.attribute("/", "network", origin.network);
    if (origin.metrics) file.attribute("/records", "metrics", *origin.metrics);
    if (origin.diagnostics) file.attribute("/records", "diagnostics", *origin.diagnostics);
    visit_progress(state.progress, [&](const char* name, auto value) {
        if (state.progress.best_step < 0 && std::string_view(name).starts_with("best_")) return;
        if constexpr (std::is_same_v<decltype(value), double>)
            file.attribute("/progress", name, value);
        else
            file.attribute("/progress", name, static_cast<std::int64_t>(value));
    });
    write_network(file, grid, state.network);
    write_optimiser(file, grid, "/optimiser/task", state.network.layout, state.task);
    write_optimiser(file, grid, "/optimiser/floss", state.network.layout, state.floss);
    file.finish();
}

}  // namespace

std::string best_checkpoint(const std::string& folder, std::int64_t step) { return path_of(folder, step, best); }

std::string checkpoint_fault(const std::string& path, const ProcessGrid& grid) {
    std::string fault = seal_fault(path, grid);
    if (fault.empty()) fault = first_text(grid.rank() == 0 ? probe_fault(path) : "", grid);
    return fault.empty() ? checksum_fault(path, grid) : fault;
}

void write_checkpoint(const ProcessGrid& grid, const std::string& folder, const TrainingState& state,
                      const CheckpointOrigin& origin, int keep) {
    write_state(grid, folder, newest, state, origin);
    if (grid.rank() != 0) return;
    remove_old(folder, state.progress.step, keep);
    remove_best_except(folder, {state.progress.best_step});
}

void write_best_checkpoint(const ProcessGrid& grid, const std::string& folder, const TrainingState& state,
                           const CheckpointOrigin& origin, std::int64_t before) {
    write_state(grid, folder, best, state, origin);
    if (grid.rank() == 0) remove_best_except(folder, {state.progress.step, before});
}

std::optional<CheckpointInfo> newest_checkpoint(const ProcessGrid& grid, const std::string& folder,
                                                std::vector<std::string>& rejected) {
    // Rank 0 lists the folder, so that all ranks try the same files.
    std::vector<std::int64_t> steps;
    if (grid.rank() == 0) steps = steps_in(folder);
    std::int64_t count = static_cast<std::int64_t>(steps.size());
    grid.control().broadcast(&count, sizeof count, 0);
    steps.resize(static_cast<std::size_t>(count));
    grid.control().broadcast(steps.data(), count * static_cast<Index>(sizeof(std::int64_t)), 0);
    for (std::int64_t step : steps) {
        const CheckpointInfo info{path_of(folder, step), step};
        const std::string fault = checkpoint_fault(info.path, grid);
        if (fault.empty()) return info;
        rejected.push_back(fault);
    }
    return std::nullopt;
}

void require_whole_checkpoint(const std::string& path, const ProcessGrid& grid) {
    const std::string fault = checkpoint_fault(path, grid);
    grid.agree([&] {
        require(fault.empty(), Exit::bad_file, fault,
                "name a checkpoint_*.h5 file of spikefloss, or a run directory to use its newest whole one");
    });
}

TrainingState read_checkpoint(const std::string& path, const ProcessGrid& grid) {
    TrainingState state;
    grid.agree([&] {
        const InputFile file = open_checkpoint(path);
        state.network = read_network(path, grid.shape().neuron_shards, grid.neuron_shard());
        state.task = read_optimiser(file, "/optimiser/task", state.network.layout);
        state.floss = read_optimiser(file, "/optimiser/floss", state.network.layout);
        state.progress = progress_in(file);
    });
    return state;
}

Progress read_progress(const std::string& path) { return progress_in(open_checkpoint(path)); }

CheckpointOrigin read_checkpoint_origin(const std::string& path) {
    const InputFile file = open_checkpoint(path);
    const auto text = [&](const char* name) {
        return file.has_attribute("/", name) ? file.string_attribute("/", name) : "";
    };
    const auto count = [&](const char* name) -> std::optional<std::int64_t> {
        if (!file.has("/records") || !file.has_attribute("/records", name)) return std::nullopt;
        return file.integer_attribute("/records", name);
    };
    return {file.string_attribute("/", "config"),
            file.string_attribute("/", "build"),
            text("run"),
            text("data"),
            text("network"),
            count("metrics"),
            count("diagnostics")};
}

bool holds_checkpoints(const std::string& folder) { return !steps_in(folder).empty(); }

}  // namespace spikefloss
