// Environments that make a process one of several ranks, and environments that only seem to.
#include "parallel/launch.hpp"

#include <gtest/gtest.h>

#include <map>

namespace spikefloss {
namespace {

using Variables = std::map<std::string, std::string>;

void put(Variables& variables, const char* name, const char* value) {
    variables.erase(name);
    variables.emplace(name, value);
}

Environment environment_of(const Variables& variables) {
    return {[&variables](const char* name) -> const char* {
                const auto found = variables.find(name);
                return found == variables.end() ? nullptr : found->second.c_str();
            },
            [&variables](const char* prefix) {
                const auto found = variables.lower_bound(prefix);
                return found != variables.end() && found->first.rfind(prefix, 0) == 0;
            }};
}

bool rank(const Variables& variables) { return started_as_rank(environment_of(variables)); }
std::string foreign(const Variables& variables) { return foreign_launch(environment_of(variables)); }

const Variables by_mpirun = {
    {"OMPI_COMM_WORLD_SIZE", "4"}, {"PMIX_RANK", "2"}, {"PMIX_SERVER_URI2", "x;tcp4://127.0.0.1:1"}};
const Variables by_srun = {{"SLURM_NTASKS", "4"},
                           {"SLURM_STEP_NUM_TASKS", "4"},
                           {"PMIX_RANK", "2"},
                           {"PMIX_NAMESPACE", "slurm.pmix.1.0"},
                           {"PMIX_SERVER_URI3", "pmix-server.1;tcp4://127.0.0.1:1"}};

TEST(Launch, RanksOfLaunchers) {
    EXPECT_TRUE(rank(by_mpirun));
    EXPECT_TRUE(rank(by_srun));
    EXPECT_TRUE(rank({{"PMIX_RANK", "0"}, {"PMIX_SERVER_URI41", "x"}}));  // another launcher with a PMIx server
}

TEST(Launch, OneProcess) {
    EXPECT_FALSE(rank({}));
    EXPECT_FALSE(rank({{"OMPI_COMM_WORLD_SIZE", "1"}, {"PMIX_RANK", "0"}, {"PMIX_SERVER_URI2", "x"}}));
    Variables alone = by_srun;
    put(alone, "SLURM_STEP_NUM_TASKS", "1");
    EXPECT_FALSE(rank(alone));
}

TEST(Launch, LeftOverVariables) {
    EXPECT_FALSE(rank({{"PMIX_RANK", "0"}, {"PMIX_NAMESPACE", "x"}}));
    EXPECT_FALSE(rank({{"PMIX_SERVER_URI2", "x"}}));
    EXPECT_FALSE(rank({{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_PROCID", "0"}}));  // a batch script
    EXPECT_FALSE(rank({{"OMPI_MCA_btl", "tcp"}}));
}

TEST(Launch, Machines) {
    const auto one = [](const Variables& variables) { return all_on_one_machine(environment_of(variables)); };
    EXPECT_TRUE(one({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"}}));
    EXPECT_FALSE(one({{"OMPI_COMM_WORLD_SIZE", "4"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}));
    EXPECT_FALSE(one({}));
    EXPECT_FALSE(one(by_srun));
}

TEST(Launch, OtherMpis) {
    EXPECT_EQ(foreign({{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}}), "PMI_SIZE says 2 processes");
    EXPECT_EQ(foreign({{"MPI_LOCALNRANKS", "3"}}), "MPI_LOCALNRANKS says 3 processes");
    EXPECT_EQ(foreign({{"PMI_SIZE", "1"}}), "");
    EXPECT_EQ(foreign({}), "");
    Variables both = by_mpirun;
    put(both, "PMI_SIZE", "8");  // mpirun inside a job of another launcher
    EXPECT_EQ(foreign(both), "");
    put(both, "OMPI_COMM_WORLD_SIZE", "1");
    EXPECT_EQ(foreign(both), "");
}

}  // namespace
}  // namespace spikefloss
