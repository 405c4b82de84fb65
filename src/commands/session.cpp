#include "commands/session.hpp"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace spikefloss {

int world_size() {
    int size = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

bool is_first_rank() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank == 0;
}

int threads_per_rank(std::int64_t asked) {
    if (asked > 0) return static_cast<int>(asked);
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node), "MPI_Comm_split_type");
    int ranks_here = 1;
    MPI_Comm_size(node, &ranks_here);
    MPI_Comm_free(&node);
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int bound = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : cores;
    return std::max(1, std::min(bound, cores / ranks_here));
}

void alike(const std::function<void()>& work) { ProcessGrid(MPI_COMM_WORLD, {1, world_size()}).agree(work); }

namespace {

GridShape shape_of(const ParallelChoice& choice) {
    GridShape shape;
    alike([&] { shape = parse_grid(choice.grid, world_size()); });
    return shape;
}

}  // namespace

Session::Session(const ParallelChoice& choice, Sums sums)
    : grid(MPI_COMM_WORLD, shape_of(choice)), threads(threads_per_rank(choice.threads)) {
    grid.agree([&] { backend = make_backend(choice.backend.empty() ? "auto" : choice.backend, threads, sums); });
}

Sums sums_from_name(const std::string& name) { return name == "float64" ? Sums::float64 : Sums::float32; }

}  // namespace spikefloss
