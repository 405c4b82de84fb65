// Common code of the files that emulate NCCL.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <atomic>
#include <memory>

struct ncclComm {
    MPI_Comm mpi;
    int rank = 0, size = 1;
    std::atomic<bool> aborted = false;
    std::atomic<ncclResult_t> error = ncclSuccess;
    // Instantiated graphs that recorded one of its collectives.
    std::shared_ptr<std::atomic<int>> graphs = std::make_shared<std::atomic<int>>(0);
};
