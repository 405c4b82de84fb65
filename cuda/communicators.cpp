// Chooses between NCCL and staging; reports the versions of the libraries.
#include "communicators.hpp"

#include "core/error.hpp"
#include "nccl_communicator.hpp"
#include "parallel/process_grid.hpp"
#include "staged_communicator.hpp"

#include "check.hpp"

#include <fmt/format.h>

namespace spikefloss {

std::string library_versions() {
    const auto text = [](int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); };
    int runtime = 0, driver = 0, nccl = 0;
    check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
    check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
    require(ncclGetVersion(&nccl) == ncclSuccess, Exit::internal, "ncclGetVersion failed");
    return fmt::format("CUDA {}, driver {}, NCCL {}.{}.{}", text(runtime), driver ? "for CUDA " + text(driver) : "none",
                       nccl / 10000, nccl / 100 % 100, nccl % 100);
}

void connect_cuda(CommKind comm, Backend& backend, ProcessGrid& grid) {
    auto& cuda = dynamic_cast<CudaBackend&>(backend);
    if (comm == CommKind::staged) {
        cuda.while_waiting(
            [watchdog = grid.watchdog()](double waited) { watchdog->waiting(waited, "waits for its GPU"); });
        Communicators host = grid.host_communicators();
        grid.connect({std::make_unique<StagedCommunicator>(std::move(host.world), cuda),
                      std::make_unique<StagedCommunicator>(std::move(host.neurons), cuda),
                      std::make_unique<StagedCommunicator>(std::move(host.batch), cuda)});
    } else {
        // One rank uses NCCL only if comm is nccl.
        grid.connect(nccl_communicators(cuda, grid, comm == CommKind::nccl));
    }
}

}  // namespace spikefloss
