#include "commands/session.hpp"

#include "config/schema.hpp"
#include "io/build_text.hpp"
#include "parallel/launch.hpp"

#include <fmt/chrono.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>

namespace spikefloss {

int world_size() {
    int size = 1;
    if (mpi_runs()) MPI_Comm_size(MPI_COMM_WORLD, &size);
    return size;
}

bool is_first_rank() {
    int rank = 0;
    if (mpi_runs()) MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank == 0;
}

void check_launcher() {
    const std::string found = foreign_launch(process_environment());
    require(found.empty(), Exit::usage, fmt::format("{}, but this is an MPI world of one rank", found),
            "start it with Open MPI's mpirun or launch/mpirun.sh, or with srun --mpi=pmix; unset that variable if no "
            "launcher is involved");
}

void check_slurm_tasks() {
    const char* tasks = std::getenv("SLURM_NTASKS");
    if (!tasks || std::atoi(tasks) <= 1 || world_size() > 1 || std::getenv("OMPI_COMM_WORLD_SIZE")) return;
    throw Error(Exit::usage,
                fmt::format("Slurm gave this job {} tasks, but this process is an MPI world of one rank", tasks),
                "start it with srun --mpi=pmix (srun --mpi=list names what Slurm has; Open MPI needs PMIx), or with "
                "mpirun inside the job; for one rank use --ntasks=1");
}

namespace {

// The lowest rank on the machine of each rank, by MPI. Collective.
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
    std::vector<int> all(static_cast<std::size_t>(world_size()));
    check_mpi(MPI_Allgather(&lowest, 1, MPI_INT, all.data(), 1, MPI_INT, MPI_COMM_WORLD), "MPI_Allgather");
    return all;
}

// The ranks on this machine. With a text, only those with the same text (the devices that they see).
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

std::string processor_name() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    return "unknown processor";
}

}  // namespace

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

void alike(const std::function<void()>& work) { ProcessGrid(MPI_COMM_WORLD, {1, world_size()}).agree(work); }

namespace {

GridShape shape_of(const ParallelChoice& choice) {
    GridShape shape;
    alike([&] { shape = parse_grid(choice.grid, world_size()); });
    return shape;
}

}  // namespace

Session::Session(const ParallelChoice& choice, Sums sums)
    : grid(MPI_COMM_WORLD, shape_of(choice),
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
        check_comm(*find_choice<BackendKind>(backend->name()), comm_);
    });
    std::vector<std::string> hosts;
    for (int rank = 0; rank < grid.ranks(); ++rank) hosts.push_back(grid.watchdog()->host_of(rank));
    contradiction_ = contradiction_of(hosts, machines(grid));
    const bool on_gpu = backend->name() == "cuda";
    const auto gpus = static_cast<int>(devices.size());
    sharers_ = on_gpu ? (place.local_ranks + gpus - 1) / gpus : place_among(grid, "").local_ranks;
    device_ = on_gpu ? devices[static_cast<std::size_t>(place.local_rank % gpus)]
                     : fmt::format("{}, {} thread{}", processor_name(), threads, threads == 1 ? "" : "s");
    connect(comm_, *backend, grid);
    if (comm_ == CommKind::automatic) comm_ = on_gpu ? CommKind::nccl : CommKind::mpi;
    if (!on_gpu) precision_ = Precision::fp32;
}

// Of every rank. Collective.
std::vector<std::string> Session::devices() const {
    constexpr std::size_t width = 160;
    std::string mine = device_;
    mine.resize(width, ' ');
    std::vector<char> all(width * static_cast<std::size_t>(grid.ranks()));
    grid.control().all_gather(mine.data(), all.data(),
                              std::vector<Index>(static_cast<std::size_t>(grid.ranks()), width));
    std::vector<std::string> devices;
    for (std::size_t at = 0; at < all.size(); at += width) {
        std::string& device = devices.emplace_back(&all[at], width);
        device.erase(device.find_last_not_of(' ') + 1);
    }
    return devices;
}

std::string Session::devices_text() const {
    std::string text =
        fmt::format("backend {}, {} products, communicator {}", backend->name(), name_of(precision_), name_of(comm_));
    std::string before;
    int rank = 0;
    for (const std::string& device : devices()) {
        if (device != before) text += fmt::format("\n  from rank {}: {}", rank, device);
        before = device;
        ++rank;
    }
    if (!contradiction_.empty()) text += "\n  warning: " + contradiction_;
    return text;
}

std::string Session::record(const CheckpointOrigin& origin,
                            const std::vector<std::pair<std::string, std::string>>& passes) const {
    nlohmann::ordered_json json;
    json["started"] = fmt::format("{:%Y-%m-%d %H:%M:%S %z}", fmt::localtime(std::time(nullptr)));
    json["run"] = origin.run;
    json["data"] = origin.data;
    json["network"] = origin.network;
    json["version"] = version_text();
    json["build"] = build_text();
    json["grid"] = fmt::format("{}x{}", grid.shape().neuron_shards, grid.shape().batch_shards);
    json["threads"] = threads;
    json["backend"] = backend->name();
    json["precision"] = name_of(precision_);
    json["communicator"] = name_of(comm_);
    if (!contradiction_.empty()) json["warning"] = contradiction_;
    for (const auto& [name, form] : passes) json["passes"][name] = form;
    json["ranks"] = nlohmann::ordered_json::array();
    int rank = 0;
    for (const std::string& device : devices()) {
        json["ranks"].push_back({{"host", grid.watchdog()->host_of(rank)}, {"device", device}});
        ++rank;
    }
    return json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

ParallelChoice parallel_choice(const Config& config) {
    const ParallelConfig& p = config.parallel;
    return {p.grid, p.threads, p.backend, p.comm, config.run.precision, config.watchdog.seconds};
}

Config config_of(const std::string& path, const std::vector<std::string>& assignments, const ParallelChoice& choice) {
    Config config;
    read_config(path, config);
    for (const std::string& assignment : assignments) set_key(assignment, config);
    ParallelConfig& p = config.parallel;
    if (!choice.grid.empty()) p.grid = choice.grid;
    p.backend = choice.backend.value_or(p.backend);
    p.comm = choice.comm.value_or(p.comm);
    config.run.precision = choice.precision.value_or(config.run.precision);
    if (choice.threads > 0) p.threads = choice.threads;
    config.watchdog.seconds = choice.watchdog_seconds.value_or(config.watchdog.seconds);
    return config;
}

}  // namespace spikefloss
