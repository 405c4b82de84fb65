// NCCL over MPI: how communicators are made, split and destroyed.
#include "nccl_comm.hpp"
#include "streams.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace emulation;

namespace {

constexpr int rendezvous_tag = 17000;

// The content of a unique id in the emulation.
struct Id {
    int root;    // of MPI_COMM_WORLD: the rank that made it
    int number;  // number among the ids of this rank
};

int world_rank() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank;
}

// Every rank sends its rank to the maker of the id, and receives the ranks of MPI_COMM_WORLD in communicator order.
std::vector<int> members(const Id& id, int ranks, int rank) {
    std::vector<int> world(static_cast<std::size_t>(ranks));
    const int tag = rendezvous_tag + id.number % 1000;
    const int me[2] = {rank, world_rank()};
    if (me[1] != id.root) {
        MPI_Send(me, 2, MPI_INT, id.root, tag, MPI_COMM_WORLD);
        MPI_Recv(world.data(), ranks, MPI_INT, id.root, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        return world;
    }
    world[static_cast<std::size_t>(rank)] = me[1];
    for (int others = ranks - 1; others > 0; --others) {
        int other[2];
        MPI_Recv(other, 2, MPI_INT, MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        world[static_cast<std::size_t>(other[0])] = other[1];
    }
    for (int member : world)
        if (member != me[1]) MPI_Send(world.data(), ranks, MPI_INT, member, tag, MPI_COMM_WORLD);
    return world;
}

ncclComm_t make(MPI_Comm mpi) {
    auto* comm = new ncclComm;
    comm->mpi = mpi;
    MPI_Comm_rank(mpi, &comm->rank);
    MPI_Comm_size(mpi, &comm->size);
    return comm;
}

// NCCL waits for the end of every graph that recorded a collective of the communicator. Here nobody else can end them,
// so the process ends in place of a wait without end.
void require_no_graphs(ncclComm_t comm, const char* call) {
    if (*comm->graphs == 0) return;
    std::fprintf(stderr, "emulated device: %s waits without end: %d graphs with its collectives are not destroyed\n",
                 call, comm->graphs->load());
    std::abort();
}

bool mpi_ended() {
    int ended = 0;
    MPI_Finalized(&ended);
    return ended != 0;
}

}  // namespace

ncclResult_t ncclGetVersion(int* version) {
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
    static int number = 0;
    const Id content{world_rank(), number++};
    *id = {};
    std::memcpy(id->internal, &content, sizeof content);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
    if (ranks < 1 || rank < 0 || rank >= ranks) return ncclInvalidArgument;
    if (answer(cudaSuccess) != cudaSuccess) return ncclUnhandledCudaError;
    Id content;
    std::memcpy(&content, id.internal, sizeof content);
    const std::vector<int> world_ranks = members(content, ranks, rank);
    MPI_Group world, group;
    MPI_Comm_group(MPI_COMM_WORLD, &world);
    MPI_Group_incl(world, ranks, world_ranks.data(), &group);
    MPI_Comm mpi;
    MPI_Comm_create_group(MPI_COMM_WORLD, group, rendezvous_tag + 1000 + content.number % 1000, &mpi);
    MPI_Group_free(&group);
    MPI_Group_free(&world);
    *comm = make(mpi);
    return ncclSuccess;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
    if (!comm || (color < 0 && color != NCCL_SPLIT_NOCOLOR)) return ncclInvalidArgument;
    MPI_Comm mpi;
    MPI_Comm_split(comm->mpi, color == NCCL_SPLIT_NOCOLOR ? MPI_UNDEFINED : color, key, &mpi);
    *part = mpi == MPI_COMM_NULL ? nullptr : make(mpi);
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
    if (!comm) return ncclSuccess;
    require_no_graphs(comm, "ncclCommDestroy");
    std::lock_guard lock(device().mutex);
    run_all();  // queued work still uses the communicator
    if (!mpi_ended() && !comm->aborted) MPI_Comm_free(&comm->mpi);
    delete comm;
    return ncclSuccess;
}

// May be called while another thread waits in a collective, which then returns. The communicator itself is kept,
// because queued work may still refer to it.
ncclResult_t ncclCommAbort(ncclComm_t comm) {
    if (!comm) return ncclInvalidArgument;
    require_no_graphs(comm, "ncclCommAbort");
    comm->aborted = true;
    return ncclSuccess;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
    if (!comm) return ncclInvalidArgument;
    *error = comm->error;
    return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
    switch (result) {
        case ncclSuccess: return "no error";
        case ncclUnhandledCudaError: return "unhandled cuda error (run with NCCL_DEBUG=INFO for details)";
        case ncclInvalidArgument: return "invalid argument (run with NCCL_DEBUG=WARN for details)";
        case ncclInvalidUsage: return "invalid usage (run with NCCL_DEBUG=WARN for details)";
        default: return "unknown result code";
    }
}

const char* ncclGetLastError(ncclComm_t) { return "the emulation keeps no text of errors"; }
