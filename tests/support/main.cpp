// Runs GoogleTest under MPI: a failure on any rank fails every rank, failures of other ranks are printed with their
// rank, and a run without any executed test is a failure.
#include "parallel/mpi_communicator.hpp"

#include <gtest/gtest.h>

#include <cstdio>

namespace {

// Ranks other than 0 print only their failures.
class FailurePrinter : public testing::EmptyTestEventListener {
public:
    explicit FailurePrinter(int rank) : rank_(rank) {}
    void OnTestPartResult(const testing::TestPartResult& result) override {
        if (!result.failed()) return;
        std::printf("[rank %d] %s:%d: %s\n", rank_, result.file_name() ? result.file_name() : "?", result.line_number(),
                    result.summary());
        std::fflush(stdout);
    }

private:
    int rank_;
};

}  // namespace

int main(int argc, char** argv) {
    spikefloss::MpiSession mpi(&argc, &argv, spikefloss::MpiSession::Start::always);
    testing::InitGoogleTest(&argc, argv);
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    if (rank != 0) {
        delete listeners.Release(listeners.default_result_printer());
        listeners.Append(new FailurePrinter(rank));
    }
    int failed = RUN_ALL_TESTS();
    if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
        std::printf("no test ran\n");
        failed = 1;
    }
    MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return failed;
}
