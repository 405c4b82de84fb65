// A stopwatch counts at most the longest gap between two readings, so most of a suspension does not count.
#include "core/stopwatch.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include <sys/wait.h>
#include <unistd.h>

namespace spikefloss {
namespace {

using std::chrono::milliseconds;

TEST(Stopwatch, CountsAllWhileItIsLookedAt) {
    const auto start = std::chrono::steady_clock::now();
    Stopwatch stopwatch(1000.0);
    double seconds = 0.0;
    while (seconds < 0.05) {
        const double next = stopwatch.seconds();
        EXPECT_GE(next, seconds);
        seconds = next;
    }
    EXPECT_NEAR(seconds, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), 0.01);
}

TEST(Stopwatch, CountsAtMostTheLongestGap) {
    Stopwatch stopwatch(0.01);
    std::this_thread::sleep_for(milliseconds(100));
    EXPECT_LE(stopwatch.seconds(), 0.01);
    std::this_thread::sleep_for(milliseconds(100));
    EXPECT_LE(stopwatch.seconds(), 0.02);
    EXPECT_GE(stopwatch.seconds(), 0.02);
}

// The child counts half a second of its own. Then it is suspended for another second.
TEST(Stopwatch, TimeOfASuspensionDoesNotCount) {
    const auto start = std::chrono::steady_clock::now();
    const pid_t child = fork();
    if (child == 0) {
        Stopwatch stopwatch(0.05);
        while (stopwatch.seconds() < 0.5) std::this_thread::sleep_for(milliseconds(1));
        _exit(0);
    }
    ASSERT_GT(child, 0);
    std::this_thread::sleep_for(milliseconds(50));
    kill(child, SIGSTOP);
    std::this_thread::sleep_for(milliseconds(1000));
    kill(child, SIGCONT);
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
    EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(1400));
}

}  // namespace
}  // namespace spikefloss
