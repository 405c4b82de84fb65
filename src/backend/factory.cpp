// The only file that depends on which backends the build contains.
#include "backend/factory.hpp"

#include "backend/instruction_sets.hpp"
#include "core/error.hpp"

#if SPIKEFLOSS_WITH_CUDA
#include <communicators.hpp>
#include <make_cuda.hpp>
#endif

namespace spikefloss {
namespace {

#if SPIKEFLOSS_WITH_CUDA
constexpr const char* names = "cpu, cuda";
#else
constexpr const char* names = "cpu";
std::unique_ptr<Backend> make_cuda_backend(const BackendChoice&) { return nullptr; }
std::string cuda_fault() { return "this build has no CUDA backend"; }
std::vector<std::string> cuda_device_texts() { return {}; }
std::string library_versions() { return ""; }
void connect_cuda(CommKind, Backend&, ProcessGrid&) {}
#endif

}  // namespace

std::unique_ptr<Backend> make_backend(const BackendChoice& choice) {
    const bool prefers_cuda = SPIKEFLOSS_PREFER_CUDA && cuda_fault().empty();
    const bool cuda = choice.kind == BackendKind::cuda ||
                      (choice.kind == BackendKind::automatic && SPIKEFLOSS_WITH_CUDA && prefers_cuda);
    if (!cuda) return make_cpu_backend(choice.threads, choice.sums, choice.instruction_set);
    require(SPIKEFLOSS_WITH_CUDA, Exit::usage, "backend 'cuda' is not in this build",
            "configure with -DSPIKEFLOSS_CUDA=ON and build again, or use backend cpu");
    return make_cuda_backend(choice);
}

void connect(CommKind comm, Backend& backend, ProcessGrid& grid) {
    const bool fits = comm == CommKind::automatic || (comm == CommKind::mpi) == (backend.name() == "cpu");
    require(fits, Exit::usage,
            fmt::format("communicator '{}' does not fit backend '{}'", name_of(comm), backend.name()),
            backend.name() == "cpu" ? "use auto or mpi" : "use auto or nccl, or staged for several ranks on one GPU");
    if (backend.name() == "cuda") connect_cuda(comm, backend, grid);
}

std::string backend_names() { return names; }

std::vector<std::string> device_texts() { return cuda_device_texts(); }

std::string cuda_versions() { return library_versions(); }

std::string why_no_cuda() { return cuda_fault(); }

}  // namespace spikefloss
