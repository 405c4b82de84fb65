// Files of records: kept, dropped and missing records, and files kept aside, when a run continues.
#include "io/metrics.hpp"

#include "io/files.hpp"

#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <iterator>

namespace spikefloss::test {
namespace {

std::string line(std::int64_t step, std::int64_t floss = 0) {
    return fmt::format(
        R"({{"step":{},"floss_step":{},"kind":"training","loss":0.5,"accuracy":null,"running_accuracy":1,"seconds":0.1}})",
        step, floss);
}

class Records : public testing::Test {
protected:
    void write(const std::vector<std::string>& lines) const {
        std::ofstream file(path);
        for (const std::string& text : lines) file << text << "\n";
    }
    static std::string text_of(const std::string& name) {
        std::ifstream file(name);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    std::string text() const { return text_of(path); }

    Folder folder;
    std::string path = folder / "metrics.jsonl";
};

TEST_F(Records, ThoseBeyondTheCheckpointAreDropped) {
    write({line(1), line(2), line(2, 7), line(3)});
    const JsonLines lines(path, RecordKind::metrics, Position{2, 5}, 2);
    EXPECT_EQ(text(), line(1) + "\n" + line(2) + "\n");
    EXPECT_EQ(lines.count(), 2);
    EXPECT_EQ(lines.last_kept(), Position(2, 0));
    EXPECT_TRUE(lines.remarks().empty());
}

TEST_F(Records, LinesThatAreNoRecordsAreCountedAndLeftOut) {
    write({line(1), R"({"step":2,"kind":null})", R"({"step":2,"floss_step":"x","kind":"training"})", "[]", "\xff", "",
           R"({"step":"1","floss_step":0})", line(2), line(3).substr(0, 30)});
    JsonLines lines(path, RecordKind::metrics, Position{9, 9});
    ASSERT_EQ(lines.remarks().size(), 1u);
    EXPECT_EQ(lines.remarks()[0], "7 lines of metrics.jsonl are damaged and left out");
    lines.write(line(3));
    EXPECT_EQ(text(), line(1) + "\n" + line(2) + "\n" + line(3) + "\n");
}

TEST_F(Records, WhatIsMissingIsToldAndStaysMissing) {
    write({line(10), line(40), line(50)});
    JsonLines lines(path, RecordKind::metrics, Position{50, 0}, 5);
    ASSERT_EQ(lines.remarks().size(), 1u);
    EXPECT_EQ(lines.remarks()[0],
              "2 of 5 records are missing from metrics.jsonl; the widest gap is between steps 10 and 40");
    EXPECT_EQ(lines.count(), 5);
    lines.write(line(60));
    EXPECT_EQ(lines.count(), 6);  // so that later checkpoints also lack them
    EXPECT_EQ(missing_text(path, find_records(path, RecordKind::metrics, {60, 0}), 6),
              "2 of 6 records are missing from metrics.jsonl; the widest gap is between steps 10 and 40");
    EXPECT_EQ(missing_text(path, find_records(path, RecordKind::metrics, {60, 0}), 4), "");
}

TEST_F(Records, AFileThatIsGoneIsMissedFromTheStart) {
    const JsonLines lines(path, RecordKind::metrics, Position{30, 20}, 3);
    ASSERT_EQ(lines.remarks().size(), 1u);
    EXPECT_EQ(lines.remarks()[0],
              "3 of 3 records are missing from metrics.jsonl; the widest gap is between steps 0 and 30");
}

TEST_F(Records, ARunThatStartsAnewKeepsTheOldOnesAside) {
    for (int n = 1; n <= 3; ++n) {
        write({line(n)});
        const JsonLines lines(path, RecordKind::metrics);
        ASSERT_EQ(lines.remarks().size(), 1u);
        EXPECT_EQ(lines.remarks()[0], fmt::format("the records of metrics.jsonl are kept as metrics.{}.jsonl", n));
        EXPECT_EQ(text(), "");
    }
    for (int n = 1; n <= 3; ++n) EXPECT_EQ(text_of(folder / fmt::format("metrics.{}.jsonl", n)), line(n) + "\n");
    const JsonLines lines(path, RecordKind::metrics);
    EXPECT_TRUE(lines.remarks().empty());  // an empty file is not kept
}

TEST_F(Records, AFileThatWasRemovedOrReplacedIsAnError) {
    JsonLines lines(path, RecordKind::metrics);
    lines.write(line(1));
    lines.sync();
    std::filesystem::rename(path, folder / "elsewhere");
    EXPECT_NE(error_of(Exit::storage, [&] { lines.sync(); }).find("was removed or replaced"), std::string::npos);
    write({});
    EXPECT_NE(error_of(Exit::storage, [&] { lines.sync(); }).find("was removed or replaced"), std::string::npos);
}

// A limit on file sizes takes the place of a full disk.
TEST_F(Records, NoHalfLineIsLeftOnAFullDisk) {
    JsonLines lines(path, RecordKind::metrics);
    lines.write(line(1));
    const std::string whole = text();
    rlimit before{};
    getrlimit(RLIMIT_FSIZE, &before);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{whole.size() + 20, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
    const std::string problem = error_of(Exit::storage, [&] { lines.write(line(2)); });
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    EXPECT_NE(problem.find("cannot write to " + path), std::string::npos) << problem;
    EXPECT_EQ(text(), whole);
    EXPECT_EQ(lines.count(), 1);
    lines.write(line(2));
    EXPECT_EQ(text(), whole + line(2) + "\n");
}

}  // namespace
}  // namespace spikefloss::test
