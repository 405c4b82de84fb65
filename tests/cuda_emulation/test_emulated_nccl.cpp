// The emulation of NCCL over MPI: rendezvous, parts of a communicator, every collective, capture, abort.
#include "emulation_test.hpp"

#include <mpi.h>
#include <nccl.h>

namespace {

class EmulatedNccl : public Emulation {
protected:
    void SetUp() override {
        Emulation::SetUp();
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
        ncclUniqueId id;
        if (rank_ == 0) ncclGetUniqueId(&id);
        MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, MPI_COMM_WORLD);
        // The reverse of the order in MPI_COMM_WORLD.
        me_ = size_ - 1 - rank_;
        ASSERT_EQ(ncclCommInitRank(&comm_, size_, id, me_), ncclSuccess);
    }
    void TearDown() override {
        EXPECT_EQ(ncclCommDestroy(comm_), ncclSuccess);
        Emulation::TearDown();
    }
    std::vector<float> ranks(std::size_t each) const {
        std::vector<float> values;
        for (int r = 0; r < size_; ++r) values.insert(values.end(), each, static_cast<float>(r));
        return values;
    }
    // A graph of the sum of one float over the ranks of `comm`.
    cudaGraphExec_t recorded_sum(float* data, ncclComm_t comm) {
        cudaStreamSynchronize(stream_);
        cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal);
        EXPECT_EQ(ncclAllReduce(data, data, 1, ncclFloat32, ncclSum, comm, stream_), ncclSuccess);
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t exec = nullptr;
        EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
        EXPECT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
        cudaGraphDestroy(graph);
        return exec;
    }

    ncclComm_t comm_ = nullptr;
    int rank_ = 0, size_ = 1, me_ = 0;
};

TEST_F(EmulatedNccl, Collectives) {
    const float mine = static_cast<float>(me_), sum = static_cast<float>(size_ * (size_ - 1) / 2);
    float* data = buffer(std::vector<float>{mine, 1});
    EXPECT_EQ(ncclAllReduce(data, data, 2, ncclFloat32, ncclSum, comm_, stream_), ncclSuccess);
    EXPECT_EQ(read(data, 2), (std::vector<float>{sum, static_cast<float>(size_)}));

    data = buffer(std::vector<float>{mine});
    float* all = buffer<float>(static_cast<std::size_t>(size_));
    EXPECT_EQ(ncclAllGather(data, all, 1, ncclFloat32, comm_, stream_), ncclSuccess);
    EXPECT_EQ(read(all, static_cast<std::size_t>(size_)), ranks(1));
    EXPECT_EQ(ncclReduceScatter(all, data, 1, ncclFloat32, ncclSum, comm_, stream_), ncclSuccess);
    EXPECT_EQ(read(data, 1)[0], mine * static_cast<float>(size_));

    data = buffer(std::vector<float>{mine});
    EXPECT_EQ(ncclBroadcast(data, data, 1, ncclFloat32, size_ - 1, comm_, stream_), ncclSuccess);
    EXPECT_EQ(read(data, 1)[0], static_cast<float>(size_ - 1));
    data = buffer(std::vector<float>{mine});
    float* total = buffer(std::vector<float>{-1});
    EXPECT_EQ(ncclReduce(data, total, 1, ncclFloat32, ncclSum, 0, comm_, stream_), ncclSuccess);
    EXPECT_EQ(read(total, 1)[0], me_ == 0 ? sum : -1.0f);
}

TEST_F(EmulatedNccl, PartsAndReplay) {
    ncclComm_t part = nullptr;
    ASSERT_EQ(ncclCommSplit(comm_, me_ % 2, me_, &part, nullptr), ncclSuccess);
    const int size = (size_ + 1 - me_ % 2) / 2;
    float* data = buffer(std::vector<float>{1});
    const cudaGraphExec_t exec = recorded_sum(data, part);
    for (int i = 0; i < 2; ++i) cudaGraphLaunch(exec, stream_);
    EXPECT_EQ(read(data, 1)[0], static_cast<float>(size * size));
    cudaGraphExecDestroy(exec);
    EXPECT_EQ(ncclCommDestroy(part), ncclSuccess);
}

// NCCL waits for graphs that recorded its collectives, so an abort before their end would not return.
TEST_F(EmulatedNccl, GraphsMustEndBeforeTheirCommunicator) {
    ncclComm_t part = nullptr;
    ASSERT_EQ(ncclCommSplit(comm_, 0, me_, &part, nullptr), ncclSuccess);
    float* data = buffer(std::vector<float>{1});
    const cudaGraphExec_t exec = recorded_sum(data, part);
    if (size_ == 1) {
        EXPECT_DEATH(ncclCommAbort(part), "ncclCommAbort waits without end: 1 graphs");
    }
    cudaGraphExecDestroy(exec);
    EXPECT_EQ(ncclCommAbort(part), ncclSuccess);
    MPI_Barrier(MPI_COMM_WORLD);
}

TEST_F(EmulatedNccl, ALateRankDoesNotBlockQueriesAndAbortEndsTheWait) {
    ncclComm_t part = nullptr;
    ASSERT_EQ(ncclCommSplit(comm_, 0, me_, &part, nullptr), ncclSuccess);
    if (me_ == 0) {  // the others never call
        float* data = buffer(std::vector<float>{1});
        EXPECT_EQ(ncclAllReduce(data, data, 1, ncclFloat32, ncclSum, part, stream_), ncclSuccess);
        // A single rank is never late: it is done at the second query.
        for (int i = 0; i < 5; ++i)
            EXPECT_EQ(cudaStreamQuery(stream_), size_ > 1 || i == 0 ? cudaErrorNotReady : cudaSuccess);
        EXPECT_EQ(ncclCommAbort(part), ncclSuccess);
        EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
        EXPECT_EQ(ncclAllReduce(data, data, 1, ncclFloat32, ncclSum, part, stream_), ncclInvalidUsage);
    } else {
        EXPECT_EQ(ncclCommAbort(part), ncclSuccess);
    }
    MPI_Barrier(MPI_COMM_WORLD);
}

}  // namespace
