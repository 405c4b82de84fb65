// Files that are written whole, and the files that a command may write over.
#include "core/whole_file.hpp"

#include "core/error.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

namespace spikefloss::test {
namespace {

namespace fs = std::filesystem;

class WholeFile : public testing::Test {
protected:
    WholeFile() {
        std::string name = (fs::temp_directory_path() / "whole_file_XXXXXX").string();
        if (!mkdtemp(name.data())) std::abort();
        folder = name;
    }
    ~WholeFile() override { fs::remove_all(folder); }

    std::string at(const std::string& name) const { return (folder / name).string(); }
    std::string write(const std::string& name, const std::string& text) const {
        std::ofstream(at(name)) << text;
        return at(name);
    }
    static std::string text_of(const std::string& path) {
        std::ifstream file(path);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    int partial_files() const {
        int count = 0;
        for (const auto& entry : fs::directory_iterator(folder)) count += entry.path().string().ends_with(".partial");
        return count;
    }
    // The refusal of an output; "" if it may be written. Files that begin with "ours" are results of the command.
    std::string refusal(const std::string& path, std::vector<std::string> inputs = {}, bool overwrite = false) const {
        const auto is_ours = [](const std::string& file) { return text_of(file).starts_with("ours"); };
        try {
            require_may_write({"--output", path, "one of ours", std::move(inputs), is_ours, overwrite});
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), Exit::usage) << error.what();
            EXPECT_NE(std::string(error.what()).find("what to do"), std::string::npos) << error.what();
            return error.what();
        }
        return "";
    }
    void expect_refused(const std::string& reason, const std::string& path, std::vector<std::string> inputs = {},
                        bool overwrite = false) const {
        const std::string said = refusal(path, std::move(inputs), overwrite);
        EXPECT_NE(said.find(reason), std::string::npos) << path << ": " << said;
    }
    fs::path folder;
};

TEST_F(WholeFile, ReplacesTheFileAndTakesTheModeOfTheUmask) {
    const std::string path = write("a", "old");
    const mode_t before = ::umask(027);
    write_whole_file(path, "new");
    ::umask(before);
    EXPECT_EQ(text_of(path), "new");
    struct stat state = {};
    ASSERT_EQ(::stat(path.c_str(), &state), 0);
    EXPECT_EQ(state.st_mode & 07777, 0640u);
    EXPECT_EQ(partial_files(), 0);
}

TEST_F(WholeFile, WritesThroughLinksAndKeepsThem) {
    fs::create_directory(folder / "sub");
    write("sub/real", "old");
    fs::create_symlink("sub/real", folder / "one");
    fs::create_symlink("one", folder / "two");
    fs::create_symlink("sub/new", folder / "dangling");
    write_whole_file(at("two"), "new");
    write_whole_file(at("dangling"), "fresh");
    EXPECT_EQ(text_of(at("sub/real")), "new");
    EXPECT_EQ(text_of(at("sub/new")), "fresh");
    for (const char* link : {"one", "two", "dangling"}) EXPECT_TRUE(fs::is_symlink(folder / link)) << link;
    fs::create_symlink("circle", folder / "circle");
    EXPECT_THROW(write_whole_file(at("circle"), "x"), Error);
}

TEST_F(WholeFile, WritersAtOnceAllSucceed) {
    std::atomic<int> failed = 0;
    std::vector<std::thread> writers;
    for (int w = 0; w < 8; ++w)
        writers.emplace_back([&, w] {
            for (int i = 0; i < 20; ++i) try {
                    write_whole_file(at("a"), std::string(1000, static_cast<char>('a' + w)));
                } catch (const Error&) {
                    ++failed;
                }
        });
    for (std::thread& writer : writers) writer.join();
    EXPECT_EQ(failed, 0);
    const std::string text = text_of(at("a"));
    EXPECT_EQ(text, std::string(1000, text[0]));
    EXPECT_EQ(partial_files(), 0);
}

TEST_F(WholeFile, ANameAsLongAsTheSystemTakes) {
    const std::string name(255, 'n');
    write_whole_file(at(name), "text");
    EXPECT_EQ(text_of(at(name)), "text");
}

TEST_F(WholeFile, NeverReplacesWhatIsNoRegularFile) {
    ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0666), 0);
    EXPECT_THROW(write_whole_file(at("fifo"), "x"), Error);
    EXPECT_TRUE(fs::is_fifo(folder / "fifo"));
    fs::create_directory(folder / "sub");
    EXPECT_THROW(write_whole_file(at("sub"), "x"), Error);
    EXPECT_EQ(partial_files(), 0);
}

TEST_F(WholeFile, RemovesWhatADeadProcessLeftAndNothingElse) {
    const auto make_old = [&](const std::string& name) {
        fs::last_write_time(folder / name, fs::file_time_type::clock::now() - std::chrono::hours(1));
    };
    for (const char* name : {"a.1234.partial", "b.1234.partial"}) write(name, "left"), make_old(name);
    write("a.young.partial", "perhaps not locked yet");
    const PartialFile alive(at("a"));
    make_old(fs::path(alive.name()).filename());
    write_whole_file(at("a"), "text");
    EXPECT_FALSE(fs::exists(folder / "a.1234.partial"));
    EXPECT_TRUE(fs::exists(folder / "b.1234.partial")) << "it belongs to another target";
    EXPECT_TRUE(fs::exists(folder / "a.young.partial"));
    EXPECT_TRUE(fs::exists(alive.name())) << "its process lives";
}

TEST_F(WholeFile, AnOutputIsNoInputHoweverItIsSpelled) {
    const std::string input = write("mine", "ours: an input all the same");
    fs::create_directory(folder / "sub");
    fs::create_hard_link(input, folder / "hard");
    fs::create_symlink("mine", folder / "soft");
    fs::create_symlink("soft", folder / "softer");
    fs::create_directory_symlink(".", folder / "here");
    for (const char* name : {"mine", "./mine", "sub/../mine", "hard", "soft", "softer", "here/mine", "here/here/hard"})
        for (const bool overwrite : {false, true})
            expect_refused("would overwrite the input", at(name), {"x", input}, overwrite);
    expect_refused("would overwrite the input", input, {at("softer")});
    EXPECT_EQ(refusal(at("new"), {input}), "");
}

TEST_F(WholeFile, AnOutputIsNoFileThatIsReadWithItsDirectory) {
    fs::create_directories(folder / "run/tensorboard");
    write("run/config.toml", "key");
    write("run/report", "ours");
    write("run/tensorboard/events", "x");
    fs::create_hard_link(folder / "run/config.toml", folder / "elsewhere");
    for (const char* name : {"run/config.toml", "run/../run/config.toml", "elsewhere", "run/tensorboard/events"})
        for (const bool overwrite : {false, true})
            expect_refused("would overwrite the input", at(name), {at("run")}, overwrite);
    EXPECT_EQ(refusal(at("run/report"), {at("run")}), "");
    EXPECT_EQ(refusal(at("run/new"), {at("run")}), "");
}

TEST_F(WholeFile, AnOutputIsARegularFile) {
    ASSERT_EQ(::mkfifo(at("fifo").c_str(), 0666), 0);
    fs::create_symlink("fifo", folder / "link");
    fs::create_directory(folder / "sub");
    const int socket = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, at("socket").c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    for (const bool overwrite : {false, true}) {
        expect_refused("is a FIFO", at("fifo"), {}, overwrite);
        expect_refused("is a FIFO", at("link"), {}, overwrite);
        expect_refused("is a folder", at("sub"), {}, overwrite);
        expect_refused("is a folder", at("sub") + "/", {}, overwrite);
        expect_refused("is a socket", at("socket"), {}, overwrite);
        expect_refused("is a device", "/dev/null", {}, overwrite);
    }
    ::close(socket);
}

TEST_F(WholeFile, AFileOfOthersNeedsOverwrite) {
    const std::string thesis = write("thesis", "my thesis");
    fs::create_symlink("thesis", folder / "link");
    for (const char* name : {"thesis", "link"}) {
        expect_refused("--overwrite", at(name));
        EXPECT_EQ(refusal(at(name), {}, true), "");
    }
    EXPECT_EQ(refusal(write("before", "ours of yesterday")), "");
    EXPECT_EQ(refusal(write("empty", "")), "") << "mktemp makes such files";
}

TEST_F(WholeFile, AFolderThatIsNotThereIsTold) {
    try {
        require_may_write({"--output", at("missing/a"), "one of ours", {}, {}, false});
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), Exit::storage);
        EXPECT_NE(std::string(error.what()).find("No such file or directory"), std::string::npos) << error.what();
    }
    EXPECT_NE(refusal(""), "");
}

}  // namespace
}  // namespace spikefloss::test
