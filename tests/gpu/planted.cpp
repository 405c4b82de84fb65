// Faults for the rehearsal of tests/gpu/run: a case that aborts and a case that hangs, between cases that pass. ctest
// does not run them.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

namespace spikefloss {

TEST(Planted, Before) { EXPECT_EQ(1 + 1, 2); }

TEST(Planted, Crash) {
    std::printf("output before the crash\n");
    std::fflush(stdout);
    std::abort();
}

// tests.cmake sets it for the entry.
TEST(Planted, Variable) { EXPECT_STREQ(std::getenv("SPIKEFLOSS_PLANTED"), "a value"); }

// Two of these run at the same time. Neither may see the files of the other.
void use_own_folder() {
    const char* base = std::getenv("OMPI_MCA_orte_tmpdir_base");
    ASSERT_NE(base, nullptr);
    const std::filesystem::path mark = std::filesystem::path(base) / "in_use";
    EXPECT_TRUE(std::filesystem::create_directory(mark));
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    EXPECT_TRUE(std::filesystem::remove(mark));
}
TEST(Planted, OwnFolder) { use_own_folder(); }
TEST(Planted, OtherFolder) { use_own_folder(); }

TEST(Planted, Between) { EXPECT_EQ(1 + 1, 2); }

TEST(Planted, Failure) { EXPECT_EQ(1 + 1, 3); }

// Ends by itself, so that no process stays if the rehearsal itself is killed.
TEST(Planted, Hang) {
    std::printf("output before the hang\n");
    std::fflush(stdout);
    std::this_thread::sleep_for(std::chrono::seconds(90));
    FAIL() << "nothing ended this case";
}

TEST(Planted, After) { EXPECT_EQ(1 + 1, 2); }

}  // namespace spikefloss
