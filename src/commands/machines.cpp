#include "commands/machines.hpp"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <functional>
#include <thread>

namespace spikefloss {

std::vector<int> machines(const ProcessGrid& grid) {
    if (grid.ranks() == 1) return {0};
    const Watchdog::Blocking blocking(grid.watchdog().get(), "MPI_Comm_split_type");
    MPI_Comm node = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
              "MPI_Comm_split_type");
    int mine = 0, lowest = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &mine);
    check_mpi(MPI_Allreduce(&mine, &lowest, 1, MPI_INT, MPI_MIN, node), "MPI_Allreduce");
    MPI_Comm_free(&node);
    std::vector<int> all(static_cast<std::size_t>(grid.ranks()));
    check_mpi(MPI_Allgather(&lowest, 1, MPI_INT, all.data(), 1, MPI_INT, MPI_COMM_WORLD), "MPI_Allgather");
    return all;
}

Place place_among(const ProcessGrid& grid, const std::string& seen) {
    if (grid.ranks() == 1) return {};
    const Watchdog::Blocking blocking(grid.watchdog().get(), "MPI_Comm_split_type");
    MPI_Comm node = MPI_COMM_NULL, same = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node),
              "MPI_Comm_split_type");
    const auto color = static_cast<int>(std::hash<std::string>{}(seen)&0x7FFFFFFF);
    check_mpi(MPI_Comm_split(node, color, 0, &same), "MPI_Comm_split");
    Place place;
    MPI_Comm_rank(same, &place.local_rank);
    MPI_Comm_size(same, &place.local_ranks);
    MPI_Comm_free(&same);
    MPI_Comm_free(&node);
    return place;
}

int threads_per_rank(const ProcessGrid& grid, std::int64_t asked) {
    if (asked > 0) return static_cast<int>(asked);
    const int ranks_here = place_among(grid, "").local_ranks;
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    const int cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    const int bound = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : cores;
    return std::max(1, std::min(bound, cores / ranks_here));
}

std::string contradiction_of(const std::vector<std::string>& hosts, const std::vector<int>& machines) {
    for (std::size_t r = 0; r < hosts.size(); ++r)
        for (std::size_t before = 0; before < r; ++before) {
            if ((hosts[r] == hosts[before]) == (machines[r] == machines[before])) continue;
            const std::string who = fmt::format("rank {} ({}) and rank {} ({})", before, hosts[before], r, hosts[r]);
            return hosts[r] == hosts[before]
                       ? fmt::format(
                             "for MPI {} are on two machines, but these have one name; if they are one machine, its "
                             "cores and GPUs are used twice",
                             who)
                       : fmt::format(
                             "for MPI {} are on one machine, but it has two names; if they are two machines, cores and "
                             "GPUs stay unused",
                             who);
        }
    return "";
}

}  // namespace spikefloss
