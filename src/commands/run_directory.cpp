#include "commands/run_directory.hpp"

#include "core/error.hpp"
#include "core/whole_file.hpp"
#include "io/build_text.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <filesystem>
#include <functional>
#include <thread>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;

// How far a step goes: what a run that blew up needs to go on. It changes what is learned all the same.
constexpr std::array<std::string_view, 5> step_lengths = {"train.learning_rate", "train.clip", "train.adjoint_cap",
                                                          "flossing.learning_rate", "flossing.clip"};

template <class List>
bool has(const List& list, const std::string& key) {
    return std::find(list.begin(), list.end(), key) != list.end();
}

// A text from `format` (key, now, before) for every key that differs and is asked for.
template <class Asked>
std::string differences(Config now, Config before, const char* format, Asked&& asked) {
    std::string text;
    const std::vector<Key> mine = keys_of(now), theirs = keys_of(before);
    for (std::size_t i = 0; i < mine.size(); ++i) {
        const std::string key = mine[i].path(), a = value_text(mine[i]), b = value_text(theirs[i]);
        if (a != b && asked(key)) text += fmt::format(fmt::runtime(format), key, a, b);
    }
    return text;
}

}  // namespace

bool may_change(const std::string& key) {
    static constexpr std::array<std::string_view, 8> keys = {
        "run.directory",    "run.stop_signals",    "train.steps",        "train.report_every",
        "train.test_every", "train.stop_accuracy", "train.test_batches", "train.tape"};
    for (std::string_view section : {"diagnostics.", "metrics.", "checkpoint.", "serve.", "parallel.", "watchdog."})
        if (key.rfind(section, 0) == 0) return true;
    return has(keys, key) || has(step_lengths, key);
}

std::string result_differences(const Config& now, const Config& before) {
    const std::string text = differences(now, before, ", {} is {}, but the run has {}", [](const std::string& key) {
        return !may_change(key) || has(step_lengths, key);
    });
    return text.empty() ? "" : text.substr(2);
}

std::string check_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config,
                                bool resume) {
    std::string changed;
    grid.agree([&] {
        // Among ranks of several machines Open MPI writes beyond a buffer of 256 characters for the name of a checkpoint.
        constexpr std::size_t longest = 180;
        std::error_code unknown;
        const fs::path whole = fs::absolute(directory, unknown);
        bool many = false;
        for (int rank = 1; rank < grid.ranks(); ++rank) many |= grid.watch()->host_of(rank) != grid.watch()->host_of(0);
        require(!many || whole.string().size() <= longest, Exit::usage,
                fmt::format("the path of the run directory, {}, has more than {} characters, which Open MPI cannot take "
                            "on several machines",
                            whole.string(), longest),
                "choose a shorter one with --run-dir");
        const fs::path saved = fs::path(directory) / "config.toml";
        std::error_code fault;
        if (grid.rank() != 0 || !fs::exists(saved, fault)) return;
        require_free(directory);
        require(resume, Exit::usage, fmt::format("{} already holds a run", directory),
                "go on with it by --resume, or choose another directory with --run-dir");
        Config before;
        read_config(saved.string(), before);
        const std::string forbidden =
            differences(config, before, "\n  {} is {}, but the run has {}", std::not_fn(may_change));
        require(forbidden.empty(), Exit::usage,
                fmt::format("{} holds a run of another config:{}", directory, forbidden),
                "resume with the config of that run, or start anew with another --run-dir");
        changed = differences(config, before, "\n  {} is now {}, it was {}", may_change);
    });
    return changed;
}

DirectoryLock start_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config,
                                  const std::string& session) {
    DirectoryLock lock;
    grid.agree([&] {
        if (grid.rank() != 0) return;
        const fs::path folder(directory);
        std::error_code fault;
        fs::create_directories(folder, fault);
        require(!fault, Exit::storage, fmt::format("cannot make the run directory {}: {}", directory, fault.message()),
                "choose one that you may write to, with --run-dir or run.directory");
        lock = DirectoryLock(directory);
        fs::remove(folder / "outcome.json", fault);  // of a session before
        write_whole_file((folder / "build.txt").string(), build_text() + "\n");
        write_whole_file((folder / "session.json").string(), session);
        write_whole_file((folder / "config.toml").string(), to_toml(config, true));
    });
    // Otherwise the first checkpoint would find out. A network file system may show a new file a little later.
    grid.agree([&] {
        const fs::path written = fs::path(directory) / "config.toml";
        std::error_code fault;
        for (int tries = 0; tries < 50 && !fs::exists(written, fault); ++tries)
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        require(fs::exists(written, fault), Exit::usage,
                fmt::format("{} does not see {}, which rank 0 has written", grid.watch()->name_of(grid.rank()),
                            fs::absolute(written, fault).string()),
                "all machines must share the run directory: put it on a shared file system (--run-dir)");
    });
    return lock;
}

}  // namespace spikefloss
