// OutputFile and InputFile: any process reads back the data that all ranks wrote; checksums do not depend on the grid;
// a full disk gives the same error on every rank, within the time limit, and does not change existing files.
#include "io/disk_limits.hpp"
#include "io/files.hpp"
#include "io/hdf5_checksum.hpp"

#include <fstream>
#include <numeric>
#include <optional>

namespace spikefloss::test {
namespace {

template <class T>
T element(Index row, Index col) {
    return static_cast<T>(1000 * row + col - 7);
}

// Writes a [rows, cols] dataset. Each neuron shard writes a block of columns; only the first batch shard writes.
template <class T>
void write_columns(OutputFile& file, const ProcessGrid& grid, const std::string& name, Index rows, Index cols) {
    const BlockRange mine = grid.neurons_of(cols);
    std::vector<T> values;
    for (Index r = 0; r < rows; ++r)
        for (Index c = mine.begin; c < mine.end; ++c) values.push_back(element<T>(r, c));
    std::vector<Block<T>> blocks;
    if (grid.batch_shard() == 0) blocks.push_back({{0, mine.begin}, {rows, mine.size()}, values.data()});
    file.dataset<T>(name, {rows, cols}, blocks);
}

template <class T>
void expect_columns(const InputFile& file, const std::string& name, Index rows, Index cols) {
    EXPECT_EQ(file.shape(name), (std::vector<Index>{rows, cols}));
    const std::vector<T> values = file.read<T>(name);
    for (Index r = 0; r < rows; ++r)
        for (Index c = 0; c < cols; ++c)
            EXPECT_EQ(values[static_cast<std::size_t>(r * cols + c)], element<T>(r, c)) << name << " " << r << " " << c;
}

void write_example(const ProcessGrid& grid, const std::string& path) {
    OutputFile file(grid, path);
    file.attribute("/", "config", std::string(100000, 'x'));  // longer than the 64 kB of older libraries
    file.attribute("/group/inner", "text", "gr\u00fc\u00df Gott");
    file.attribute("/group/inner", "empty", "");
    file.attribute("/group/inner", "number", 0.1);
    file.attribute("/group/inner", "count", std::int64_t(-3));
    write_columns<float>(file, grid, "/group/floats", 5, 13);
    write_columns<double>(file, grid, "/deep/er/doubles", 1, 6);
    write_columns<std::int32_t>(file, grid, "/ints", 3, 7);
    write_columns<std::int64_t>(file, grid, "/longs", 2, 4);
    const double loss = 0.25;
    file.dataset<double>("/loss", {},
                         grid.rank() == 0 ? std::vector<Block<double>>{{{}, {}, &loss}} : std::vector<Block<double>>{});
    file.dataset<double>("/log_r", {0, 4, 3}, {});
    file.finish();
}

TEST(OutputFile, RoundTripOnEveryGrid) {
    const Folder folder;
    for (GridShape shape : all_grids()) {
        SCOPED_TRACE(text(shape));
        const ProcessGrid grid(MPI_COMM_WORLD, shape);
        write_example(grid, folder / "a.h5");
        EXPECT_EQ(folder.names(), std::vector<std::string>{"a.h5"});
        const InputFile file(folder / "a.h5");
        EXPECT_EQ(file.string_attribute("/", "config"), std::string(100000, 'x'));
        EXPECT_EQ(file.string_attribute("/group/inner", "text"), "gr\u00fc\u00df Gott");
        EXPECT_EQ(file.string_attribute("/group/inner", "empty"), "");
        EXPECT_EQ(file.number_attribute("/group/inner", "number"), 0.1);
        EXPECT_EQ(file.integer_attribute("/group/inner", "count"), -3);
        expect_columns<float>(file, "/group/floats", 5, 13);
        expect_columns<double>(file, "/deep/er/doubles", 1, 6);
        expect_columns<std::int32_t>(file, "/ints", 3, 7);
        expect_columns<std::int64_t>(file, "/longs", 2, 4);
        EXPECT_EQ(file.read<double>("/loss"), std::vector<double>{0.25});
        EXPECT_EQ(file.shape("/loss"), std::vector<Index>{});
        EXPECT_EQ(file.shape("/log_r"), (std::vector<Index>{0, 4, 3}));
        EXPECT_EQ(file.read<float>("/group/floats", {3, 4}, {2, 2}),
                  (std::vector<float>{element<float>(3, 4), element<float>(3, 5), element<float>(4, 4),
                                      element<float>(4, 5)}));
        EXPECT_EQ(checksum_fault(folder / "a.h5", grid), "");
        EXPECT_EQ(seal_fault(folder / "a.h5", grid), "");
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

TEST(OutputFile, ChecksumsDoNotDependOnTheGrid) {
    const Folder folder;
    std::vector<std::int64_t> first;
    for (GridShape shape : all_grids()) {
        const ProcessGrid grid(MPI_COMM_WORLD, shape);
        write_example(grid, folder / "a.h5");
        const InputFile file(folder / "a.h5");
        std::vector<std::int64_t> sums;
        for (const char* name : {"/", "/group/floats", "/deep/er/doubles", "/ints", "/longs", "/loss", "/log_r"})
            sums.push_back(file.integer_attribute(name, "checksum"));
        if (first.empty()) first = sums;
        EXPECT_EQ(sums, first) << text(shape);
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

// The recipe of docs/files.md, on numbers computed separately with it (Python, numpy).
TEST(Checksum, MatchesTheDocumentedFormula) {
    const std::vector<float> values = {1.0f, -2.5f, 0.0f, 3.0f};
    EXPECT_EQ(static_cast<std::int64_t>(block_checksum<float>({2, 2}, {{0, 0}, {2, 2}, values.data()})),
              -2208212631811435654);
    const std::vector<float> column = {1.0f, 0.0f}, other = {-2.5f, 3.0f};
    EXPECT_EQ(block_checksum<float>({2, 2}, {{0, 0}, {2, 1}, column.data()}) +
                  block_checksum<float>({2, 2}, {{0, 1}, {2, 1}, other.data()}),
              block_checksum<float>({2, 2}, {{0, 0}, {2, 2}, values.data()}));
}

TEST(Checksum, NoticesAnExchangeOfEqualSum) {
    const std::vector<float> a = {1.0f, 2.0f}, b = {2.0f, 1.0f};
    EXPECT_NE(block_checksum<float>({2}, {{0}, {2}, a.data()}), block_checksum<float>({2}, {{0}, {2}, b.data()}));
}

TEST(Checksum, FaultNamesWhatChanged) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    const auto changed = [&](const std::function<void(Editor&)>& edit) {
        write_example(grid, folder / "a.h5");
        if (grid.rank() == 0) {
            Editor editor(folder / "a.h5");
            edit(editor);
        }
        MPI_Barrier(MPI_COMM_WORLD);
        return checksum_fault(folder / "a.h5", grid);
    };
    expect_contains(changed([](Editor& e) { e.set_element("/ints", {2, 6}, 5); }), "/ints does not match its checksum");
    expect_contains(changed([](Editor& e) { e.set_element("/group/floats", {0, 0}, 5); }), "/group/floats does not");
    expect_contains(changed([](Editor& e) { e.set_element("/loss", {}, 0.5); }), "/loss does not");
    expect_contains(changed([](Editor& e) { e.string("/group/inner", "text", "hello"); }), "does not match");
    expect_contains(changed([](Editor& e) { e.number("/group/inner", "number", 0.5); }), "does not match");
    expect_contains(changed([](Editor& e) { e.remove("/ints"); }), "does not match");
    expect_contains(changed([](Editor& e) { e.remove_attribute("/ints", "checksum"); }),
                    "checksum of /ints is missing");
    expect_contains(changed([](Editor& e) { e.remove_attribute("/", "checksum"); }), "has no checksum");
}

TEST(OutputFile, RefusesBlocksThatDoNotCover) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().front());
    const float value = 1.0f;
    try {
        OutputFile file(grid, folder / "a.h5");
        std::vector<Block<float>> blocks;
        if (grid.rank() == 0) blocks.push_back({{0}, {1}, &value});
        file.dataset<float>("/x", {2}, blocks);
        ADD_FAILURE() << "no error";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::internal);
        if (grid.rank() == 0) expect_contains(error.what(), "the blocks of /x hold 1 elements, the dataset 2");
    }
    MPI_Barrier(MPI_COMM_WORLD);
    EXPECT_TRUE(folder.names().empty());
}

TEST(OutputFile, WithoutFinishNothingIsLeft) {
    const Folder folder;
    const ProcessGrid grid(MPI_COMM_WORLD, all_grids().back());
    {
        OutputFile file(grid, folder / "a.h5");
        write_columns<float>(file, grid, "/x", 3, 10);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    EXPECT_TRUE(folder.names().empty());
}

// Every rank must throw Exit::storage, marked collective; rank `speaker`'s text is returned on that rank, "" elsewhere.
std::string storage_error(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(Exit::storage)) << error.what();
        EXPECT_TRUE(error.collective);
        return error.what();
    }
    ADD_FAILURE() << "no error was thrown";
    return "";
}

void write_rows(const ProcessGrid& grid, const std::string& path, Index rows, int datasets) {
    OutputFile file(grid, path);
    const BlockRange mine = block_range(rows, grid.ranks(), grid.rank());
    const std::vector<float> values(static_cast<std::size_t>(mine.size() * 256), 1.5f);
    for (int d = 0; d < datasets; ++d)
        file.dataset<float>("/d" + std::to_string(d), {rows, 256},
                            {{{mine.begin, 0}, {mine.size(), 256}, values.data()}});
    file.finish();
}

int partial_files(const std::string& folder) {
    int count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        count += entry.path().string().ends_with(".partial");
    return count;
}

class StorageFaults : public testing::Test {
protected:
    // The old content at the path must stay.
    void write_old() {
        if (world_rank() == 0) std::ofstream(path) << "the old file";
        MPI_Barrier(MPI_COMM_WORLD);
    }
    void expect_old() {
        MPI_Barrier(MPI_COMM_WORLD);
        std::string old;
        std::getline(std::ifstream(path), old);
        EXPECT_EQ(old, "the old file");
        EXPECT_EQ(partial_files(folder.path()), 0);
        MPI_Barrier(MPI_COMM_WORLD);
    }
    const Folder folder;
    const std::string path = folder / "a.h5";
    const ProcessGrid grid{MPI_COMM_WORLD, all_grids().back()};
};

// Limits below each stage of writing: the empty file, the first dataset, a later one, the last metadata.
TEST_F(StorageFaults, FileSizeLimitOnEveryRank) {
    write_old();
    for (rlim_t bytes : {100, 20000, 70000, 300000, 1000000, 2500000, 3100000}) {
        SCOPED_TRACE(bytes);
        std::string message;
        {
            const FileSizeLimit limit(bytes);
            message = storage_error([&] { write_rows(grid, path, 1024, 3); });
        }
        if (grid.rank() == 0) {
            expect_contains(message, "cannot write " + path);
            expect_contains(message, "File too large");
        }
        expect_old();
    }
    write_rows(grid, path, 1024, 3);
    EXPECT_EQ(checksum_fault(path, grid), "");
}

TEST_F(StorageFaults, FileSizeLimitOnTheLastRankOnly) {
    write_old();
    std::optional<FileSizeLimit> limit;
    if (grid.rank() == grid.ranks() - 1) limit.emplace(1500000);
    const std::string message = storage_error([&] { write_rows(grid, path, 1024, 3); });
    limit.reset();
    if (grid.rank() == grid.ranks() - 1) expect_contains(message, "File too large");
    expect_old();
}

TEST_F(StorageFaults, FullDisk) {
    const std::string mount_point = folder / "disk";
    std::optional<SmallDisk> disk;
    int mounted = 1;
    if (grid.rank() == 0) {
        std::filesystem::create_directory(mount_point);
        disk.emplace(mount_point, "2m");
        mounted = disk->mounted();
    }
    MPI_Bcast(&mounted, 1, MPI_INT, 0, MPI_COMM_WORLD);
    if (!mounted) GTEST_SKIP() << "only root may mount a small file system; the limits on file sizes are tested anyway";
    const std::string here = mount_point + "/a.h5";
    write_rows(grid, here, 512, 1);  // 0.5 MB
    for (int datasets : {1, 2, 3, 4}) {
        SCOPED_TRACE(datasets);
        const std::string message = storage_error([&] { write_rows(grid, here, 1700, datasets); });
        if (grid.rank() == 0) expect_contains(message, "No space left on device");
        MPI_Barrier(MPI_COMM_WORLD);
        EXPECT_EQ(partial_files(mount_point), 0);
        EXPECT_EQ(checksum_fault(here, grid), "");
        MPI_Barrier(MPI_COMM_WORLD);
    }
}

TEST_F(StorageFaults, NoSuchFolder) {
    const std::string message = storage_error([&] { write_rows(grid, folder / "missing/a.h5", 16, 1); });
    if (grid.rank() == 0) expect_contains(message, "No such file or directory");
}

TEST_F(StorageFaults, PathIsAFolder) {
    if (grid.rank() == 0) std::filesystem::create_directories(path + "/occupied");
    MPI_Barrier(MPI_COMM_WORLD);
    const std::string message = storage_error([&] { write_rows(grid, path, 16, 1); });
    if (grid.rank() == 0) expect_contains(message, "it is a folder, not a regular file");
    MPI_Barrier(MPI_COMM_WORLD);
    EXPECT_EQ(partial_files(folder.path()), 0);
}

}  // namespace
}  // namespace spikefloss::test
