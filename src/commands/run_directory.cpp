#include "commands/run_directory.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"
#include "io/build_text.hpp"
#include "io/hdf5_checksum.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <thread>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;

// Keys that limit the size of an update. A run that blew up may need other values to continue. They change the result.
constexpr std::array<std::string_view, 5> step_lengths = {"train.learning_rate", "train.clip", "train.adjoint_cap",
                                                          "flossing.learning_rate", "flossing.clip"};

// Keys for the place of data. The data themselves are compared by their digests.
constexpr std::array<std::string_view, 5> places = {"task.images", "task.file", "task.validation_file",
                                                    "task.test_file", "network.file"};

template <class List>
bool has(const List& list, const std::string& key) {
    return std::find(list.begin(), list.end(), key) != list.end();
}

bool is_place(const std::string& key) {
    return has(places, key) || (key.starts_with("projection.") && key.ends_with(".file"));
}

// A text from `format` (key, now, before) for every key that differs and that `asked` accepts.
template <class Asked>
std::string differences(Config now, Config before, const char* format, Asked&& asked) {
    std::string text;
    const std::vector<Key> mine = keys_of(now), theirs = keys_of(before);
    // The value of the key in the other config, which may have no such population or projection.
    const auto value_in = [](const std::vector<Key>& keys, const std::string& path) -> std::string {
        for (const Key& key : keys)
            if (key.path() == path) return value_text(key);
        return "nothing";
    };
    const auto tell = [&](const std::string& key, const std::string& a, const std::string& b) {
        if (a != b && asked(key)) text += fmt::format(fmt::runtime(format), key, a, b);
    };
    for (const Key& key : mine) tell(key.path(), value_text(key), value_in(theirs, key.path()));
    for (const Key& key : theirs)
        if (value_in(mine, key.path()) == "nothing") tell(key.path(), "nothing", value_text(key));
    return text;
}

// A new run would mix its files with those of another run, or overwrite them.
void require_no_run(const std::string& directory) {
    std::error_code fault;
    const fs::path folder(directory);
    require(!fs::exists(folder / "config.toml", fault), Exit::usage, fmt::format("{} already holds a run", directory),
            "continue it with --resume, or choose another directory with --run-dir");
    require(!holds_checkpoints(directory), Exit::usage,
            fmt::format("{} holds checkpoints, but no config.toml", directory),
            "choose another directory with --run-dir; --resume continues from the newest of them");
    for (const char* name : {"metrics.jsonl", "diagnostics.jsonl"}) {
        const auto size = fs::file_size(folder / name, fault);
        require(fault || size == 0, Exit::usage,
                fmt::format("{} holds the {} of a run, but no config.toml", directory, name),
                "choose another directory with --run-dir, or move that file away");
    }
}

// Removes the partial files that a killed session of the run left. The caller holds the lock, so no run writes them
// now. A report may be written at any time by another command.
void remove_partial_files(const fs::path& folder) {
    std::error_code fault;
    std::vector<fs::path> left;
    for (const auto& entry : fs::directory_iterator(folder, fault)) {
        const std::string name = entry.path().filename().string();
        if (!name.ends_with(".partial")) continue;
        for (const char* of_the_run : {"checkpoint_", "best_", "raster.json.", "session.json.", "config.toml.",
                                       "build.txt.", "outcome.json.", "confusion.json."})
            if (name.starts_with(of_the_run)) left.push_back(entry.path());
    }
    for (const fs::path& path : left) fs::remove(path, fault);
}

}  // namespace

bool may_change(const std::string& key) {
    static constexpr std::array<std::string_view, 8> keys = {
        "run.directory",    "run.stop_signals",    "train.steps",        "train.report_every",
        "train.test_every", "train.stop_accuracy", "train.test_batches", "train.tape"};
    for (std::string_view section : {"diagnostics.", "metrics.", "checkpoint.", "serve.", "parallel.", "watchdog."})
        if (key.rfind(section, 0) == 0) return true;
    return has(keys, key) || has(step_lengths, key) || is_place(key);
}

std::string forbidden_changes(const Config& now, const Config& before) {
    return differences(now, before, "\n  {} is {}, but the run has {}", std::not_fn(may_change));
}

std::string result_differences(const Config& now, const Config& before) {
    const std::string text = differences(now, before, ", {} is {}, but the run has {}", [](const std::string& key) {
        return !may_change(key) || has(step_lengths, key) || is_place(key);
    });
    return text.empty() ? "" : text.substr(2);
}

RunDirectory check_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config,
                                 bool resume) {
    RunDirectory found;
    grid.agree([&] {
        // With ranks on several machines, Open MPI overruns a buffer of 256 characters for the path of a checkpoint.
        constexpr std::size_t longest = 180;
        std::error_code unknown;
        const fs::path whole = fs::absolute(directory, unknown);
        bool many = false;
        for (int rank = 1; rank < grid.ranks(); ++rank)
            many |= grid.watchdog()->host_of(rank) != grid.watchdog()->host_of(0);
        require(!many || whole.string().size() <= longest, Exit::usage,
                fmt::format("the path of the run directory, {}, has more than {} characters, the limit of Open MPI "
                            "on several machines",
                            whole.string(), longest),
                "choose a shorter one with --run-dir");
        const fs::path saved = fs::path(directory) / "config.toml";
        std::error_code fault;
        if (grid.rank() != 0 || !fs::is_directory(directory, fault)) return;
        require_free(directory);
        if (!resume) return require_no_run(directory);
        if (!fs::exists(saved, fault) && !holds_checkpoints(directory)) return;
        const auto compare = [&] {
            if (!fs::exists(saved, fault)) return;
            Config before;
            read_config(saved.string(), before);
            const std::string forbidden = forbidden_changes(config, before);
            require(forbidden.empty(), Exit::usage,
                    fmt::format("{} holds a run of another config:{}", directory, forbidden),
                    "resume with the config of that run, or start a new run with another --run-dir");
            found.changed = differences(config, before, "\n  {} is now {}, it was {}", may_change);
        };
        compare();  // a refused run changes nothing, not even the lock file
        found.lock = DirectoryLock(directory);
        compare();  // another run may have ended in between; from now on no other process changes it
    });
    return found;
}

void start_run_directory(const ProcessGrid& grid, RunDirectory& found, const Config& config,
                         const std::string& session) {
    const std::string& directory = config.run.directory;
    grid.agree([&] {
        if (grid.rank() != 0) return;
        const fs::path folder(directory);
        std::error_code fault;
        if (!found.lock.held()) {
            make_folder(directory, "run directory");
            found.lock = DirectoryLock(directory);
            require_no_run(directory);
        }
        remove_partial_files(folder);
        fs::remove(folder / "outcome.json", fault);  // of an earlier session
        write_whole_file((folder / "build.txt").string(), build_text() + "\n");
        write_whole_file((folder / "session.json").string(), session);
        write_whole_file((folder / "config.toml").string(), to_toml(config, true));
    });
    // Otherwise the first checkpoint would fail. A network file system may show a new file with a delay.
    grid.agree([&] {
        const fs::path written = fs::path(directory) / "config.toml";
        std::error_code fault;
        for (int tries = 0; tries < 50 && !fs::exists(written, fault); ++tries)
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        require(fs::exists(written, fault), Exit::usage,
                fmt::format("{} does not see {}, which rank 0 has written", grid.watchdog()->name_of(grid.rank()),
                            fs::absolute(written, fault).string()),
                "all machines must share the run directory: put it on a shared file system (--run-dir)");
    });
}

std::vector<std::pair<std::string, std::string>> weight_files(const Config& config) {
    std::vector<std::pair<std::string, std::string>> files;
    if (!config.network.file.empty()) files.emplace_back("network.file", config.network.file);
    for (const ProjectionConfig& p : config.projections)
        if (!p.file.empty()) files.emplace_back("projection." + p.name + ".file", p.file);
    return files;
}

std::string weights_digest(const std::string& path) {
    std::error_code fault;
    const auto size = fs::file_size(path, fault);
    require(!fault, Exit::bad_file, fmt::format("{}: {}", path, fault.message()),
            "name the file that the run began with");
    return fmt::format("{:016x}", bytes_checksum(path, static_cast<Index>(size), 1, 0));
}

CheckpointOrigin origin_in(const std::string& directory) {
    std::ifstream file(fs::path(directory) / "session.json");
    const auto json = nlohmann::json::parse(file, nullptr, false);
    const auto text = [&](const char* name) {
        const bool named = json.is_object() && json.contains(name) && json[name].is_string();
        return named ? json[name].get<std::string>() : "";
    };
    CheckpointOrigin origin;
    origin.run = text("run"), origin.data = text("data"), origin.network = text("network");
    return origin;
}

std::string foreign_reason(const CheckpointOrigin& checkpoint, const Config& config, const std::string& run) {
    Config other;
    read_config_text(checkpoint.config, "its config", other);
    const bool another = !run.empty() && !checkpoint.run.empty() && run != checkpoint.run;
    // These keys may differ within one run.
    const std::string text = differences(other, config, ", {} is {}, but the run has {}", [&](const std::string& key) {
        return !may_change(key) || (another && has(step_lengths, key));
    });
    if (!text.empty()) return text.substr(2);
    return another ? fmt::format("it is of run {}, but this is run {}; their configs agree", checkpoint.run, run) : "";
}

void require_own_checkpoint(const std::string& path, const CheckpointOrigin& checkpoint, const Config& config,
                            const std::string& run) {
    const std::string reason = foreign_reason(checkpoint, config, run);
    require(reason.empty(), Exit::usage, fmt::format("{} belongs to another run: {}", path, reason),
            "move that file to a folder of its own");
}

}  // namespace spikefloss
