// The ranks that share a machine: MPI compared with host names.
#include "commands/machines.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

using Hosts = std::vector<std::string>;
using Machines = std::vector<int>;

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Machines, NamesThatAgree) {
    EXPECT_EQ(contradiction_of(Hosts{"a"}, Machines{0}), "");
    EXPECT_EQ(contradiction_of(Hosts{"a", "a", "b", "b"}, Machines{0, 0, 2, 2}), "");
    EXPECT_EQ(contradiction_of(Hosts{"a", "b", "a", "b"}, Machines{0, 1, 0, 1}), "");
}

TEST(Machines, OneNameOfTwo) {
    const std::string text = contradiction_of(Hosts{"a", "node", "b", "node"}, Machines{0, 1, 2, 3});
    EXPECT_TRUE(has(text, "rank 1 (node) and rank 3 (node) are on two machines")) << text;
}

TEST(Machines, TwoNamesOfOne) {
    const std::string text = contradiction_of(Hosts{"a", "a", "b"}, Machines{0, 0, 0});
    EXPECT_TRUE(has(text, "rank 0 (a) and rank 2 (b) are on one machine")) << text;
}

}  // namespace
}  // namespace spikefloss
