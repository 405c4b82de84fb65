// Options that accept the same values as a key, and config files with a text that the program cannot read.
#include "config/error_text.hpp"
#include "config/schema.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace spikefloss {
namespace {

std::string refused(const std::string& path, const std::string& text) {
    return usage_error([&] {
        Config config;
        set_key_text(path, text, "--option " + text + ": ", config);
    });
}

TEST(OptionText, TakesWhatTheKeyTakes) {
    Config config;
    set_key_text("flossing.exponents", "7", "", config);
    set_key_text("flossing.target", "0.5", "", config);
    set_key_text("watchdog.seconds", "2.5", "", config);
    set_key_text("parallel.backend", "cpu", "", config);
    EXPECT_EQ(config.flossing.exponents, 7);
    EXPECT_EQ(config.flossing.target, std::vector<double>{0.5});
    EXPECT_EQ(config.watchdog.seconds, 2.5);
    EXPECT_EQ(config.parallel.backend, BackendKind::cpu);
    set_key_text("flossing.target", "0, -0.25", "", config);
    EXPECT_EQ(config.flossing.target, (std::vector<double>{0.0, -0.25}));
}

TEST(OptionText, RefusesWhatTheKeyRefuses) {
    for (const char* number : {"flossing.exponents", "flossing.warmup", "flossing.qr_interval", "run.seed",
                               "train.test_batches", "parallel.threads", "watchdog.seconds"})
        for (const char* text : {"", "nan", "-nan", "inf", "-inf", "-1", "1e300", "x", "1x", "0,1", "1 2", "[1]"}) {
            const std::string said = refused(number, text);
            EXPECT_HAS(said, number);
            EXPECT_HAS(said, "--option");
            EXPECT_HAS(said, "what to do");
        }
    for (const char* text : {"nan", "-nan", "inf", "0,nan", "nan,0", "1e300", "0,,1", "x", "0;1", "[0,nan]"})
        EXPECT_HAS(refused("flossing.target", text), "flossing.target");
    EXPECT_HAS(refused("flossing.exponents", "0"), "from 1 to");
    EXPECT_HAS(refused("parallel.backend", "tpu"), "choose from auto, cpu, cuda");
}

class ConfigText : public testing::Test {
protected:
    ConfigText() : path(std::filesystem::temp_directory_path() / fmt::format("option_text_{}.toml", ::getpid())) {}
    ~ConfigText() override { std::filesystem::remove(path); }
    std::string error(const std::string& bytes) const {
        std::ofstream(path, std::ios::binary) << bytes;
        return error();
    }
    std::string error() const {
        return usage_error([&] {
            Config config;
            read_config(path, config);
        });
    }
    const std::string path;
};

TEST_F(ConfigText, OtherEncodingsAreNamed) {
    std::string little = "\xff\xfe", big = "\xfe\xff";
    for (const char c : std::string("[train]\nsteps = 3\n")) little += {c, '\0'}, big += {'\0', c};
    for (const std::string& text : {little, big, little.substr(2), big.substr(2)}) {
        EXPECT_HAS(error(text), "UTF-16");
        EXPECT_HAS(error(text), "save it as UTF-8");
    }
    EXPECT_HAS(error("[run]\ndirectory = \"caf\xe9\"\n"), "save the file as UTF-8");
    EXPECT_EQ(error("\xef\xbb\xbf[train]\nsteps = 3\n"), "");  // the byte order mark of UTF-8
    EXPECT_EQ(error("[run]\ndirectory = \"caf\xc3\xa9\"\n"), "");
}

TEST_F(ConfigText, WhatIsNoFileIsNotWaitedFor) {
    ASSERT_EQ(::mkfifo(path.c_str(), 0666), 0);
    EXPECT_HAS(error(), "it is a FIFO");
    std::filesystem::remove(path);
    std::filesystem::create_symlink("/dev/zero", path);
    EXPECT_HAS(error(), "a device");
    std::filesystem::remove(path);
    EXPECT_HAS(error(std::string((std::size_t(1) << 24) + 1, '#')), "more than 16 MB");
}

}  // namespace
}  // namespace spikefloss
