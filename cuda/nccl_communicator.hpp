// Communicator on device memory through NCCL, one GPU per rank: every operation is queued on the backend's stream.
//
// A lost rank leaves the others' streams waiting for ever. So whenever the host waits for its stream, the communicators
// are asked for errors, and after the time limit the roll is called over MPI (parallel/watch.hpp); then all
// communicators are aborted, which frees the stream, and the error that names the rank ends the job.
#pragma once

#include "cuda_backend.hpp"
#include "parallel/process_grid.hpp"

#include <nccl.h>

#include <memory>
#include <vector>

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
    CudaBackend& backend() const { return backend_; }

    // Waits until `comm` has taken what `call` asked for; aborts all and throws when that failed.
    void settle(ncclResult_t result, ncclComm_t comm, const char* call);
    // What to do several times a second while the stream is waited for.
    void waiting(double waited);

private:
    void start(const ProcessGrid& grid);
    void abort() noexcept;
    [[noreturn]] void fail(ncclResult_t result, ncclComm_t comm, const char* call);

    CudaBackend& backend_;
    std::shared_ptr<Watch> watch_;
    ncclComm_t world_ = nullptr, neurons_ = nullptr, batch_ = nullptr;
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

private:
    // Runs `calls`, NCCL calls that form one operation.
    template <class Calls>
    void group(const char* call, Calls&& calls);

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
