// The functions for communicators on device memory that the factory calls. No CUDA or NCCL header is included.
#pragma once

#include "backend/backend.hpp"

#include <string>

namespace spikefloss {

class ProcessGrid;

// "CUDA 13.0, driver 13.0, NCCL 2.28.9"
std::string library_versions();

// Gives the grid communicators for the memory of `backend`, a CudaBackend. comm: not mpi. Collective.
void connect_cuda(CommKind comm, Backend& backend, ProcessGrid& grid);

}  // namespace spikefloss
