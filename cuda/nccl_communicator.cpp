// Makes and ends the communicators of NCCL, reports their errors, and calls the five collectives.
#include "nccl_communicator.hpp"

#include "core/error.hpp"

#include "check.hpp"

#include <algorithm>
#include <exception>

namespace spikefloss {
namespace {

ncclDataType_t datatype(Scalar type) {
    switch (type) {
        case Scalar::float32: return ncclFloat32;
        case Scalar::float64: return ncclFloat64;
        case Scalar::int64: return ncclInt64;
    }
    return ncclFloat32;
}

bool all_equal(std::span<const Index> sizes) {
    return std::all_of(sizes.begin(), sizes.end(), [&](Index size) { return size == sizes[0]; });
}

// Keeps the first failure of a group of calls.
void note(ncclResult_t& first, ncclResult_t result) {
    if (first == ncclSuccess) first = result;
}

}  // namespace

NcclSession::NcclSession(CudaBackend& backend, const ProcessGrid& grid)
    : backend_(backend), watchdog_(grid.watchdog()) {
    try {
        start(grid);
    } catch (...) {
        abort();
        throw;
    }
    backend_.while_waiting([this](double waited) { waiting(waited); });
}

void NcclSession::start(const ProcessGrid& grid) {
    // The few blocks of a collective must not wait until a kernel that fills the GPU ends: another rank waits for them.
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "cudaDeviceGetStreamPriorityRange");
    check(cudaStreamCreateWithPriority(&side_, cudaStreamNonBlocking, greatest), "cudaStreamCreateWithPriority");
    check(cudaEventCreateWithFlags(&reached_, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    ncclUniqueId id = {};
    grid.agree([&] {
        if (grid.rank() == 0) call("ncclGetUniqueId", nullptr, [&] { return ncclGetUniqueId(&id); });
    });
    grid.control().broadcast(&id, sizeof id, 0);
    call("ncclCommInitRank", nullptr, [&] { return ncclCommInitRank(&world_, grid.ranks(), id, grid.rank()); });
    // The same groups in the same order as MPI_Comm_split makes for the host's communicators.
    const auto split = [&](int color, int key, ncclComm_t& comm) {
        grid.control().barrier();  // its error names a lost rank
        call("ncclCommSplit", world_, [&] { return ncclCommSplit(world_, color, key, &comm, nullptr); });
    };
    split(grid.batch_shard(), grid.neuron_shard(), neurons_);
    split(grid.neuron_shard(), grid.batch_shard(), batch_);
}

NcclSession::~NcclSession() {
    backend_.while_waiting(nullptr);
    if (std::uncaught_exceptions() > 0) {
        abort();
        return;
    }
    for (ncclComm_t comm : {neurons_, batch_, world_}) {
        const Watchdog::Blocking blocking(watchdog_.get(), "ncclCommDestroy");
        if (comm) ncclCommDestroy(comm);
    }
    cudaEventDestroy(reached_);
    cudaStreamDestroy(side_);
}

// NCCL waits until every graph with a collective of the communicator is destroyed. The communicators are aborted as a
// group: freeing one waits for the kernels of the others. Stream and event stay: queued operations may still wait for
// them.
void NcclSession::abort() noexcept {
    backend_.drop_graphs();
    const Watchdog::Blocking blocking(watchdog_.get(), "ncclCommAbort");
    ncclGroupStart();
    for (ncclComm_t* comm : {&neurons_, &batch_, &world_}) {
        if (*comm) ncclCommAbort(*comm);
        *comm = nullptr;
    }
    ncclGroupEnd();
}

void NcclSession::fail(ncclResult_t result, ncclComm_t comm, const char* name) {
    const char* detail = ncclGetLastError(comm);
    const std::string text = fmt::format("{} failed: {}{}{}", name, ncclGetErrorString(result),
                                         detail && *detail ? ": " : "", detail ? detail : "");
    abort();
    throw Error(
        Exit::internal, text,
        "a rank or the network may be lost: see the messages of the other ranks, and set NCCL_DEBUG=INFO; ranks that "
        "share a GPU need --comm staged");
}

void NcclSession::call(const char* name, ncclComm_t comm, const std::function<ncclResult_t()>& function) {
    const Watchdog::Blocking blocking(watchdog_.get(), name);
    ncclResult_t result = function();
    if (result != ncclSuccess) fail(result, comm, name);
    if (!comm) return;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &result);
    if (asked != ncclSuccess || result != ncclSuccess) fail(asked != ncclSuccess ? asked : result, comm, name);
}

cudaStream_t NcclSession::fork() {
    check(cudaEventRecord(reached_, backend_.stream()), "cudaEventRecord");
    check(cudaStreamWaitEvent(side_, reached_, 0), "cudaStreamWaitEvent");
    return side_;
}

void NcclSession::join() {
    check(cudaEventRecord(reached_, side_), "cudaEventRecord");
    check(cudaStreamWaitEvent(backend_.stream(), reached_, 0), "cudaStreamWaitEvent");
}

void NcclSession::waiting(double waited) {
    for (ncclComm_t comm : {world_, neurons_, batch_}) {
        ncclResult_t state = ncclSuccess;
        if (!comm) continue;
        const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
        if (asked != ncclSuccess) fail(asked, comm, "ncclCommGetAsyncError");
        if (state != ncclSuccess) fail(state, comm, "a collective of NCCL");
    }
    try {
        watchdog_->waiting(waited, "waits for its GPU");
    } catch (...) {
        abort();
        throw;
    }
}

NcclCommunicator::NcclCommunicator(std::shared_ptr<NcclSession> session, ncclComm_t comm, CudaBackend& backend,
                                   int rank, int size)
    : session_(std::move(session)),
      comm_(comm),
      backend_(backend),
      rank_(rank),
      size_(size),
      flag_(backend.allocate(sizeof(float)), Free{&backend}) {
    backend_.zero(flag_.get(), sizeof(float));
}

void NcclCommunicator::group(const char* name, const std::function<ncclResult_t()>& calls) {
    session_->call(name, comm_, [&] {
        ncclResult_t first = ncclGroupStart();
        if (first != ncclSuccess) return first;
        note(first, calls());
        note(first, ncclGroupEnd());
        return first;
    });
}

void NcclCommunicator::all_gather(const void* send, void* receive, std::span<const Index> bytes) {
    const auto mine = static_cast<std::size_t>(bytes[static_cast<std::size_t>(rank_)]);
    if (!comm_) return backend_.copy(receive, send, mine);
    if (all_equal(bytes)) {
        if (mine)
            session_->call("ncclAllGather", comm_,
                           [&] { return ncclAllGather(send, receive, mine, ncclUint8, comm_, backend_.stream()); });
        return;
    }
    group("ncclBroadcast", [&] {
        ncclResult_t first = ncclSuccess;
        char* block = static_cast<char*>(receive);
        for (int root = 0; root < size_; ++root) {
            const auto size = static_cast<std::size_t>(bytes[static_cast<std::size_t>(root)]);
            if (size) note(first, ncclBroadcast(send, block, size, ncclUint8, root, comm_, backend_.stream()));
            block += size;
        }
        return first;
    });
}

void NcclCommunicator::reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) {
    const auto mine = static_cast<std::size_t>(counts[static_cast<std::size_t>(rank_)]);
    if (!comm_) return backend_.copy(receive, send, mine * size_of(type));
    if (all_equal(counts)) {
        if (mine)
            session_->call("ncclReduceScatter", comm_, [&] {
                return ncclReduceScatter(send, receive, mine, datatype(type), ncclSum, comm_, backend_.stream());
            });
        return;
    }
    group("ncclReduce", [&] {
        ncclResult_t first = ncclSuccess;
        const char* block = static_cast<const char*>(send);
        for (int root = 0; root < size_; ++root) {
            const auto count = static_cast<std::size_t>(counts[static_cast<std::size_t>(root)]);
            if (count)
                note(first, ncclReduce(block, receive, count, datatype(type), ncclSum, root, comm_, backend_.stream()));
            block += count * size_of(type);
        }
        return first;
    });
}

void NcclCommunicator::all_reduce_sum(void* data, Scalar type, Index count) {
    if (!comm_ || count == 0) return;
    session_->call("ncclAllReduce", comm_, [&] {
        return ncclAllReduce(data, data, static_cast<std::size_t>(count), datatype(type), ncclSum, comm_,
                             backend_.stream());
    });
}

void NcclCommunicator::begin_sums(std::span<const SumRange> ranges, Scalar type) {
    if (!comm_) return;
    const cudaStream_t side = session_->fork();
    group("ncclAllReduce", [&] {
        ncclResult_t first = ncclSuccess;
        for (const auto& [data, count] : ranges)
            if (count)
                note(first,
                     ncclAllReduce(data, data, static_cast<std::size_t>(count), datatype(type), ncclSum, comm_, side));
        return first;
    });
}

void NcclCommunicator::finish_sums() {
    if (comm_) session_->join();
}

void NcclCommunicator::broadcast(void* data, Index bytes, int root) {
    if (!comm_ || bytes == 0) return;
    session_->call("ncclBroadcast", comm_, [&] {
        return ncclBroadcast(data, data, static_cast<std::size_t>(bytes), ncclUint8, root, comm_, backend_.stream());
    });
}

void NcclCommunicator::barrier() {
    all_reduce_sum(flag_.get(), Scalar::float32, 1);
    backend_.synchronize();
}

Communicators nccl_communicators(CudaBackend& backend, const ProcessGrid& grid, bool always) {
    std::shared_ptr<NcclSession> session;
    if (always || grid.ranks() > 1) session = std::make_shared<NcclSession>(backend, grid);
    const auto make = [&](ncclComm_t comm, int rank, int size) {
        const bool alone = size == 1 && !always;
        return std::make_unique<NcclCommunicator>(session, session && !alone ? comm : nullptr, backend, rank, size);
    };
    return {make(session ? session->world() : nullptr, grid.rank(), grid.ranks()),
            make(session ? session->neurons() : nullptr, grid.neuron_shard(), grid.shape().neuron_shards),
            make(session ? session->batch() : nullptr, grid.batch_shard(), grid.shape().batch_shards)};
}

}  // namespace spikefloss
