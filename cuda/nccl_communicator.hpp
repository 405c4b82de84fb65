// Communicator on device memory through NCCL, with one GPU per rank. Operations are queued on the backend's stream;
// overlapping sums have their own stream.
//
// If a rank is lost, the streams of the others wait for ever. So while the host waits for its stream, it checks the
// communicators for errors. After the time limit it polls all ranks over MPI (parallel/watchdog.hpp). Then it aborts
// all communicators, which frees the stream, and an error that names the lost rank ends the job. A call of NCCL itself
// waits for other ranks only while communicators are made or connected. The watchdog ends a rank that waits there for
// too long. (NCCL's non-blocking communicators would start a thread for every collective.)
#pragma once

#include "cuda_backend.hpp"
#include "parallel/process_grid.hpp"

#include <nccl.h>

#include <functional>
#include <memory>

namespace spikefloss {

// The three communicators of a rank. If one fails, all are aborted.
class NcclSession {
public:
    // Collective over the grid.
    NcclSession(CudaBackend& backend, const ProcessGrid& grid);
    ~NcclSession();
    NcclSession(const NcclSession&) = delete;
    NcclSession& operator=(const NcclSession&) = delete;

    ncclComm_t world() const { return world_; }
    ncclComm_t neurons() const { return neurons_; }
    ncclComm_t batch() const { return batch_; }
    // Calls `function`, a call of NCCL on `comm` (null: on none). If it fails, aborts all communicators and throws.
    void call(const char* name, ncclComm_t comm, const std::function<ncclResult_t()>& function);
    // fork returns the second stream, which then waits for what is queued on the backend's stream now. join makes the
    // backend's stream wait for the second.
    cudaStream_t fork();
    void join();
    // Called several times a second while the host waits for the stream.
    void waiting(double waited);

private:
    void start(const ProcessGrid& grid);
    void abort() noexcept;
    [[noreturn]] void fail(ncclResult_t result, ncclComm_t comm, const char* name);

    CudaBackend& backend_;
    std::shared_ptr<Watchdog> watchdog_;
    ncclComm_t world_ = nullptr, neurons_ = nullptr, batch_ = nullptr;
    cudaStream_t side_ = nullptr;
    cudaEvent_t reached_ = nullptr;
};

class NcclCommunicator final : public Communicator {
public:
    // comm may be null if its group has one rank, session if the grid has one rank.
    NcclCommunicator(std::shared_ptr<NcclSession> session, ncclComm_t comm, CudaBackend& backend, int rank, int size);

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_gather(const void* send, void* receive, std::span<const Index> bytes) override;
    void reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) override;
    void all_reduce_sum(void* data, Scalar type, Index count) override;
    void broadcast(void* data, Index bytes, int root) override;
    // Also waits for the stream.
    void barrier() override;
    bool overlaps() const override { return comm_ != nullptr; }
    void begin_sums(std::span<const SumRange> ranges, Scalar type) override;
    void finish_sums() override;
    bool recorded() const override { return comm_ != nullptr; }

private:
    // Runs `calls`, which makes the NCCL calls of one operation and returns the first failure.
    void group(const char* name, const std::function<ncclResult_t()>& calls);

    std::shared_ptr<NcclSession> session_;
    ncclComm_t comm_;
    CudaBackend& backend_;
    int rank_, size_;
    struct Free {
        CudaBackend* backend;
        void operator()(void* data) const { backend->deallocate(data); }
    };
    std::unique_ptr<void, Free> flag_;  // [1] float, of barrier()
};

// always: use NCCL also with one rank. Collective.
Communicators nccl_communicators(CudaBackend& backend, const ProcessGrid& grid, bool always);

}  // namespace spikefloss
