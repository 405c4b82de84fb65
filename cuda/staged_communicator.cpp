// Copies from the device to pinned memory, communicates by MPI, and copies back.
#include "staged_communicator.hpp"

#include "check.hpp"

#include <algorithm>
#include <numeric>

namespace spikefloss {
namespace {

std::size_t total(std::span<const Index> sizes) {
    return static_cast<std::size_t>(std::accumulate(sizes.begin(), sizes.end(), Index(0)));
}

}  // namespace

PinnedBuffer::~PinnedBuffer() {
    if (data_) cudaFreeHost(data_);
}

void* PinnedBuffer::get(std::size_t bytes) {
    if (bytes <= size_) return data_;
    if (data_) check(cudaFreeHost(data_), "cudaFreeHost");
    data_ = nullptr;
    size_ = 0;
    // Some spare bytes, so that sizes that grow in small steps do not lock pages each time.
    const std::size_t size = bytes + bytes / 4 + 4096;
    check(cudaHostAlloc(&data_, size, cudaHostAllocDefault), "cudaHostAlloc");
    size_ = size;
    return data_;
}

StagedCommunicator::StagedCommunicator(std::unique_ptr<Communicator> host, CudaBackend& backend)
    : host_(std::move(host)), backend_(backend) {}

// The last copies to the device may still read the pinned memory.
StagedCommunicator::~StagedCommunicator() { cudaStreamSynchronize(backend_.stream()); }

void* StagedCommunicator::bring(const void* device, std::size_t bytes) {
    backend_.synchronize();  // the previous operation's copies to the device may still read the buffers
    void* host = out_.get(bytes);
    if (bytes)
        check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, backend_.stream()),
              "cudaMemcpyAsync(staged)");
    backend_.synchronize();
    return host;
}

void* StagedCommunicator::room(std::size_t bytes) { return in_.get(bytes); }

void StagedCommunicator::send_back(void* device, const void* host, std::size_t bytes) {
    if (bytes)
        check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, backend_.stream()),
              "cudaMemcpyAsync(staged)");
}

void StagedCommunicator::all_gather(const void* send, void* receive, std::span<const Index> bytes) {
    const auto mine = static_cast<std::size_t>(bytes[static_cast<std::size_t>(rank())]);
    if (size() == 1) return backend_.copy(receive, send, mine);
    const void* out = bring(send, mine);
    void* in = room(total(bytes));
    host_->all_gather(out, in, bytes);
    send_back(receive, in, total(bytes));
}

void StagedCommunicator::reduce_scatter_sum(const void* send, void* receive, Scalar type,
                                            std::span<const Index> counts) {
    const std::size_t mine = static_cast<std::size_t>(counts[static_cast<std::size_t>(rank())]) * size_of(type);
    if (size() == 1) return backend_.copy(receive, send, mine);
    const void* out = bring(send, total(counts) * size_of(type));
    void* in = room(mine);
    host_->reduce_scatter_sum(out, in, type, counts);
    send_back(receive, in, mine);
}

void StagedCommunicator::all_reduce_sum(void* data, Scalar type, Index count) {
    if (size() == 1) return;
    const std::size_t bytes = static_cast<std::size_t>(count) * size_of(type);
    void* out = bring(data, bytes);
    host_->all_reduce_sum(out, type, count);
    send_back(data, out, bytes);
}

void StagedCommunicator::broadcast(void* data, Index bytes, int root) {
    if (size() == 1) return;
    void* out = bring(data, static_cast<std::size_t>(bytes));
    host_->broadcast(out, bytes, root);
    send_back(data, out, static_cast<std::size_t>(bytes));
}

void StagedCommunicator::barrier() {
    backend_.synchronize();
    host_->barrier();
}

}  // namespace spikefloss
