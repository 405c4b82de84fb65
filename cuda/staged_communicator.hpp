// Communicator on device memory through pinned host memory and a communicator of the host. MPI gets no device pointers,
// and several ranks can share one GPU, which NCCL does not allow. Every operation waits for the backend's stream, so it
// is slower than NCCL. Its result is queued on that stream, so later operations see it.
#pragma once

#include "cuda_backend.hpp"
#include "parallel/communicator.hpp"

#include <memory>

namespace spikefloss {

// Page-locked host memory that grows on demand.
class PinnedBuffer {
public:
    PinnedBuffer() = default;
    ~PinnedBuffer();
    PinnedBuffer(const PinnedBuffer&) = delete;
    PinnedBuffer& operator=(const PinnedBuffer&) = delete;
    // At least `bytes`. If the buffer grows, its contents are lost, and no queued operation may use it at that time.
    void* get(std::size_t bytes);

private:
    void* data_ = nullptr;
    std::size_t size_ = 0;
};

class StagedCommunicator final : public Communicator {
public:
    StagedCommunicator(std::unique_ptr<Communicator> host, CudaBackend& backend);
    ~StagedCommunicator() override;

    int rank() const override { return host_->rank(); }
    int size() const override { return host_->size(); }
    void all_gather(const void* send, void* receive, std::span<const Index> bytes) override;
    void reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) override;
    void all_reduce_sum(void* data, Scalar type, Index count) override;
    void broadcast(void* data, Index bytes, int root) override;
    void barrier() override;

private:
    // Waits for all queued operations and returns a copy of the device's bytes in host memory.
    void* bring(const void* device, std::size_t bytes);
    void* room(std::size_t bytes);
    void send_back(void* device, const void* host, std::size_t bytes);

    std::unique_ptr<Communicator> host_;
    CudaBackend& backend_;
    PinnedBuffer out_, in_;
};

}  // namespace spikefloss
