// Limits of control groups, read from trees of files as in Linux, Slurm and containers.
#include "backend/memory_groups.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>

#include <unistd.h>

namespace spikefloss {
namespace {

constexpr std::size_t none = std::numeric_limits<std::size_t>::max();
constexpr const char* second_mount =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
constexpr const char* first_mounts =
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

class MemoryGroups : public testing::Test {
protected:
    MemoryGroups() : root_(std::filesystem::temp_directory_path() / ("groups_" + std::to_string(::getpid()))) {}
    ~MemoryGroups() override { std::filesystem::remove_all(root_); }

    void file(const std::string& path, const std::string& text) {
        std::filesystem::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text;
    }
    void process(const std::string& groups, const std::string& mounts) {
        file("proc/self/cgroup", groups);
        file("proc/self/mountinfo", mounts);
    }
    void second(const std::string& group, const std::string& limit, const std::string& used,
                const std::string& stat = "anon 7\n") {
        file("sys/fs/cgroup" + group + "/memory.max", limit + "\n");
        file("sys/fs/cgroup" + group + "/memory.current", used + "\n");
        file("sys/fs/cgroup" + group + "/memory.stat", stat);
    }
    void first(const std::string& group, const std::string& limit, const std::string& used) {
        file("sys/fs/cgroup/memory" + group + "/memory.limit_in_bytes", limit + "\n");
        file("sys/fs/cgroup/memory" + group + "/memory.usage_in_bytes", used + "\n");
        file("sys/fs/cgroup/memory" + group + "/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n");
    }
    std::size_t left() const { return left_by_memory_groups(root_); }

private:
    std::filesystem::path root_;
};

TEST_F(MemoryGroups, NoneIsNoLimit) {
    EXPECT_EQ(left(), none);
    process("0::/\n", second_mount);
    EXPECT_EQ(left(), none);  // the group at the top has no files
}

TEST_F(MemoryGroups, OwnGroup) {
    process("0::/job/step\n", second_mount);
    second("/job/step", "1000", "300");
    EXPECT_EQ(left(), 700u);
    second("/job/step", "1000", "1200");
    EXPECT_EQ(left(), 0u);
    second("/job/step", "max", "1200");
    EXPECT_EQ(left(), none);
}

TEST_F(MemoryGroups, GroupsAboveIt) {
    process("0::/slurm/job_7/step_0/task_0\n", second_mount);
    second("/slurm/job_7/step_0/task_0", "max", "300");
    second("/slurm/job_7/step_0", "2000", "400");
    second("/slurm/job_7", "1000", "450");
    second("/slurm", "max", "9000");
    EXPECT_EQ(left(), 550u);
    second("", "600", "500");
    EXPECT_EQ(left(), 100u);
}

TEST_F(MemoryGroups, PagesOfFilesCanBeDropped) {
    process("0::/job\n", second_mount);
    second("/job", "1000", "900", "anon 100\nfile 800\ninactive_file 600\nactive_file 200\n");
    EXPECT_EQ(left(), 700u);
    second("/job", "1000", "500", "inactive_file 600\n");
    EXPECT_EQ(left(), 1000u);
}

TEST_F(MemoryGroups, FirstVersion) {
    process("9:name=systemd:/\n4:cpu,memory:/slurm/job_7/step_0\n1:cpu:/other\n0::/\n", first_mounts);
    first("/slurm/job_7/step_0", "9223372036854771712", "300");
    EXPECT_GT(left(), std::size_t{1} << 60);
    first("/slurm/job_7", "1000", "450");
    EXPECT_EQ(left(), 600u);
}

// In a container of version 1, the group of the container is the top, under the name that it has outside.
TEST_F(MemoryGroups, Containers) {
    process("4:memory:/docker/abc/inner\n",
            "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
    first("", "1000", "150");
    EXPECT_EQ(left(), 900u);
    first("/inner", "1000", "350");
    EXPECT_EQ(left(), 700u);
    process("0::/../../other\n", second_mount);
    second("", "1000", "990");
    EXPECT_EQ(left(), 10u);
}

}  // namespace
}  // namespace spikefloss
