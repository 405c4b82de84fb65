// NCCL over MPI: collectives. Sent data are copied to host memory when the work begins, and received data
// are copied back when it ends, so in-place calls and device memory are not special for MPI. The calls do not block: a
// wait ends when the communicator is aborted, and cudaStreamQuery returns while a rank is late.
#include "memory.hpp"
#include "nccl_comm.hpp"
#include "streams.hpp"

#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

using namespace emulation;

namespace {

MPI_Datatype mpi_type(ncclDataType_t type) {
    switch (type) {
        case ncclUint8: return MPI_UINT8_T;
        case ncclInt64: return MPI_INT64_T;
        case ncclFloat32: return MPI_FLOAT;
        case ncclFloat64: return MPI_DOUBLE;
    }
    return MPI_DATATYPE_NULL;
}

std::size_t size_of(ncclDataType_t type) { return type == ncclUint8 ? 1 : type == ncclFloat32 ? 4 : 8; }

struct Call {
    enum Kind { all_reduce, reduce, broadcast, all_gather, reduce_scatter } kind;
    const void* from;  // null: this rank sends nothing
    void* to;          // null: it receives nothing
    std::size_t count, send_count, receive_count;
    ncclDataType_t type;
    int root;
    ncclComm_t comm;
    cudaStream_t stream;
    // while it runs
    std::vector<char> sent, received;
    MPI_Request request = MPI_REQUEST_NULL;
};

bool in_bounds(const void* data, std::size_t bytes, const char* what) {
    if (bytes == 0 || !is_device(data) || is_device_range(data, bytes)) return true;
    raise(cudaErrorIllegalAddress, std::string("NCCL ") + what + " " + std::to_string(bytes) + " bytes that begin " +
                                       describe_address(data) + ", and not all of them are there");
    return false;
}

void start(Call& c) {
    const std::size_t sent = c.from ? c.send_count * size_of(c.type) : 0;
    const std::size_t received = c.to ? c.receive_count * size_of(c.type) : 0;
    if (!in_bounds(c.from, sent, "sends") || !in_bounds(c.to, received, "receives")) return;
    c.sent.resize(sent);
    if (sent) std::memcpy(c.sent.data(), c.from, sent);
    c.received.resize(received);
    const auto count = static_cast<int>(c.count);
    const MPI_Datatype type = mpi_type(c.type);
    MPI_Comm mpi = c.comm->mpi;
    switch (c.kind) {
        case Call::all_reduce:
            MPI_Iallreduce(c.sent.data(), c.received.data(), count, type, MPI_SUM, mpi, &c.request);
            break;
        case Call::reduce:
            MPI_Ireduce(c.sent.data(), c.received.data(), count, type, MPI_SUM, c.root, mpi, &c.request);
            break;
        case Call::broadcast:
            if (c.comm->rank == c.root) c.received = c.sent;
            MPI_Ibcast(c.received.data(), count, type, c.root, mpi, &c.request);
            break;
        case Call::all_gather:
            MPI_Iallgather(c.sent.data(), count, type, c.received.data(), count, type, mpi, &c.request);
            break;
        case Call::reduce_scatter:
            MPI_Ireduce_scatter_block(c.sent.data(), c.received.data(), count, type, MPI_SUM, mpi, &c.request);
            break;
    }
}

void finish(Call& c) {
    if (!c.received.empty()) std::memcpy(c.to, c.received.data(), c.received.size());
}

// The calls of one group on one stream. Returns at once if all calls are done or a communicator is aborted. If
// device().may_wait is false, it also returns after some milliseconds and is called again later.
class Group {
public:
    explicit Group(std::vector<Call> calls) : calls_(std::move(calls)) {}

    void run() {
        if (!started_)
            for (Call& c : calls_)
                if (!c.comm->aborted) start(c);
        started_ = true;
        const auto begin = std::chrono::steady_clock::now();
        while (!all_done()) {
            std::this_thread::sleep_for(std::chrono::microseconds(20));
            if (device().may_wait || std::chrono::steady_clock::now() - begin < std::chrono::milliseconds(5)) continue;
            device().unfinished = true;
            return;
        }
        started_ = false;
    }

private:
    bool all_done() {
        bool done = true;
        for (Call& c : calls_) {
            if (c.comm->aborted || c.request == MPI_REQUEST_NULL) continue;
            int complete = 0;
            MPI_Test(&c.request, &complete, MPI_STATUS_IGNORE);
            if (complete) finish(c);
            done = done && complete;
        }
        return done;
    }

    std::vector<Call> calls_;
    bool started_ = false;
};

thread_local int group_depth = 0;
thread_local std::vector<Call> group_calls;

ncclResult_t flush_group() {
    std::vector<Call> calls = std::move(group_calls);
    group_calls.clear();
    while (!calls.empty()) {
        const cudaStream_t stream = calls.front().stream;
        std::vector<Call> together, rest;
        for (Call& c : calls) (c.stream == stream ? together : rest).push_back(std::move(c));
        calls = std::move(rest);
        std::vector<std::shared_ptr<std::atomic<int>>> users;
        for (const Call& c : together) users.push_back(c.comm->graphs);
        auto group = std::make_shared<Group>(std::move(together));
        if (queue(stream, "NCCL", [group] { group->run(); }) != cudaSuccess) return ncclUnhandledCudaError;
        if (const auto& capture = resolve(stream)->capture) capture->graph->nodes.back().users = std::move(users);
    }
    return ncclSuccess;
}

ncclResult_t add(Call call) {
    if (!call.comm || mpi_type(call.type) == MPI_DATATYPE_NULL || call.count > INT_MAX) return ncclInvalidArgument;
    if (call.root < 0 || call.root >= call.comm->size) return ncclInvalidArgument;
    if (call.comm->aborted) return ncclInvalidUsage;
    if (answer(cudaSuccess) != cudaSuccess) return ncclUnhandledCudaError;
    group_calls.push_back(std::move(call));
    return group_depth > 0 ? ncclSuccess : flush_group();
}

}  // namespace

ncclResult_t ncclGroupStart() {
    ++group_depth;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
    if (group_depth == 0) return ncclInvalidUsage;
    return --group_depth == 0 ? flush_group() : ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t,
                           ncclComm_t comm, cudaStream_t stream) {
    return add({Call::all_reduce, send, receive, count, count, count, type, 0, comm, stream, {}, {}});
}

ncclResult_t ncclReduce(const void* send, void* receive, std::size_t count, ncclDataType_t type, ncclRedOp_t, int root,
                        ncclComm_t comm, cudaStream_t stream) {
    void* to = comm && comm->rank == root ? receive : nullptr;
    return add({Call::reduce, send, to, count, count, count, type, root, comm, stream, {}, {}});
}

ncclResult_t ncclBroadcast(const void* send, void* receive, std::size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
    const void* from = comm && comm->rank == root ? send : nullptr;
    return add({Call::broadcast, from, receive, count, count, count, type, root, comm, stream, {}, {}});
}

ncclResult_t ncclAllGather(const void* send, void* receive, std::size_t send_count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
    const std::size_t all = comm ? send_count * static_cast<std::size_t>(comm->size) : 0;
    return add({Call::all_gather, send, receive, send_count, send_count, all, type, 0, comm, stream, {}, {}});
}

ncclResult_t ncclReduceScatter(const void* send, void* receive, std::size_t receive_count, ncclDataType_t type,
                               ncclRedOp_t, ncclComm_t comm, cudaStream_t stream) {
    const std::size_t all = comm ? receive_count * static_cast<std::size_t>(comm->size) : 0;
    return add({Call::reduce_scatter, send, receive, receive_count, all, receive_count, type, 0, comm, stream, {}, {}});
}
