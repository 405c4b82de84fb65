// Common code of the files that emulate NCCL.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include <atomic>

struct ncclComm {
    MPI_Comm mpi;
    int rank = 0, size = 1;
    std::atomic<bool> aborted = false;
    std::atomic<ncclResult_t> error = ncclSuccess;
};
