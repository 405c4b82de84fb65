// Checkpoints: a run continues on any grid, the newest whole checkpoint is found, damaged ones are reported, and a full
// disk loses only the checkpoint that did not fit.
#include "io/checkpoint.hpp"

#include "io/disk_limits.hpp"
#include "io/files.hpp"
#include "io/hdf5_checksum.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>

namespace spikefloss::test {
namespace {

using test::expect_equal;  // for networks

const NetworkShape shape{11, 2, 3};
const std::string config = "[run]\nseed = 7\n# gr\u00fc\u00dfe\n";

TrainingState example_state(const ProcessGrid& grid, std::int64_t step) {
    TrainingState state;
    state.network = example_network(shape, grid, static_cast<int>(step));
    const ParameterLayout& layout = state.network.layout;
    state.task = {formula_values(2, layout), formula_values(3, layout), 41};
    state.floss = {formula_values(4, layout), {}, 5};
    state.progress.step = step;
    state.progress.floss_steps = 12;
    state.progress.floss_pending = -1;
    state.progress.adaptive_pending = 4;
    state.progress.adaptive_loss = 0.7;
    state.progress.flossing_over = true;
    state.progress.running_accuracy = 0.1;
    state.progress.running_loss = 1.0 / 3.0;
    state.progress.seconds = 1e-3;
    state.progress.flossing_seconds = 1e-4;
    if (step >= 20) state.progress.best_step = step - 10;  // otherwise there is none
    state.progress.best_accuracy = step >= 20 ? 0.3 : 0.0;
    state.progress.best_loss = step >= 20 ? 2.0 / 3.0 : 0.0;
    return state;
}

void expect_equal(const OptimiserState& a, const OptimiserState& b) {
    EXPECT_EQ(a.first, b.first);
    EXPECT_EQ(a.second, b.second);
    EXPECT_EQ(a.updates, b.updates);
}

void expect_equal(const TrainingState& a, const TrainingState& b) {
    expect_equal(a.network, b.network);
    expect_equal(a.task, b.task);
    expect_equal(a.floss, b.floss);
    EXPECT_EQ(a.progress.step, b.progress.step);
    EXPECT_EQ(a.progress.floss_steps, b.progress.floss_steps);
    EXPECT_EQ(a.progress.floss_pending, b.progress.floss_pending);
    EXPECT_EQ(a.progress.adaptive_pending, b.progress.adaptive_pending);
    EXPECT_EQ(a.progress.adaptive_loss, b.progress.adaptive_loss);
    EXPECT_EQ(a.progress.flossing_over, b.progress.flossing_over);
    EXPECT_EQ(a.progress.running_accuracy, b.progress.running_accuracy);
    EXPECT_EQ(a.progress.running_loss, b.progress.running_loss);
    EXPECT_EQ(a.progress.seconds, b.progress.seconds);
    EXPECT_EQ(a.progress.flossing_seconds, b.progress.flossing_seconds);
    EXPECT_EQ(a.progress.best_step, b.progress.best_step);
    EXPECT_EQ(a.progress.best_accuracy, b.progress.best_accuracy);
    EXPECT_EQ(a.progress.best_loss, b.progress.best_loss);
}

void write(const ProcessGrid& grid, const std::string& folder, std::int64_t step, int keep = 100) {
    write_checkpoint(grid, folder, example_state(grid, step), {.config = config, .build = "build 1"}, keep);
    MPI_Barrier(MPI_COMM_WORLD);  // rank 0 is still removing old ones
}

// Rank 0 changes a file; the others wait.
void damage(const std::function<void()>& work) {
    if (world_rank() == 0) work();
    MPI_Barrier(MPI_COMM_WORLD);
}

TEST(Checkpoint, AnyGridReadsWhatAnyOtherWrote) {
    const Folder folder;
    for (GridShape writer : all_grids()) {
        const ProcessGrid grid(MPI_COMM_WORLD, writer);
        write(grid, folder / "run", 20);
        const std::string path = folder / "run/checkpoint_000000020.h5";
        EXPECT_EQ(read_checkpoint_origin(path).config, config);
        EXPECT_EQ(read_checkpoint_origin(path).build, "build 1");
        for (GridShape reader : all_grids()) {
            SCOPED_TRACE(text(writer) + " -> " + text(reader));
            const ProcessGrid other(MPI_COMM_WORLD, reader);
            expect_equal(read_checkpoint(path, other), example_state(other, 20));
            // A checkpoint is a network file too.
            expect_equal(read_network(path, reader.neuron_shards, other.neuron_shard()),
                         example_state(other, 20).network);
        }
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

TEST(Checkpoint, KeepsTheNewestOnes) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    damage([&] { std::ofstream(folder / "notes.txt") << "mine"; });
    for (std::int64_t step : {10, 20, 30, 40}) write(grid, folder.path(), step, 2);
    EXPECT_EQ(folder.names(),
              (std::vector<std::string>{"checkpoint_000000030.h5", "checkpoint_000000040.h5", "notes.txt"}));
    MPI_Barrier(MPI_COMM_WORLD);
    // A run that continues from an earlier checkpoint never removes the checkpoint that it has just written.
    write(grid, folder.path(), 25, 1);
    EXPECT_EQ(folder.names(), (std::vector<std::string>{"checkpoint_000000025.h5", "checkpoint_000000030.h5",
                                                        "checkpoint_000000040.h5", "notes.txt"}));
}

TEST(Checkpoint, KeepsTheBestOneAndThatOfTheNewest) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().back());
    const auto write_best = [&](std::int64_t step, std::int64_t before) {
        write_best_checkpoint(grid, folder.path(), example_state(grid, step), {.config = config}, before);
        MPI_Barrier(MPI_COMM_WORLD);
    };
    const std::string newest = "checkpoint_000000030.h5", a = "best_000000020.h5", b = "best_000000040.h5";
    const auto names = [&] {
        const std::vector<std::string> found = folder.names();
        MPI_Barrier(MPI_COMM_WORLD);
        return found;
    };
    write_best(10, -1);
    write_best(20, -1);
    EXPECT_EQ(names(), std::vector{a});
    write(grid, folder.path(), 30);  // its best step is 20
    write_best(40, 20);
    EXPECT_EQ(names(), (std::vector{a, b, newest}));
    EXPECT_EQ(read_progress(folder / newest).best_step, 20);
    EXPECT_EQ(best_checkpoint(folder.path(), 40), folder / b);
    EXPECT_EQ(checkpoint_fault(folder / b, grid), "");
    EXPECT_NE(checkpoint_fault(folder / "best_000000010.h5", grid), "");
    expect_equal(read_checkpoint(folder / b, grid), example_state(grid, 40));
    write(grid, folder.path(), 50, 1);  // its best step is 40
    EXPECT_EQ(names(), (std::vector<std::string>{b, "checkpoint_000000050.h5"}));
}

TEST(Checkpoint, NoneWhereThereIsNone) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    std::vector<std::string> rejected;
    EXPECT_FALSE(newest_checkpoint(grid, folder / "missing", rejected).has_value());
    damage([&] {
        std::ofstream(folder / "checkpoint_12.h5") << "another name";
        std::ofstream(folder / "checkpoint_000000012.h5.partial") << "unfinished";
        std::ofstream(folder / "checkpoint_abcdefghi.h5") << "no number";
    });
    EXPECT_FALSE(newest_checkpoint(grid, folder.path(), rejected).has_value());
    EXPECT_TRUE(rejected.empty());
}

TEST(Checkpoint, DamagedOnesAreNamedAndTheOneBeforeIsUsed) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().back());
    for (std::int64_t step : {1, 2, 3, 4, 5, 6}) write(grid, folder.path(), step);
    const auto path = [&](int step) { return folder / fmt::format("checkpoint_{:09d}.h5", step); };
    damage([&] { std::filesystem::resize_file(path(6), std::filesystem::file_size(path(6)) - 1); });
    damage([&] { std::filesystem::resize_file(path(5), 0); });
    damage([&] { std::ofstream(path(4), std::ios::trunc) << "not HDF5 at all"; });
    damage([&] {
        // One bit of one weight, found by its value.
        const float wanted = formula(3, Parameter::w_rec, 5, 6);
        std::fstream file(path(3), std::ios::in | std::ios::out | std::ios::binary);
        std::string bytes(std::filesystem::file_size(path(3)), '\0');
        file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
        const auto at = bytes.find(std::string(reinterpret_cast<const char*>(&wanted), sizeof wanted));
        ASSERT_NE(at, std::string::npos);
        bytes[at] = static_cast<char>(bytes[at] ^ 1);
        file.seekp(0);
        file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    });
    std::vector<std::string> rejected;
    const auto newest = newest_checkpoint(grid, folder.path(), rejected);
    EXPECT_TRUE(newest.has_value());
    if (newest) {
        EXPECT_EQ(newest->step, 2);
        EXPECT_EQ(newest->path, path(2));
        expect_equal(read_checkpoint(newest->path, grid), example_state(grid, 2));
    }
    EXPECT_EQ(rejected.size(), 4u);
    if (rejected.size() == 4) {
        expect_contains(rejected[0], path(6));
        expect_contains(rejected[0], "truncated");
        expect_contains(rejected[1], path(5));
        expect_contains(rejected[1], "it has 0 bytes and does not end with a seal");
        expect_contains(rejected[2], path(4));
        expect_contains(rejected[2], "does not end with a seal");
        expect_contains(rejected[3], path(3));
        expect_contains(rejected[3], "its bytes do not match their checksum");
    }
}

// A flipped bit anywhere is found, before the HDF5 library sees the file.
TEST(Checkpoint, NoFlippedBitPasses) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    write(grid, folder.path(), 1);
    const std::string path = folder / "checkpoint_000000001.h5";
    std::ifstream in(path, std::ios::binary);
    const std::string whole((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    MPI_Barrier(MPI_COMM_WORLD);
    const std::size_t stride = grid.ranks() == 1 ? 13 : 509, seal = whole.size() - 24;
    const auto flip = [&](std::size_t at) {
        damage([&] {
            std::string bytes = whole;
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << (at % 8)));
            std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
        });
        std::vector<std::string> rejected;
        EXPECT_FALSE(newest_checkpoint(grid, folder.path(), rejected).has_value()) << "byte " << at;
        EXPECT_EQ(rejected.size(), 1u);
        MPI_Barrier(MPI_COMM_WORLD);
    };
    for (std::size_t at = 0; at < seal; at += stride) flip(at);
    for (std::size_t at = seal; at < whole.size(); ++at) flip(at);
    std::vector<std::string> rejected;
    try {
        require_whole_checkpoint(path, grid);
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::bad_file);
        EXPECT_TRUE(error.collective);
        if (grid.rank() == 0) expect_contains(error.what(), path);
    }
    damage([&] { std::ofstream(path, std::ios::binary | std::ios::trunc) << whole; });
    require_whole_checkpoint(path, grid);
    EXPECT_TRUE(newest_checkpoint(grid, folder.path(), rejected).has_value());
    EXPECT_TRUE(rejected.empty());
}

// Damage before the seal was written, between memory and disk: the checksum in the file names the dataset.
TEST(Checkpoint, ASealOverWrongDataDoesNotHideIt) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().back());
    write(grid, folder.path(), 1);
    const std::string path = folder / "checkpoint_000000001.h5";
    damage([&] {
        Editor(path).set_element("/optimiser/task/second/w_rec", {10, 10}, 0.3);  // the library removes the seal
        const ProcessGrid self(MPI_COMM_SELF, {1, 1});
        const auto size = static_cast<Index>(std::filesystem::file_size(path));
        const int descriptor = ::open(path.c_str(), O_WRONLY);
        EXPECT_TRUE(write_seal(descriptor, size, bytes_checksum(path, size, 1, 0)));
        ::close(descriptor);
    });
    std::vector<std::string> rejected;
    EXPECT_FALSE(newest_checkpoint(grid, folder.path(), rejected).has_value());
    EXPECT_EQ(rejected.size(), 1u);
    if (!rejected.empty())
        expect_contains(rejected[0], "dataset /optimiser/task/second/w_rec does not match its checksum");
}

TEST(Checkpoint, OtherFilesAreRefused) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    const std::string path = folder / "a.h5";
    const auto message = [&] { return error_of(Exit::bad_file, [&] { read_checkpoint_origin(path); }); };
    OutputFile file(grid, path);
    write_network(file, grid, example_network(shape, grid));
    file.finish();
    expect_contains(message(), "this is not a checkpoint");
    MPI_Barrier(MPI_COMM_WORLD);
    write(grid, folder.path(), 3);
    damage([&] { Editor(folder / "checkpoint_000000003.h5").number("/", "version", 9, H5T_STD_I64LE); });
    try {
        read_checkpoint(folder / "checkpoint_000000003.h5", grid);
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_TRUE(error.collective);
        if (grid.rank() == 0) expect_contains(error.what(), "version 9 of its format; this program reads version 1");
    }
}

TEST(Checkpoint, AFullDiskCostsOnlyTheNewOne) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().back());
    write(grid, folder.path(), 1);
    const auto size = std::filesystem::file_size(folder / "checkpoint_000000001.h5");
    for (std::uintmax_t limit : {size / 8, size / 2}) {
        bool thrown = false;
        {
            const FileSizeLimit small(limit);
            try {
                write_checkpoint(grid, folder.path(), example_state(grid, 2), {.config = config, .build = "build 1"},
                                 1);
            } catch (const Error& error) {
                thrown = true;
                EXPECT_EQ(error.code(), Exit::storage);
                EXPECT_TRUE(error.collective);
                if (grid.rank() == 0) expect_contains(error.what(), "File too large");
            }
        }
        EXPECT_TRUE(thrown);
        MPI_Barrier(MPI_COMM_WORLD);
        EXPECT_EQ(folder.names(), std::vector<std::string>{"checkpoint_000000001.h5"});
    }
    write(grid, folder.path(), 2, 1);
    EXPECT_EQ(folder.names(), std::vector<std::string>{"checkpoint_000000002.h5"});
}

TEST(Checkpoint, AnUnwritableFolderIsAStorageError) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    damage([&] { std::ofstream(folder / "file") << "in the way"; });
    try {
        write_checkpoint(grid, folder / "file", example_state(grid, 2), {.config = config, .build = "build 1"}, 1);
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::storage);
        EXPECT_TRUE(error.collective);
        if (grid.rank() == 0) expect_contains(error.what(), "cannot make the folder");
    }
}

}  // namespace
}  // namespace spikefloss::test
