// Communicator on device memory through NCCL, one GPU per rank: every operation is queued on the backend's stream, but
// for sums that overlap, which have a stream of their own.
//
// A lost rank leaves the others' streams waiting for ever. So whenever the host waits for its stream, the communicators
// are asked for errors, and after the time limit the roll is called over MPI (parallel/watch.hpp); then all
// communicators are aborted, which frees the stream, and the error that names the rank ends the job. A call of NCCL
// itself waits for other ranks only while communicators are made or connected; the watch ends a rank that does so for
// too long. (NCCL's non-blocking communicators would start a thread for every collective.)
#pragma once

#include "cuda_backend.hpp"
#include "parallel/process_grid.hpp"

#include <nccl.h>

#include <functional>
#include <memory>

namespace spikefloss {

// The three communicators of a rank, which share their fate.
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
    // Makes a call of NCCL on `comm` (null: on none); aborts all and throws when it fails.
    void call(const char* name, ncclComm_t comm, const std::function<ncclResult_t()>& function);
    // The stream beside the backend's, once it waits for what is queued on that now; and the other way round.
    cudaStream_t fork();
    void join();
    // What to do several times a second while the stream is waited for.
    void waiting(double waited);

private:
    void start(const ProcessGrid& grid);
    void abort() noexcept;
    [[noreturn]] void fail(ncclResult_t result, ncclComm_t comm, const char* name);

    CudaBackend& backend_;
    std::shared_ptr<Watch> watch_;
    ncclComm_t world_ = nullptr, neurons_ = nullptr, batch_ = nullptr;
    cudaStream_t side_ = nullptr;
    cudaEvent_t reached_ = nullptr;
};

class NcclCommunicator final : public Communicator {
public:
    // session and comm are null for a rank alone.
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
    // Runs `calls`, NCCL calls that form one operation; it gives the result of the first that failed.
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

// always: also for a rank alone. Collective.
Communicators nccl_communicators(CudaBackend& backend, const ProcessGrid& grid, bool always);

}  // namespace spikefloss
