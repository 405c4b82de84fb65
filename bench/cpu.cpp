// bench_cpu: one of the workloads of bench/compare on the CPU backend. It does one step for each request, so that
// programs can run alternately. Requests are lines on the standard input of rank 0:
//
//   step      does one step; answers {"seconds": s}
//   forward   does only the forward pass of the network; answers the same
//   memory    answers {"peak_mb": the process's largest resident size, "before_mb": what it was before the workload}
//
// Its first line is {"ready": ...} with sizes, spike rate and the lower bound of the time by the limits that --limits
// measures. --export writes the workload and our gradients for bench/peers. On several ranks (mpirun) each rank has its
// sequences, and a step ends with the sum of the gradients.
#include "workload.hpp"

#include "backend/factory.hpp"
#include "core/error.hpp"
#include "core/flush_denormals.hpp"
#include "parallel/mpi_communicator.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <new>

namespace spikefloss::bench {
namespace {

struct Options {
    std::string workload, cases;
    int threads = 1;
    bool quick = false, limits = false;
};

// Megabytes of a line of /proc/self/status, 0 if there is none.
double megabytes(const std::string& key) {
    std::ifstream file("/proc/self/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(key + ":")) return std::stod(line.substr(key.size() + 1)) / 1024.0;
    return 0.0;
}

void answer(const ProcessGrid& grid, const nlohmann::json& what) {
    if (grid.rank() != 0) return;
    std::cout << what.dump() << std::endl;
}

Workload named(const Options& options) {
    for (const Workload& workload : cpu_workloads(options.quick))
        if (workload.name == options.workload) return workload;
    return workload_named(options.workload);
}

nlohmann::json limits_of(const Workload& workload, double rate, const Limits& limits) {
    const Bounds bounds = bounds_of(workload, rate, limits);
    return {{"copy_GB_per_s", limits.copy_rate * 1e-9}, {"fp32_GFLOP_per_s", limits.fp32_rate * 1e-9},
            {"memory_ms", 1e3 * bounds.memory},         {"products_ms", 1e3 * bounds.products},
            {"least_ms", 1e3 * bounds.least()},         {"bound_by", bounds.name()},
            {"operations", bounds.operations},          {"bytes", bounds.bytes}};
}

// The next request on the standard input, the same on all ranks; "" at its end.
std::string next_word(const ProcessGrid& grid) {
    enum : std::int32_t { end, step, forward, memory, unknown };
    const std::vector<std::string> words = {"", "step", "forward", "memory"};
    std::vector<float> chosen = {static_cast<float>(end)};
    std::string line;
    if (grid.rank() == 0 && std::getline(std::cin, line)) {
        const auto found = std::find(words.begin(), words.end(), line);
        require(found != words.end(), Exit::usage, fmt::format("\"{}\" on the standard input", line),
                "use step, forward or memory");
        chosen[0] = static_cast<float>(found - words.begin());
    }
    grid.control().broadcast(chosen.data(), sizeof(float), 0);
    return words[static_cast<std::size_t>(chosen[0])];
}

void run(const Options& options) {
    const Workload workload = named(options);
    const std::unique_ptr<Backend> backend = make_backend({.kind = BackendKind::cpu, .threads = options.threads});
    const int ranks = MpiCommunicator(MPI_COMM_WORLD).size();
    const ProcessGrid grid(MPI_COMM_WORLD, {1, ranks});
    require(ranks == 1 || !workload.flossing(), Exit::usage, "a flossing workload on several ranks", "use one rank");
    const std::unique_ptr<Timer> timer = host_timer(*backend);
    const Limits limits = options.limits ? host_limits(*backend) : Limits{};
    std::ofstream("/proc/self/clear_refs") << 5;  // the largest resident size counts from here
    const double before = megabytes("VmRSS");
    Case one(*backend, grid, workload);
    const double rate = one.tune();
    one.step();
    if (!options.cases.empty()) one.write(std::filesystem::path(options.cases) / workload.name);
    nlohmann::json ready = {{"ready", true},         {"N", workload.N}, {"B", workload.B},
                            {"T", workload.T},       {"k", workload.k}, {"rate", rate},
                            {"goal", workload.goal}, {"ranks", ranks},  {"threads", options.threads}};
    if (options.limits) ready["limits"] = limits_of(workload, rate, limits);
    answer(grid, ready);
    for (std::string word = next_word(grid); !word.empty(); word = next_word(grid)) {
        if (word == "memory")
            answer(grid, {{"peak_mb", megabytes("VmHWM")}, {"before_mb", before}});
        else
            answer(grid, {{"seconds", timer->seconds([&] { word == "step" ? one.step() : one.forward(); })}});
    }
}

}  // namespace
}  // namespace spikefloss::bench

int main(int argc, char** argv) {
    using namespace spikefloss;
    bench::Options options;
    CLI::App app("Runs one of the workloads of bench/compare, one step at a time");
    app.add_option("workload", options.workload, "name of the workload")->required();
    app.add_option("--threads", options.threads, "threads of each rank")->check(CLI::Range(1, 1024));
    app.add_option("--export", options.cases, "folder for the workload and our gradients, for bench/peers");
    app.add_flag("--limits", options.limits, "measure the machine's copy and product rates first");
    app.add_flag("--quick", options.quick, "a small workload");
    CLI11_PARSE(app, argc, argv);
    const FlushDenormals flush;  // as the program does
    MpiSession mpi(&argc, &argv, MpiSession::Start::always);
    try {
        bench::run(options);
    } catch (const Error& error) {
        std::cerr << "bench_cpu: " << error.what() << '\n';
        return static_cast<int>(error.code());
    } catch (const std::bad_alloc&) {
        std::cerr << "bench_cpu: " << out_of_memory().what() << '\n';
        return static_cast<int>(Exit::usage);
    }
    return 0;
}
