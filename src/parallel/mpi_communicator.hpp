// Communicator on host memory through MPI, and the start and end of MPI itself.
#pragma once

#include "parallel/communicator.hpp"
#include "parallel/watchdog.hpp"

#include <memory>
#include <source_location>
#include <string>

namespace spikefloss {

// MPI_Init_thread and MPI_Finalize as an object; make one at the start of main. With only_as_rank MPI is not started
// unless a launcher started this process as one of several ranks (parallel/launch.hpp).
class MpiSession {
public:
    enum class Start { always, only_as_rank };
    MpiSession(int* argc, char*** argv, Start start);
    ~MpiSession();
    MpiSession(const MpiSession&) = delete;
    MpiSession& operator=(const MpiSession&) = delete;
};

// Whether calls of MPI are possible: from MPI_Init to MPI_Finalize.
bool mpi_runs();

// Throws Error(Exit::internal) with MPI's own text unless result is MPI_SUCCESS.
void check_mpi(int result, const char* call, std::source_location place = std::source_location::current());

// A group of one process makes no call of MPI.
class MpiCommunicator final : public Communicator {
public:
    // Duplicates `comm`. If MPI does not run, any `comm` is this process alone. With a watchdog, which covers all ranks
    // of `comm`, a rank that does not reach a collective is an error. Without one the others wait for it.
    explicit MpiCommunicator(MPI_Comm comm, std::shared_ptr<Watchdog> watchdog = nullptr);
    ~MpiCommunicator() override;
    MpiCommunicator(const MpiCommunicator&) = delete;
    MpiCommunicator& operator=(const MpiCommunicator&) = delete;

    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void all_gather(const void* send, void* receive, std::span<const Index> bytes) override;
    void reduce_scatter_sum(const void* send, void* receive, Scalar type, std::span<const Index> counts) override;
    void all_reduce_sum(void* data, Scalar type, Index count) override;
    void broadcast(void* data, Index bytes, int root) override;
    void barrier() override;

    // The smallest `value` of all ranks of the group.
    int lowest(int value);

    // MPI_COMM_NULL if MPI does not run.
    MPI_Comm handle() const { return comm_; }
    Watchdog* watchdog() const { return watchdog_.get(); }

private:
    // Waits until all ranks have reached it, then makes the MPI call `function`, guarded by the watchdog.
    template <class Function>
    void collective(const char* call, Function&& function);

    std::shared_ptr<Watchdog> watchdog_;
    std::string others_;  // names of the ranks of the group
    MPI_Comm comm_ = MPI_COMM_NULL;
    int rank_ = 0, size_ = 1;
};

}  // namespace spikefloss
