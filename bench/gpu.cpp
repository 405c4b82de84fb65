// bench_gpu: times the training and flossing steps of docs/performance.md on one GPU (or, for a trial, on the CPU
// backend). It measures the limits of the same device in the same run. It prints a table and writes JSON. --export
// writes each workload with our gradients for the peers in bench/peers/.
//
//   bench_gpu --json gpu.json --export /tmp/cases        bench_gpu --backend cpu --quick
#include "workload.hpp"

#include "backend/factory.hpp"
#include "core/error.hpp"
#include "parallel/mpi_communicator.hpp"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <new>
#include <thread>

namespace spikefloss::bench {
namespace {

struct Options {
    std::string backend = "cuda", json, cases, precision = "fp32";
    std::vector<std::string> only;
    bool quick = false;
    int repeats = 15;
    double budget = 60.0;  // seconds of timing for one workload
};

// Sorted times in seconds.
struct Times {
    std::vector<double> sorted;
    double at(double part) const {
        return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1) + 0.5)];
    }
    nlohmann::json json() const {
        return {{"median_ms", 1e3 * at(0.5)},     {"min_ms", 1e3 * at(0.0)},        {"max_ms", 1e3 * at(1.0)},
                {"quartile1_ms", 1e3 * at(0.25)}, {"quartile3_ms", 1e3 * at(0.75)}, {"repeats", sorted.size()}};
    }
};

// Makes two calls to warm up, then `repeats` timed ones, or fewer (at least 3) if the budget is used up.
Times measure(Timer& timer, const std::function<void()>& work, int repeats, double budget) {
    for (int i = 0; i < 2; ++i) timer.seconds(work);
    const auto start = std::chrono::steady_clock::now();
    Times times;
    for (int i = 0; i < repeats; ++i) {
        times.sorted.push_back(timer.seconds(work));
        if (i >= 2 && std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() > budget) break;
    }
    std::sort(times.sorted.begin(), times.sorted.end());
    return times;
}

nlohmann::json json_of(const Limits& limits) {
    return {{"device", limits.device},
            {"copy_GB_per_s", limits.copy_rate * 1e-9},
            {"bf16_TFLOP_per_s", limits.bf16_rate * 1e-12},
            {"fp32_TFLOP_per_s", limits.fp32_rate * 1e-12},
            {"fp64_TFLOP_per_s", limits.fp64_rate * 1e-12},
            {"launch_us", limits.launch_time * 1e6},
            {"graph_node_us", limits.graph_node_time * 1e6},
            {"block_barrier_us", limits.block_barrier * 1e6},
            {"cluster_barrier_us", limits.cluster_barrier * 1e6},
            {"grid_barrier_us", limits.grid_barrier * 1e6}};
}

nlohmann::json run_case(Backend& backend, const ProcessGrid& grid, Timer& timer, const Limits& limits,
                        const Workload& workload, const Options& options) {
    nlohmann::json row = {{"name", workload.name}, {"kind", workload.flossing() ? "flossing" : "training"},
                          {"goal", workload.goal}, {"N", workload.N},
                          {"B", workload.B},       {"T", workload.T},
                          {"k", workload.k}};
    const auto start = std::chrono::steady_clock::now();
    try {
        Case one(backend, grid, workload);
        const double rate = one.tune();
        row["rate"] = rate;
        row["time"] = measure(
                          timer, [&] { one.step(); }, options.repeats, options.budget)
                          .json();
        row["forward"] = measure(
                             timer, [&] { one.forward(); }, options.repeats, options.budget / 4.0)
                             .json();
        const Bounds bounds = bounds_of(workload, rate, limits);
        const double seconds = 1e-3 * row["time"]["median_ms"].get<double>();
        row["bounds"] = {{"memory_ms", 1e3 * bounds.memory},   {"products_ms", 1e3 * bounds.products},
                         {"latency_ms", 1e3 * bounds.latency}, {"bytes", bounds.bytes},
                         {"operations", bounds.operations},    {"bound_by", bounds.name()},
                         {"share", bounds.least() / seconds}};
        const double dense = 6.0 * static_cast<double>(workload.B * workload.T) * static_cast<double>(workload.N) *
                             static_cast<double>(workload.N);
        if (!workload.flossing() && limits.bf16_rate > 0.0)
            row["share_of_bf16_third"] = dense / seconds / (limits.bf16_rate / 3.0);
        if (!options.cases.empty()) one.write(std::filesystem::path(options.cases) / workload.name);
    } catch (const std::exception& error) {
        row["failed"] = error.what();
    }
    row["wall_s"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return row;
}

void print_limits(const nlohmann::json& limits) {
    std::printf("limits of this device, measured now:\n");
    for (const auto& [key, value] : limits.items())
        if (value.is_string())
            std::printf("  %-20s %s\n", key.c_str(), value.get<std::string>().c_str());
        else
            std::printf("  %-20s %.4g\n", key.c_str(), value.get<double>());
    std::printf("\n%-22s %10s %21s %9s %6s  %-16s %9s %6s\n", "workload", "median ms", "min .. max ms", "forward",
                "rate %", "bound by", "bound ms", "share");
}

void print_row(const nlohmann::json& row) {
    const std::string name = row["name"];
    if (row.contains("failed")) {
        std::printf("%-22s failed: %s\n", name.c_str(), row["failed"].get<std::string>().c_str());
        return;
    }
    const nlohmann::json &time = row["time"], &bounds = row["bounds"];
    const double median = time["median_ms"], least = time["min_ms"], most = time["max_ms"], share = bounds["share"];
    std::printf("%-22s %10.4f %9.4f .. %8.4f %9.4f %6.2f  %-16s %9.4f %5.1f%%\n", name.c_str(), median, least, most,
                row["forward"]["median_ms"].get<double>(), 100.0 * row["rate"].get<double>(),
                bounds["bound_by"].get<std::string>().c_str(), share * median, 100.0 * share);
    if (row.contains("share_of_bf16_third") && row["N"].get<Index>() > 4096)
        std::printf("%-22s three dense products at %.1f %% of the bf16 rate / 3\n", "",
                    100.0 * row["share_of_bf16_third"].get<double>());
}

bool chosen(const Options& options, const std::string& name) {
    return options.only.empty() || std::find(options.only.begin(), options.only.end(), name) != options.only.end();
}

void run(const Options& options) {
    const BackendChoice choice{.name = options.backend,
                               .threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency())),
                               .precision = options.precision == "tf32"   ? Precision::tf32
                                            : options.precision == "bf16" ? Precision::bf16
                                                                          : Precision::fp32};
    const std::unique_ptr<Backend> backend = make_backend(choice);
    const ProcessGrid grid(MPI_COMM_SELF, {1, 1});
    std::unique_ptr<Timer> timer;
    Limits limits;
#if SPIKEFLOSS_WITH_CUDA
    if (backend->name() == "cuda") {
        timer = cuda_timer(*backend);
        limits = cuda_limits(*backend);
    }
#endif
    if (!timer) {
        timer = host_timer(*backend);
        limits = host_limits(*backend);
    }
    nlohmann::json result = {
        {"backend", backend->name()}, {"precision", options.precision}, {"limits", json_of(limits)}, {"rows", {}}};
    print_limits(result["limits"]);
    const auto save = [&] {
        if (options.json.empty()) return;
        std::ofstream file(options.json);
        file << result.dump(1) << '\n';
        require(static_cast<bool>(file.flush()), Exit::storage, fmt::format("cannot write {}", options.json),
                "choose another place with --json");
    };
    for (const Workload& workload : gpu_workloads(options.quick)) {
        if (!chosen(options, workload.name)) continue;
        result["rows"].push_back(run_case(*backend, grid, *timer, limits, workload, options));
        print_row(result["rows"].back());
        std::fflush(stdout);
        save();  // after every row, so that an interrupted run keeps its rows
    }
    save();
}

}  // namespace
}  // namespace spikefloss::bench

int main(int argc, char** argv) {
    using namespace spikefloss;
    bench::Options options;
    CLI::App app("Times training and flossing steps on a GPU beside the limits of the device");
    app.add_option("--backend", options.backend, "cuda, or cpu to try the program out")
        ->check(CLI::IsMember({"cuda", "cpu"}));
    app.add_option("--json", options.json, "file for the results");
    app.add_option("--export", options.cases, "folder for the workloads and our gradients, for bench/peers");
    app.add_option("--only", options.only, "names of workloads to run");
    app.add_option("--precision", options.precision, "of products on the GPU")
        ->check(CLI::IsMember({"fp32", "tf32", "bf16"}));
    app.add_option("--repeats", options.repeats, "timed repeats of each workload")->check(CLI::Range(3, 1000));
    app.add_option("--budget", options.budget, "seconds of timing for one workload")->check(CLI::PositiveNumber);
    app.add_flag("--quick", options.quick, "small workloads");
    CLI11_PARSE(app, argc, argv);
    MpiSession mpi(&argc, &argv, MpiSession::Start::always);
    try {
        bench::run(options);
    } catch (const Error& error) {
        std::cerr << "bench_gpu: " << error.what() << '\n';
        return static_cast<int>(error.code());
    } catch (const std::bad_alloc&) {
        std::cerr << "bench_gpu: " << out_of_memory().what() << '\n';
        return static_cast<int>(Exit::usage);
    }
    return 0;
}
