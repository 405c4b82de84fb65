#include "commands/run_directory.hpp"

#include "core/error.hpp"
#include "io/build_text.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& path, const std::string& text) {
    std::ofstream file(path);
    file << text << std::flush;
    require(static_cast<bool>(file), Exit::storage, fmt::format("cannot write {}: {}", path.string(), std::strerror(errno)),
            "choose a run directory that you may write to (--run-dir), on a disk with room");
}

// "train.batch is 16 here but 32 there", for every key that must not change.
std::string differences(Config now, Config before) {
    std::string text;
    const std::vector<Key> mine = keys_of(now), theirs = keys_of(before);
    for (std::size_t i = 0; i < mine.size(); ++i) {
        const std::string key = mine[i].path(), a = value_text(mine[i]), b = value_text(theirs[i]);
        if (a != b && !may_change(key)) text += fmt::format("\n  {} is {}, but the run has {}", key, a, b);
    }
    return text;
}

}  // namespace

bool may_change(const std::string& key) {
    static constexpr std::array<std::string_view, 6> keys = {"run.directory",       "train.steps",
                                                             "train.report_every",  "train.test_every",
                                                             "train.stop_accuracy", "train.test_batches"};
    for (std::string_view section : {"diagnostics.", "checkpoint.", "parallel."})
        if (key.rfind(section, 0) == 0) return true;
    return std::find(keys.begin(), keys.end(), key) != keys.end();
}

void prepare_run_directory(const ProcessGrid& grid, const std::string& directory, const Config& config, bool resume) {
    grid.agree([&] {
        if (grid.rank() != 0) return;
        const fs::path folder(directory), saved = folder / "config.toml";
        std::error_code fault;
        fs::create_directories(folder, fault);
        require(!fault, Exit::storage, fmt::format("cannot make the run directory {}: {}", directory, fault.message()),
                "choose another with --run-dir or run.directory");
        if (fs::exists(saved)) {
            require(resume, Exit::usage, fmt::format("{} already holds a run", directory),
                    "go on with it by --resume, or choose another directory with --run-dir");
            Config before;
            read_config(saved.string(), before);
            const std::string changed = differences(config, before);
            require(changed.empty(), Exit::usage, fmt::format("{} holds a run of another config:{}", directory, changed),
                    "resume with the config of that run, or start anew with another --run-dir");
        }
        write_text(saved, to_toml(config, true));
        write_text(folder / "build.txt", build_text() + "\n");
    });
}

}  // namespace spikefloss
