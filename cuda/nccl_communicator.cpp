// NCCL: making and ending its communicators, their errors, and the five collectives.
#include "nccl_communicator.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <chrono>
#include <exception>
#include <thread>

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

// The first failure of the calls of a group.
void note(ncclResult_t& first, ncclResult_t result) {
    if (first == ncclSuccess || first == ncclInProgress) first = result;
}

}  // namespace

NcclSession::NcclSession(CudaBackend& backend, const ProcessGrid& grid) : backend_(backend), watch_(grid.watch()) {
    try {
        start(grid);
    } catch (...) {
        abort();
        throw;
    }
    backend_.while_waiting([this](double waited) { waiting(waited); });
}

void NcclSession::start(const ProcessGrid& grid) {
    ncclUniqueId id = {};
    grid.agree([&] {
        if (grid.rank() == 0) settle(ncclGetUniqueId(&id), nullptr, "ncclGetUniqueId");
    });
    grid.control().broadcast(&id, sizeof id, 0);
    // Calls return at once and are asked for their outcome, so that a rank lost meanwhile can be told.
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    const ncclResult_t begun = ncclCommInitRankConfig(&world_, grid.ranks(), id, grid.rank(), &config);
    settle(begun, world_, "ncclCommInitRankConfig");
    // The same groups in the same order as MPI_Comm_split makes for the host's communicators.
    const auto split = [&](int color, int key, ncclComm_t& comm) {
        const ncclResult_t result = ncclCommSplit(world_, color, key, &comm, &config);
        settle(result, world_, "ncclCommSplit");
        settle(ncclSuccess, comm, "ncclCommSplit");
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
        if (!comm) continue;
        ncclResult_t state = ncclCommFinalize(comm);
        const auto start = std::chrono::steady_clock::now();
        while (state == ncclInProgress && std::chrono::steady_clock::now() - start < std::chrono::seconds(10)) {
            std::this_thread::sleep_for(std::chrono::microseconds(100));
            if (ncclCommGetAsyncError(comm, &state) != ncclSuccess) break;
        }
        if (state == ncclSuccess)
            ncclCommDestroy(comm);
        else
            ncclCommAbort(comm);
    }
}

void NcclSession::abort() noexcept {
    for (ncclComm_t* comm : {&neurons_, &batch_, &world_}) {
        if (*comm) ncclCommAbort(*comm);
        *comm = nullptr;
    }
}

void NcclSession::fail(ncclResult_t result, ncclComm_t comm, const char* call) {
    const char* detail = ncclGetLastError(comm);
    const std::string text = fmt::format("{} failed: {}{}{}", call, ncclGetErrorString(result),
                                         detail && *detail ? ": " : "", detail ? detail : "");
    abort();
    throw Error(
        Exit::internal, text,
        "a lost rank or network shows here: see the messages of the other ranks, and NCCL_DEBUG=INFO; ranks that "
        "share a GPU need --comm staged");
}

void NcclSession::settle(ncclResult_t result, ncclComm_t comm, const char* call) {
    const auto start = std::chrono::steady_clock::now();
    for (double answered = 0.0;;) {
        if (result == ncclSuccess && comm) {
            const ncclResult_t asked = ncclCommGetAsyncError(comm, &result);
            if (asked != ncclSuccess) fail(asked, comm, call);
        }
        if (result == ncclSuccess) return;
        if (result != ncclInProgress) fail(result, comm, call);
        const double waited = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (waited > answered + 0.1) {
            answered = waited;
            try {
                watch_->waiting(waited, call);
            } catch (...) {
                abort();
                throw;
            }
        }
        std::this_thread::sleep_for(std::chrono::microseconds(waited < 1e-3 ? 1 : 50));
        result = ncclSuccess;
    }
}

void NcclSession::waiting(double waited) {
    for (ncclComm_t comm : {world_, neurons_, batch_}) {
        ncclResult_t state = ncclSuccess;
        if (!comm) continue;
        const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
        if (asked != ncclSuccess) fail(asked, comm, "ncclCommGetAsyncError");
        if (state != ncclSuccess && state != ncclInProgress) fail(state, comm, "a collective of NCCL");
    }
    try {
        watch_->waiting(waited, "waits for its GPU");
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

template <class Calls>
void NcclCommunicator::group(const char* call, Calls&& calls) {
    session_->settle(ncclGroupStart(), nullptr, "ncclGroupStart");
    const ncclResult_t queued = calls();
    const ncclResult_t ended = ncclGroupEnd();
    const bool fine = queued == ncclSuccess || queued == ncclInProgress;
    session_->settle(fine ? ended : queued, comm_, call);
}

void NcclCommunicator::all_gather(const void* send, void* receive, std::span<const Index> bytes) {
    const auto mine = static_cast<std::size_t>(bytes[static_cast<std::size_t>(rank_)]);
    if (!comm_) return backend_.copy(receive, send, mine);
    if (all_equal(bytes)) {
        if (mine)
            session_->settle(ncclAllGather(send, receive, mine, ncclUint8, comm_, backend_.stream()), comm_,
                             "ncclAllGather");
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
            session_->settle(ncclReduceScatter(send, receive, mine, datatype(type), ncclSum, comm_, backend_.stream()),
                             comm_, "ncclReduceScatter");
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
    session_->settle(
        ncclAllReduce(data, data, static_cast<std::size_t>(count), datatype(type), ncclSum, comm_, backend_.stream()),
        comm_, "ncclAllReduce");
}

void NcclCommunicator::broadcast(void* data, Index bytes, int root) {
    if (!comm_ || bytes == 0) return;
    session_->settle(
        ncclBroadcast(data, data, static_cast<std::size_t>(bytes), ncclUint8, root, comm_, backend_.stream()), comm_,
        "ncclBroadcast");
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
