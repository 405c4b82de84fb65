#include "commands/session.hpp"

#include "backend/instruction_sets.hpp"
#include "commands/machines.hpp"
#include "config/schema.hpp"

#include <cblas.h>
#include <fmt/ranges.h>

#include <cstdlib>
#include <fstream>

#include <strings.h>

namespace spikefloss {
namespace {

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    return "unknown processor";
}

// OpenBLAS says nothing if it does not know the kernels that OPENBLAS_CORETYPE names.
std::string unknown_blas_kernels() {
    const char* asked = std::getenv("OPENBLAS_CORETYPE");
    const std::string used = openblas_get_corename();
    if (!asked || !*asked || strcasecmp(asked, used.c_str()) == 0) return "";
    return fmt::format("OPENBLAS_CORETYPE names '{}', which OpenBLAS does not know; it uses {}", asked, used);
}

GridShape shape_of(const ProcessGrid& everyone, const ParallelChoice& choice) {
    GridShape shape;
    everyone.agree([&] { shape = parse_grid(choice.grid, everyone.ranks()); });
    return shape;
}

}  // namespace

Session::Session(const ProcessGrid& everyone, const ParallelChoice& choice, Sums sums)
    : grid(MPI_COMM_WORLD, shape_of(everyone, choice),
           Watchdog::default_seconds = choice.watchdog_seconds.value_or(Watchdog::default_seconds)),
      threads(threads_per_rank(grid, choice.threads)),
      comm_(choice.comm.value_or(CommKind::automatic)),
      precision_(choice.precision.value_or(Precision::fp32)) {
    const BackendKind kind = choice.backend.value_or(BackendKind::automatic);
    std::vector<std::string> devices;  // of this machine; the query starts the driver, so it is made only if needed
    grid.agree([&] {
        check_comm(kind, comm_);
        if (kind != BackendKind::cpu && why_no_cuda().empty()) devices = device_texts();
    });
    const Place place = place_among(grid, fmt::format("{}", fmt::join(devices, "\n")));
    grid.agree([&] {
        backend = make_backend({.kind = kind,
                                .threads = threads,
                                .sums = sums,
                                .precision = precision_,
                                .local_rank = place.local_rank,
                                .local_ranks = place.local_ranks,
                                .share_device = comm_ == CommKind::staged});
        check_comm(choice_from<BackendKind>(backend->name(), "the backend"), comm_);
    });
    if (backend->name() == "cpu") flush_.emplace();
    std::vector<std::string> hosts;
    for (int rank = 0; rank < grid.ranks(); ++rank) hosts.push_back(grid.watchdog()->host_of(rank));
    warning_ = contradiction_of(hosts, machines(grid));
    if (const std::string note = unknown_blas_kernels(); !note.empty())
        warning_ += (warning_.empty() ? "" : "; ") + note;
    const bool on_gpu = backend->name() == "cuda";
    const auto gpus = static_cast<int>(devices.size());
    sharers_ = on_gpu ? (place.local_ranks + gpus - 1) / gpus : place_among(grid, "").local_ranks;
    device_ = on_gpu ? devices[static_cast<std::size_t>(place.local_rank % gpus)]
                     : fmt::format("{}, {} kernels, {} thread{}", processor_name(), instruction_set().name, threads,
                                   threads == 1 ? "" : "s");
    connect(comm_, *backend, grid);
    if (comm_ == CommKind::automatic) comm_ = on_gpu ? CommKind::nccl : CommKind::mpi;
    if (!on_gpu) precision_ = Precision::fp32;
}

}  // namespace spikefloss
