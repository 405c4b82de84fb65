// The five collectives on host memory. Each waits until all ranks have reached it, makes one MPI call and checks the
// result.
#include "parallel/mpi_communicator.hpp"

#include "core/error.hpp"
#include "parallel/launch.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

namespace spikefloss {
namespace {

MPI_Datatype datatype(Scalar type) {
    switch (type) {
        case Scalar::float32: return MPI_FLOAT;
        case Scalar::float64: return MPI_DOUBLE;
        case Scalar::int64: return MPI_INT64_T;
    }
    return MPI_DATATYPE_NULL;
}

// MPI 3 counts are int. A longer message is an error that names the number; it is not cut off.
int to_count(Index count) {
    require(count <= std::numeric_limits<int>::max(), Exit::usage,
            fmt::format("one message would hold {} elements, more than MPI can send at once", count),
            "use more neuron shards (--grid PxQ with a larger P)");
    return static_cast<int>(count);
}

// counts and displacements of consecutive blocks
struct Blocks {
    std::vector<int> counts, displacements;
    explicit Blocks(std::span<const Index> sizes) {
        Index total = 0;
        for (Index size : sizes) {
            counts.push_back(to_count(size));
            displacements.push_back(to_count(total));
            total += size;
        }
    }
};

}  // namespace

void check_mpi(int result, const char* call, std::source_location place) {
    if (result == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(result, text, &length);
    throw Error(Exit::internal, fmt::format("{} failed: {}", call, text),
                "see the messages of the other ranks; a rank or the network may be lost", place);
}

bool mpi_runs() {
    int begun = 0, ended = 0;
    MPI_Initialized(&begun);
    MPI_Finalized(&ended);
    return begun && !ended;
}

MpiSession::MpiSession(int* argc, char*** argv, Start start) {
    if (start == Start::only_as_rank && !started_as_rank(process_environment())) return;
    // HDF5 uses no shared file pointers. This component of Open MPI for them overflows its buffer if a file name is
    // longer than 256 characters. On one machine there is another component.
    if (all_on_one_machine(process_environment())) setenv("OMPI_MCA_sharedfp", "^lockedfile", 0);
    int provided = 0;
    const TimeLimit limit("MPI_Init");
    check_mpi(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided), "MPI_Init_thread");
    // Without this MPI ends the process itself, and the error texts of spikefloss are lost.
    check_mpi(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
}

MpiSession::~MpiSession() {
    if (!mpi_runs()) return;
    const TimeLimit limit("MPI_Finalize");
    MPI_Finalize();
}

MpiCommunicator::MpiCommunicator(MPI_Comm comm, std::shared_ptr<Watchdog> watchdog) : watchdog_(std::move(watchdog)) {
    if (!mpi_runs()) return;
    const Watchdog::Blocking blocking(watchdog_.get(), "MPI_Comm_dup");
    check_mpi(MPI_Comm_dup(comm, &comm_), "MPI_Comm_dup");
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check_mpi(MPI_Comm_rank(comm_, &rank_), "MPI_Comm_rank");
    check_mpi(MPI_Comm_size(comm_, &size_), "MPI_Comm_size");
    if (watchdog_) others_ = watchdog_->names_of(comm_);
}

MpiCommunicator::~MpiCommunicator() {
    if (comm_ != MPI_COMM_NULL && mpi_runs()) MPI_Comm_free(&comm_);
}

template <class Function>
void MpiCommunicator::collective(const char* call, Function&& function) {
    if (watchdog_) watchdog_->meet(comm_, rank_, size_, call);
    const Watchdog::Blocking blocking(watchdog_.get(), call, &others_);
    check_mpi(function(), call);
}

void MpiCommunicator::all_gather(const void* send, void* receive, std::span<const Index> bytes) {
    if (size_ == 1) {
        if (send != receive) std::memcpy(receive, send, static_cast<std::size_t>(bytes[0]));
        return;
    }
    const Blocks blocks(bytes);
    collective("MPI_Allgatherv", [&] {
        return MPI_Allgatherv(send, blocks.counts[static_cast<std::size_t>(rank_)], MPI_BYTE, receive,
                              blocks.counts.data(), blocks.displacements.data(), MPI_BYTE, comm_);
    });
}

void MpiCommunicator::reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) {
    if (size_ == 1) {
        if (send != receive) std::memcpy(receive, send, static_cast<std::size_t>(counts[0]) * size_of(type));
        return;
    }
    const Blocks blocks(counts);
    collective("MPI_Reduce_scatter",
               [&] { return MPI_Reduce_scatter(send, receive, blocks.counts.data(), datatype(type), MPI_SUM, comm_); });
}

void MpiCommunicator::all_reduce_sum(void* data, Scalar type, Index count) {
    if (size_ == 1) return;
    // Long sums are divided into pieces that an int can count.
    constexpr Index piece = Index(1) << 28;
    for (Index begin = 0; begin < count; begin += piece) {
        char* here = static_cast<char*>(data) + begin * static_cast<Index>(size_of(type));
        const int now = static_cast<int>(std::min(piece, count - begin));
        collective("MPI_Allreduce",
                   [&] { return MPI_Allreduce(MPI_IN_PLACE, here, now, datatype(type), MPI_SUM, comm_); });
    }
}

void MpiCommunicator::broadcast(void* data, Index bytes, int root) {
    if (size_ == 1 && root == 0) return;
    const int count = to_count(bytes);
    collective("MPI_Bcast", [&] { return MPI_Bcast(data, count, MPI_BYTE, root, comm_); });
}

int MpiCommunicator::lowest(int value) {
    if (size_ == 1) return value;
    collective("MPI_Allreduce", [&] { return MPI_Allreduce(MPI_IN_PLACE, &value, 1, MPI_INT, MPI_MIN, comm_); });
    return value;
}

void MpiCommunicator::barrier() {
    if (size_ == 1) return;
    collective("MPI_Barrier", [&] { return MPI_Barrier(comm_); });
}

}  // namespace spikefloss
