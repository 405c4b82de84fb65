// The task `images` on small IDX files written here, plain and compressed, whole and damaged, and on Fashion-MNIST
// where it is installed.
#include "tasks/batches.hpp"
#include "tasks/expect_error.hpp"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

constexpr Index rows = 8, columns = 3, training = 20, tests = 6;

// Picture `i` differs from every other one, of either file, in its first two pixels.
std::uint8_t pixel_of(bool test, Index i, Index p) {
    if (p == 0) return test ? 200 : 100;
    return static_cast<std::uint8_t>(p == 1 ? 7 * i : 31 * i + 5 * p);
}
std::uint8_t label_of(bool test, Index i) { return static_cast<std::uint8_t>(test ? i % 3 : i % 5); }

void append_size(Bytes& bytes, std::uint32_t size) {
    for (int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<std::uint8_t>(size >> shift));
}

Bytes images_file(bool test) {
    const Index count = test ? tests : training;
    Bytes bytes = {0, 0, 8, 3};
    for (const Index size : {count, rows, columns}) append_size(bytes, static_cast<std::uint32_t>(size));
    for (Index i = 0; i < count; ++i)
        for (Index p = 0; p < rows * columns; ++p) bytes.push_back(pixel_of(test, i, p));
    return bytes;
}

Bytes labels_file(bool test) {
    const Index count = test ? tests : training;
    Bytes bytes = {0, 0, 8, 1};
    append_size(bytes, static_cast<std::uint32_t>(count));
    for (Index i = 0; i < count; ++i) bytes.push_back(label_of(test, i));
    return bytes;
}

class ImagesTask : public testing::Test {
protected:
    ImagesTask() {
        std::string pattern = (fs::temp_directory_path() / "spikefloss_images_XXXXXX").string();
        folder_ = mkdtemp(pattern.data());
        for (const bool test : {false, true}) {
            files_[test ? "t10k-images-idx3-ubyte" : "train-images-idx3-ubyte"] = images_file(test);
            files_[test ? "t10k-labels-idx1-ubyte" : "train-labels-idx1-ubyte"] = labels_file(test);
        }
        for (const auto& [name, bytes] : files_) write(name, bytes);
    }
    ~ImagesTask() override { fs::remove_all(folder_); }

    void write(const std::string& name, const Bytes& bytes) const {
        std::ofstream(folder_ / name, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
    // Replaces the plain file by a compressed one.
    void compress(const std::string& name) const {
        const Bytes& bytes = files_.at(name);
        gzFile file = gzopen((folder_ / (name + ".gz")).c_str(), "wb");
        ASSERT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())), static_cast<int>(bytes.size()));
        gzclose(file);
        fs::remove(folder_ / name);
    }
    TaskSettings settings(PictureOrder order = PictureOrder::rows) const {
        TaskSettings s;
        s.name = TaskKind::images, s.images = folder_.string(), s.order = order;
        return s;
    }
    void expect_bad_file(const std::string& file, const std::string& piece) const {
        expect_error(Exit::bad_file, piece, [&] { make_task(settings()); });
        expect_error(Exit::bad_file, (folder_ / file).string(), [&] { make_task(settings()); });
        expect_error(Exit::bad_file, "dataset-fashion-mnist", [&] { make_task(settings()); });
    }

    fs::path folder_;
    std::map<std::string, Bytes> files_;
};

// The number of the picture of sequence j. Fails unless every pixel and the label are those of this picture, and it is
// from the right file.
Index picture_of(const Task& task, const Batch& batch, Index j, bool test) {
    const Index M = task.inputs();
    const auto x = [&](Index p) { return batch.x[(p / M * batch.sequences + j) * M + p % M]; };
    const auto i = static_cast<Index>(std::lround(x(1) * 255 / 7));
    for (Index p = 0; p < rows * columns; ++p) EXPECT_EQ(x(p), static_cast<float>(pixel_of(test, i, p)) / 255.0f);
    EXPECT_EQ(batch.label[j], label_of(test, i));
    return i;
}

TEST_F(ImagesTask, ShapesAndMaskOfBothOrders) {
    for (const PictureOrder order : {PictureOrder::rows, PictureOrder::pixels}) {
        const auto task = make_task(settings(order));
        const Index T = order == PictureOrder::rows ? rows : rows * columns;
        EXPECT_EQ(task->steps(), T);
        EXPECT_EQ(task->inputs(), order == PictureOrder::rows ? columns : 1);
        EXPECT_EQ(task->outputs(), 5);
        EXPECT_EQ(task->dataset_size(Purpose::train), training);
        EXPECT_EQ(task->dataset_size(Purpose::test), tests);
        const Batch batch = whole_batch(*task, Purpose::train, 0, 4);
        expect_shapes(*task, batch, 4);
        EXPECT_EQ(batch.loss, LossKind::cross_entropy_mean);
        EXPECT_EQ(batch.terms(3), 3);
        for (Index at = 0; at < T * 4; ++at) EXPECT_EQ(batch.mask[at], at >= (T - T / 4) * 4 ? 1.0f : 0.0f);
        for (Index j = 0; j < 4; ++j) picture_of(*task, batch, j, false);
    }
}

TEST_F(ImagesTask, EveryEpochVisitsEveryTrainingPictureOnceAndNoTestPicture) {
    auto with_validation = settings();
    with_validation.validation = 3;
    const auto task = make_task(with_validation);
    const Index n = training - 3, batch = 6;
    EXPECT_EQ(task->dataset_size(Purpose::train), n);
    std::set<std::vector<Index>> orders;
    for (const Purpose purpose : {Purpose::train, Purpose::floss, Purpose::diagnose}) {
        std::vector<Index> visited;
        for (Index step = 0; step < 3 * n; ++step) {
            const Batch drawn = whole_batch(*task, purpose, step, batch);
            for (Index j = 0; j < batch; ++j) visited.push_back(picture_of(*task, drawn, j, false));
        }
        for (Index epoch = 0; epoch < 3 * batch; ++epoch) {
            const std::vector<Index> one(visited.begin() + epoch * n, visited.begin() + (epoch + 1) * n);
            const std::set<Index> distinct(one.begin(), one.end());
            EXPECT_EQ(distinct.size(), static_cast<std::size_t>(n));
            EXPECT_EQ(*distinct.rbegin(), n - 1) << "a validation picture was drawn";
            orders.insert(one);
        }
    }
    EXPECT_EQ(orders.size(), 3u * 3 * batch);
}

TEST_F(ImagesTask, TestAndValidationPicturesComeInFileOrder) {
    auto with_validation = settings(PictureOrder::pixels);
    with_validation.validation = 3;
    const auto task = make_task(with_validation);
    EXPECT_EQ(task->dataset_size(Purpose::validation), 3);
    EXPECT_EQ(make_task(settings())->dataset_size(Purpose::validation), 0);
    for (Index step = 0; step < 4; ++step) {
        const Batch batch = whole_batch(*task, Purpose::validation, step, 2);
        for (Index j = 0; j < 2; ++j) EXPECT_EQ(picture_of(*task, batch, j, false), training - 3 + (step * 2 + j) % 3);
    }
    for (Index step = 0; step < 4; ++step) {
        const Batch batch = whole_batch(*task, Purpose::test, step, 4);
        for (Index j = 0; j < 4; ++j) EXPECT_EQ(picture_of(*task, batch, j, true), (step * 4 + j) % tests);
    }
}

TEST_F(ImagesTask, SplittingTheBatchChangesNothing) {
    for (const PictureOrder order : {PictureOrder::rows, PictureOrder::pixels}) {
        const auto task = make_task(settings(order));
        for (const Purpose purpose : all_purposes)
            for (const Index step : {0, 5}) {
                const Batch whole = whole_batch(*task, purpose, step, 7);
                for (const Index parts : {1, 3, 5, 9})
                    expect_equal(whole, joined_batch(*task, purpose, step, 7, parts));
            }
    }
}

TEST_F(ImagesTask, CompressedFilesAreTheSame) {
    const Batch plain = whole_batch(*make_task(settings()), Purpose::train, 2, 20);
    for (const auto& [name, bytes] : files_) compress(name);
    expect_equal(plain, whole_batch(*make_task(settings()), Purpose::train, 2, 20));
}

TEST_F(ImagesTask, TheDigestIsOfTheDataAndNotOfTheirPlace) {
    const std::string digest = make_task(settings())->data_digest();
    EXPECT_EQ(digest.size(), 16u);
    for (const auto& [name, bytes] : files_) compress(name);
    EXPECT_EQ(make_task(settings())->data_digest(), digest);
    const fs::path before = folder_;
    folder_ += "_moved";
    fs::rename(before, folder_);
    EXPECT_EQ(make_task(settings(PictureOrder::pixels))->data_digest(), digest);
    // One bit of any picture or label, at either end of the file.
    for (const auto& [name, bytes] : files_)
        for (const std::size_t at :
             {name.find("images") != std::string::npos ? std::size_t{16} : std::size_t{8}, bytes.size() - 1}) {
            Bytes other = bytes;
            other[at] ^= 1;
            write(name, other);
            EXPECT_NE(make_task(settings())->data_digest(), digest) << name << ", byte " << at;
            fs::remove(folder_ / name);
        }
}

TEST_F(ImagesTask, MissingFolderOrFile) {
    auto missing = settings();
    missing.images = (folder_ / "nowhere").string();
    expect_error(Exit::bad_file, "nowhere: expected a folder", [&] { make_task(missing); });
    for (const auto& [name, bytes] : files_) {
        fs::remove(folder_ / name);
        expect_bad_file(name, "or " + name + ".gz, found neither");
        write(name, bytes);
    }
    make_task(settings());
    fs::remove(folder_ / "t10k-labels-idx1-ubyte");
    fs::create_directory(folder_ / "t10k-labels-idx1-ubyte");
    expect_bad_file("t10k-labels-idx1-ubyte", "found a folder");
    fs::remove(folder_ / "t10k-labels-idx1-ubyte");
    ASSERT_EQ(::mkfifo((folder_ / "t10k-labels-idx1-ubyte").c_str(), 0666), 0);
    expect_error(Exit::bad_file, "t10k-labels-idx1-ubyte: this is a FIFO", [&] { make_task(settings()); });
}

// Root can read everything, so the test takes another user id for a while.
class Unprivileged {
public:
    Unprivileged() : was_root_(::geteuid() == 0) { EXPECT_TRUE(!was_root_ || ::seteuid(65534) == 0); }
    ~Unprivileged() { EXPECT_TRUE(!was_root_ || ::seteuid(0) == 0); }

private:
    bool was_root_;
};

TEST_F(ImagesTask, PicturesWithoutPermission) {
    fs::permissions(folder_, fs::perms(0755));
    for (const fs::path& shut : {folder_ / "t10k-labels-idx1-ubyte", folder_}) {
        const fs::perms before = fs::status(shut).permissions();
        fs::permissions(shut, fs::perms::none);
        {
            const Unprivileged other;
            expect_error(Exit::bad_file, "Permission denied", [&] { make_task(settings()); });
            expect_error(Exit::bad_file, "check who may read it", [&] { make_task(settings()); });
        }
        fs::permissions(shut, before);
    }
}

TEST_F(ImagesTask, LyingHeaders) {
    const auto damaged = [&](const std::string& name, std::size_t at, std::uint8_t value, const std::string& piece) {
        Bytes bytes = files_.at(name);
        bytes.at(at) = value;
        write(name, bytes);
        expect_bad_file(name, piece);
        write(name, files_.at(name));
    };
    const std::string images = "train-images-idx3-ubyte", labels = "t10k-labels-idx1-ubyte";
    damaged(images, 3, 1, "expected the magic number 0x00000803 (unsigned bytes, 3 dimensions), found 0x00000801");
    damaged(images, 2, 13, "found 0x00000d03");
    damaged(labels, 3, 3, "expected the magic number 0x00000801");
    damaged(images, 7, 0, "expected a size above 0 of dimension 1, found 0");
    damaged(images, 11, 0, "expected a size of 1 .. 4096 of dimension 2, found 0");
    damaged(images, 12, 1, "expected a size of 1 .. 4096 of dimension 3, found 16777219");
    damaged(images, 7, training + 1, "expected 504 bytes after the header (21 items), found 480");
    damaged(images, 4, 255, "found 480");  // 4 billion pictures: they must not be allocated
    damaged(images, 7, training - 1, "expected 456 bytes after the header (19 items), found more");
    damaged(labels, 7, tests - 1, "expected 5 bytes after the header (5 items), found more");
    damaged(labels, 7, tests + 1, "found 6");
    make_task(settings());
}

TEST_F(ImagesTask, TruncatedFiles) {
    for (const auto& [name, bytes] : files_)
        for (const std::size_t length : {std::size_t{0}, std::size_t{3}, std::size_t{7}, bytes.size() - 1}) {
            write(name, Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length)));
            expect_bad_file(name, length < 8 ? "expected a header of" : "after the header");
            write(name, bytes);
        }
}

TEST_F(ImagesTask, DamagedCompressedFiles) {
    const std::string name = "train-images-idx3-ubyte";
    compress(name);
    const fs::path path = folder_ / (name + ".gz");
    std::ifstream stream(path, std::ios::binary);
    const Bytes whole{std::istreambuf_iterator<char>(stream), {}};
    write(name + ".gz", whole);
    make_task(settings());
    Bytes bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(whole.size() / 2));
    write(name + ".gz", bytes);
    expect_bad_file(name + ".gz", "expected 480 bytes after the header (20 items), found ");
    bytes.assign(whole.begin(), whole.end() - 6);  // the data are whole, the checksum is not
    write(name + ".gz", bytes);
    expect_bad_file(name + ".gz", "breaks off");
    bytes = whole;
    bytes[whole.size() - 6] ^= 1;  // a wrong checksum
    write(name + ".gz", bytes);
    expect_bad_file(name + ".gz", "found an error");
}

TEST_F(ImagesTask, FilesThatDoNotFitEachOther) {
    Bytes labels = labels_file(false);
    labels[7] = training - 1;
    labels.pop_back();
    write("train-labels-idx1-ubyte", labels);
    expect_bad_file("train-labels-idx1-ubyte", "expected 20 labels");
    write("train-labels-idx1-ubyte", labels_file(false));

    Bytes images = images_file(true);
    std::swap(images[11], images[15]);
    write("t10k-images-idx3-ubyte", images);
    expect_bad_file("t10k-images-idx3-ubyte", "expected pictures of 8 x 3");
}

TEST_F(ImagesTask, ContradictorySettingsAreRefused) {
    auto s = settings();
    s.images = "";
    expect_error(Exit::usage, "task.images", [&] { make_task(s); });
    s = settings(), s.validation = training;
    expect_error(Exit::usage, "task.validation = 20 leaves none of the 20", [&] { make_task(s); });
}

TEST(FashionMnist, IsReadAsPublished) {
    TaskSettings s;
    s.name = TaskKind::images, s.images = "/usr/share/datasets/fashion-mnist";
    if (!fs::exists(s.images)) GTEST_SKIP() << s.images << " (Debian package dataset-fashion-mnist) is not installed";
    const auto task = make_task(s);
    EXPECT_EQ(task->dataset_size(Purpose::train), 60000);
    EXPECT_EQ(task->dataset_size(Purpose::test), 10000);
    EXPECT_EQ(task->steps(), 28);
    EXPECT_EQ(task->inputs(), 28);
    EXPECT_EQ(task->outputs(), 10);
    const Batch batch = whole_batch(*task, Purpose::test, 0, 10);
    EXPECT_EQ(batch.label, (std::vector<std::int32_t>{9, 2, 1, 1, 6, 1, 4, 6, 5, 7}));
    // Both files have every class equally often.
    for (const Purpose purpose : {Purpose::train, Purpose::test}) {
        std::map<std::int32_t, Index> count;
        for (const auto label : whole_batch(*task, purpose, 0, task->dataset_size(purpose)).label) ++count[label];
        EXPECT_EQ(count.size(), 10u);
        for (const auto& [label, number] : count) EXPECT_EQ(number, task->dataset_size(purpose) / 10) << label;
    }
}

}  // namespace
}  // namespace spikefloss
