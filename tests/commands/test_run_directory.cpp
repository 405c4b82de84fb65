// The run of a directory and of its checkpoints, and the processes that can use it.
#include "commands/run_directory.hpp"

#include "io/files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace spikefloss::test {
namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

CheckpointOrigin origin_of(const Config& config, const std::string& run) {
    CheckpointOrigin origin;
    origin.config = to_toml(config, false);
    origin.run = run;
    return origin;
}

TEST(ForeignCheckpoint, IsKnownByItsConfigAndByItsRun) {
    Config config;
    Config other = config;
    EXPECT_EQ(foreign_reason(origin_of(config, "a"), config, "a"), "");
    EXPECT_EQ(foreign_reason(origin_of(config, ""), config, "a"), "");  // of an older version
    EXPECT_EQ(foreign_reason(origin_of(config, "a"), config, ""), "");  // copied alone into a new folder
    EXPECT_TRUE(has(foreign_reason(origin_of(config, "b"), config, "a"), "it is of run b, but this is run a"));
    other.run.seed = 6;
    EXPECT_EQ(foreign_reason(origin_of(other, ""), config, ""), "run.seed is 6, but the run has 1");
    EXPECT_EQ(foreign_reason(origin_of(other, "a"), config, "a"), "run.seed is 6, but the run has 1");
    // It may change between the sessions of one run. Between two runs it is the difference.
    other = config;
    other.train.learning_rate = 0.5;
    EXPECT_EQ(foreign_reason(origin_of(other, "a"), config, "a"), "");
    EXPECT_EQ(foreign_reason(origin_of(other, "b"), config, "a"), "train.learning_rate is 0.5, but the run has 0.001");
    // Paths do not change results.
    other = config;
    other.task.images = "/elsewhere";
    EXPECT_EQ(foreign_reason(origin_of(other, "a"), config, "a"), "");
}

TEST(RunDirectory, HoldsNoRunThatCouldBeLost) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, {1, 1});
    Config config;
    config.run.directory = folder / "r";
    const auto look = [&] { check_run_directory(grid, config.run.directory, config, false); };
    EXPECT_NO_THROW(look());  // it does not exist
    std::filesystem::create_directory(config.run.directory);
    EXPECT_NO_THROW(look());  // empty
    for (const char* name : {"config.toml", "checkpoint_000000040.h5", "metrics.jsonl", "diagnostics.jsonl"}) {
        const std::string path = config.run.directory + "/" + name;
        std::ofstream(path) << "x";
        EXPECT_TRUE(has(error_of(Exit::usage, look), "--run-dir")) << name;
        std::filesystem::remove(path);
    }
    EXPECT_NO_THROW(look());
}

// What a killed session left of its own files; a report that is written meanwhile stays.
TEST(RunDirectory, PartialFilesOfAKilledSessionAreRemoved) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, {1, 1});
    Config config;
    config.run.directory = folder / "runs/r";
    std::filesystem::create_directories(config.run.directory);
    const auto path = [&](const char* name) { return config.run.directory + "/" + name; };
    const char* left[] = {"raster.json.1c8d0a74d128d122.partial", "checkpoint_000000007.h5.12.partial",
                          "session.json.12.partial"};
    for (const char* name : left) std::ofstream(path(name)) << "left";
    std::ofstream(path("report.html.12.partial")) << "being written";
    RunDirectory run = check_run_directory(grid, config.run.directory, config, true);
    start_run_directory(grid, run, config, "{\"run\": \"r\"}");
    for (const char* name : left) EXPECT_FALSE(std::filesystem::exists(path(name))) << name;
    EXPECT_TRUE(std::filesystem::exists(path("report.html.12.partial")));
}

// Two short runs: the second checks before the first begins, and takes the lock after the first has ended.
TEST(RunDirectory, IsLookedAtAgainWithTheLock) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, {1, 1});
    Config config;
    config.run.directory = folder / "runs/r";
    RunDirectory second = check_run_directory(grid, config.run.directory, config, false);
    {
        RunDirectory first = check_run_directory(grid, config.run.directory, config, false);
        start_run_directory(grid, first, config, "{\"run\": \"first\"}");
        const auto meanwhile = [&] { check_run_directory(grid, config.run.directory, config, true); };
        EXPECT_TRUE(has(error_of(Exit::usage, meanwhile), fmt::format("in use by process {}", ::getpid())));
    }
    const auto start = [&] { start_run_directory(grid, second, config, "{\"run\": \"second\"}"); };
    EXPECT_TRUE(has(error_of(Exit::usage, start), "already holds a run"));
    EXPECT_EQ(origin_in(config.run.directory).run, "first");
    second = {};
    // A resumed run holds the lock from its first check on.
    const RunDirectory resumed = check_run_directory(grid, config.run.directory, config, true);
    EXPECT_TRUE(resumed.lock.held());
    EXPECT_NE(holder_of(config.run.directory), "");
}

TEST(DirectoryLock, IsForItsOwnerAndNamesOnlyALiveProcess) {
    const Folder folder;
    const std::string path = folder / "lock";
    std::ofstream(path) << "left by an older version\n";
    ::chmod(path.c_str(), 0666);
    {
        const DirectoryLock lock(folder.path());
        struct stat state = {};
        ASSERT_EQ(::stat(path.c_str(), &state), 0);
        EXPECT_EQ(state.st_mode & 0777, 0600u);
        EXPECT_TRUE(has(holder_of(folder.path()), fmt::format("process {} on ", ::getpid())));
        // The lock is held, but the file names a process that has ended, or no process.
        char host[256] = "";
        ::gethostname(host, sizeof host - 1);
        for (const std::string& text :
             {fmt::format("process 999999999 on {}\n", host), std::string("nonsense\n"), std::string()}) {
            std::ofstream(path) << text;
            EXPECT_EQ(holder_of(folder.path()), "another process") << text;
        }
        std::ofstream(path) << "process 1 on another_machine\n";
        EXPECT_EQ(holder_of(folder.path()), "process 1 on another_machine");
    }
    EXPECT_EQ(holder_of(folder.path()), "");
}

}  // namespace
}  // namespace spikefloss::test
