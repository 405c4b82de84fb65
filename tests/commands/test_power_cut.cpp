// Power cuts. In the model of a disk, a file has its content of the last flush; a folder has its names of the last
// flush, and perhaps names given since. A power cut may come after every flush and every rename (other operations do
// not change the disk). After each power cut, a checkpoint with its name must find the records that it counts. The
// linker redirects fsync and rename to this file, so the sessions below are those of the program.
#include "backend/instruction_sets.hpp"
#include "commands/options.hpp"
#include "commands/run.hpp"
#include "commands/run_directory.hpp"
#include "io/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

namespace spikefloss::test {
namespace {

namespace fs = std::filesystem;

std::string text_of(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

ino_t number_of(const std::string& path) {
    struct stat state = {};
    return ::stat(path.c_str(), &state) == 0 ? state.st_ino : 0;
}

std::string newest_event_file(const std::string& folder) {
    std::string newest;
    for (const auto& entry : fs::directory_iterator(folder))
        newest = std::max(newest, entry.path().filename().string());
    return newest;
}

class Disk {
public:
    std::string never_flushed;  // the flush of files of this name does nothing
    std::vector<std::string> losses;
    int cuts = 0, checkpoints = 0;
    std::int64_t counted = 0;  // records that the newest checkpoint counts

    void begin(const std::string& run_folder) {
        *this = Disk();
        folder = run_folder;
        watching = true;
    }
    void end() { watching = false; }

    void flushed(int file) {
        if (!watching) return;
        watching = false;  // operations of this function are not those of the program
        std::string path(4096, '\0');
        const ssize_t length = ::readlink(fmt::format("/proc/self/fd/{}", file).c_str(), path.data(), path.size());
        path.resize(static_cast<std::size_t>(std::max<ssize_t>(length, 0)));
        if (fs::is_directory(path)) {
            names_[path].clear();
            for (const auto& entry : fs::directory_iterator(path))
                names_[path][entry.path().filename()] = {number_of(entry.path())};
        } else if (fs::path(path).filename() != never_flushed) {
            content_[number_of(path)] = text_of(path);
        }
        cut();
        watching = true;
    }

    void renamed(const std::string& to) {
        if (!watching) return;
        watching = false;
        const fs::path path(to);
        names_[path.parent_path()][path.filename()].insert(number_of(to));
        if (path.filename().string().starts_with("checkpoint_")) {
            ++checkpoints;
            vouched_[to] = {read_checkpoint_origin(to), std::stoll(path.stem().string().substr(11))};
            counted = *vouched_[to].first.metrics + *vouched_[to].first.diagnostics;
            if (content_[number_of(to)] != text_of(to)) losses.push_back(to + " has its name before its content");
            // Everything that the run has written is on the disk, each file under its name.
            for (const auto& entry : fs::recursive_directory_iterator(folder)) {
                const std::string name = entry.path().filename(), parent = entry.path().parent_path();
                // In an event file of an ended session, the next session repeats everything after the last checkpoint.
                if (name.starts_with("events.") && name != newest_event_file(parent)) continue;
                if (!entry.is_regular_file() || name == "lock" || name == "log.txt" || name.starts_with("checkpoint_"))
                    continue;
                if (name != never_flushed && (content_[number_of(entry.path())] != text_of(entry.path()) ||
                                              !names_[parent][name].contains(number_of(entry.path()))))
                    losses.push_back(name + " is not on the disk");
            }
        }
        cut();
        watching = true;
    }

private:
    // The possible contents of the disk after a power cut at this moment.
    void cut() {
        ++cuts;
        for (const auto& [path, vouched] : vouched_) {
            const auto& [origin, step] = vouched;
            for (const auto& [name, kind, count] :
                 {std::tuple("metrics.jsonl", RecordKind::metrics, *origin.metrics),
                  std::tuple("diagnostics.jsonl", RecordKind::diagnostics, *origin.diagnostics)}) {
                const std::set<ino_t> files = names_[folder][name];
                if (files.empty()) losses.push_back(std::string(name) + " has no name");
                for (const ino_t file : files) {
                    const std::string left = fs::path(folder).parent_path() / "left.jsonl";
                    std::ofstream(left) << content_[file];
                    const RecordsFound found = find_records(left, kind, {step, 1 << 20});
                    if (found.count < count) losses.push_back(missing_text(name, found, count));
                }
            }
        }
    }

    bool watching = false;
    std::string folder;
    std::map<ino_t, std::string> content_;
    std::map<std::string, std::map<std::string, std::set<ino_t>>> names_;  // folder, name: the files that may have it
    std::map<std::string, std::pair<CheckpointOrigin, std::int64_t>> vouched_;
};

Disk disk;

Config small_config(const std::string& directory) {
    Config config;
    for (const char* setting :
         {"network.neurons=6", "task.name=delayed_copy", "task.duration=8", "task.delay=2", "train.batch=2",
          "train.report_every=1", "train.test_batches=1", "diagnostics.every=2", "diagnostics.exponents=2",
          "diagnostics.warmup=1", "checkpoint.every=3", "checkpoint.keep=2", "metrics.tensorboard=true"})
        set_key(setting, config);
    config.run.directory = directory;
    return config;
}

// One session of a run, as in `train`.
void train_to(std::int64_t step, Config config) {
    const ProcessGrid grid(MPI_COMM_WORLD, {1, 1});
    config.train.steps = step;
    const bool resume = holds_checkpoints(config.run.directory);
    RunDirectory directory = check_run_directory(grid, config.run.directory, config, resume);
    CheckpointOrigin origin;
    origin.run = "1";
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
    Backend& backend = *made;
    const std::unique_ptr<Task> task = make_task(task_settings(config));
    TrainingState state;
    if (resume) {
        std::vector<std::string> rejected;
        const std::string newest = newest_checkpoint(grid, config.run.directory, rejected)->path;
        ASSERT_TRUE(rejected.empty());
        origin = read_checkpoint_origin(newest);
        state = read_checkpoint(newest, grid);
    } else {
        state.network = initial_network(initial_settings(config, *task), 1, 0);
    }
    start_run_directory(grid, directory, config, "{\"run\": \"1\"}\n");
    Trainer trainer(backend, grid, *task, trainer_options(config, *task), std::move(state));
    ProgressDisplay display(true, step);
    Run run(grid, config, trainer, display, nullptr, resume, origin);
    while (trainer.progress().step < step) run.after(trainer.advance());
}

// Two sessions. The second one goes back to a checkpoint and drops records beyond it.
void two_sessions(const std::string& never_flushed) {
    const Folder folder;
    const Config config = small_config(folder / "runs/r");
    disk.begin(config.run.directory);
    disk.never_flushed = never_flushed;
    train_to(8, config);
    train_to(12, config);
    disk.end();
}

TEST(PowerCut, NoCheckpointCountsRecordsThatAreLost) {
    two_sessions("");
    EXPECT_EQ(disk.checkpoints, 4);  // steps 3, 6; 9, 12
    EXPECT_EQ(disk.counted, 12 + 7);
    EXPECT_GT(disk.cuts, 40);
    EXPECT_EQ(disk.losses, std::vector<std::string>());
}

// The model detects errors: a file that is not flushed is lost, at every cut after the first checkpoint.
TEST(PowerCut, RecordsThatAreNotFlushedAreLost) {
    for (const char* name : {"metrics.jsonl", "diagnostics.jsonl"}) {
        two_sessions(name);
        EXPECT_GT(disk.losses.size(), 10u) << name;
        EXPECT_TRUE(std::any_of(disk.losses.begin(), disk.losses.end(), [&](const std::string& loss) {
            return loss.find(fmt::format("records are missing from {}", name)) != std::string::npos;
        })) << name;
    }
}

}  // namespace
}  // namespace spikefloss::test

extern "C" {

int __real_fsync(int file);
int __wrap_fsync(int file) {
    const int result = __real_fsync(file);
    spikefloss::test::disk.flushed(file);
    return result;
}

int __real_rename(const char* from, const char* to);
int __wrap_rename(const char* from, const char* to) {
    const int result = __real_rename(from, to);
    if (result == 0) spikefloss::test::disk.renamed(to);
    return result;
}
}
