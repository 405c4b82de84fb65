// bench_gpu: times the training and flossing steps of docs/performance.md on one GPU (or, for a trial, on the CPU
// backend). It measures the limits of the same device in the same run. It prints a table and writes JSON. --export
// writes each workload with our gradients for the peers in bench/peers/.
//
//   bench_gpu --json gpu.json --export /tmp/cases        bench_gpu --backend cpu --quick
//
// An error of a kernel makes all later work of its process fail. The limits and each workload can therefore run in a
// process of their own; bench/peers/summary.py merges the files:
//
//   bench_gpu --limits-only --json limits.json           bench_gpu --list
//   bench_gpu --limits limits.json --only train_80_16_300 --json train_80.json
#include "workload.hpp"

#include "backend/factory.hpp"
#include "core/error.hpp"
#include "parallel/mpi_communicator.hpp"

#include <fmt/ranges.h>
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
    std::string limits = "measure";  // or none, or the JSON file of an earlier run
    std::vector<std::string> only, without;
    bool quick = false, list = false, limits_only = false;
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

// The numbers of Limits in JSON, each in its unit.
struct LimitName {
    const char* key;
    double Limits::*value;
    double unit;
};
constexpr LimitName limit_names[] = {
    {"copy_GB_per_s", &Limits::copy_rate, 1e9},         {"bf16_TFLOP_per_s", &Limits::bf16_rate, 1e12},
    {"fp32_TFLOP_per_s", &Limits::fp32_rate, 1e12},     {"fp64_TFLOP_per_s", &Limits::fp64_rate, 1e12},
    {"launch_us", &Limits::launch_time, 1e-6},          {"graph_node_us", &Limits::graph_node_time, 1e-6},
    {"block_barrier_us", &Limits::block_barrier, 1e-6}, {"cluster_barrier_us", &Limits::cluster_barrier, 1e-6},
    {"grid_barrier_us", &Limits::grid_barrier, 1e-6},   {"shared_KB_per_block", &Limits::on_chip_block, 1024.0},
    {"multiprocessors", &Limits::multiprocessors, 1.0}};

nlohmann::json json_of(const Limits& limits) {
    nlohmann::json result = {{"device", limits.device}};
    for (const auto& [key, value, unit] : limit_names) result[key] = limits.*value / unit;
    return result;
}

Limits limits_of_file(const std::string& path) {
    const std::string advice = "measure them with bench_gpu --limits-only --json " + path;
    std::ifstream file(path);
    require(static_cast<bool>(file), Exit::usage, fmt::format("cannot read the limits in {}", path), advice);
    Limits limits;
    try {
        const nlohmann::json found = nlohmann::json::parse(file).at("limits");
        limits.device = found.at("device");
        for (const auto& [key, value, unit] : limit_names) limits.*value = found.at(key).get<double>() * unit;
    } catch (const nlohmann::json::exception& error) {
        throw Error(Exit::bad_file, fmt::format("{} has no limits: {}", path, error.what()), advice);
    }
    return limits;
}

nlohmann::json run_case(Backend& backend, const ProcessGrid& grid, Timer& timer, const Limits& limits,
                        const Workload& workload, const Options& options) {
    std::string name = workload.name;
    if (!options.without.empty()) name += fmt::format(" without {}", fmt::join(options.without, ", "));
    nlohmann::json row = {{"name", name},          {"kind", workload.flossing() ? "flossing" : "training"},
                          {"goal", workload.goal}, {"N", workload.N},
                          {"B", workload.B},       {"T", workload.T},
                          {"k", workload.k}};
    const auto start = std::chrono::steady_clock::now();
    try {
        Case one(backend, grid, workload);
        const double rate = one.tune();
        row["rate"] = rate;
        const auto& [forward, backward] = one.passes();
        row["passes"] = forward.name + ", " + backward.name;
        row["predicted_step_us"] = {{"forward", forward.microseconds}, {"backward", backward.microseconds}};
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
    std::printf("limits of this device:\n");
    for (const auto& [key, value] : limits.items())
        if (value.is_string())
            std::printf("  %-20s %s\n", key.c_str(), value.get<std::string>().c_str());
        else
            std::printf("  %-20s %.4g\n", key.c_str(), value.get<double>());
    std::printf("\n%-22s %10s %21s %9s %6s  %-16s %9s %6s  passes\n", "workload", "median ms", "min .. max ms",
                "forward", "rate %", "bound by", "bound ms", "share");
}

void print_row(const nlohmann::json& row) {
    const std::string name = row["name"];
    if (row.contains("failed")) {
        std::printf("%-22s failed: %s\n", name.c_str(), row["failed"].get<std::string>().c_str());
        return;
    }
    const nlohmann::json &time = row["time"], &bounds = row["bounds"];
    const double median = time["median_ms"], least = time["min_ms"], most = time["max_ms"], share = bounds["share"];
    std::printf("%-22s %10.4f %9.4f .. %8.4f %9.4f %6.2f  %-16s %9.4f %5.1f%%  %s\n", name.c_str(), median, least, most,
                row["forward"]["median_ms"].get<double>(), 100.0 * row["rate"].get<double>(),
                bounds["bound_by"].get<std::string>().c_str(), share * median, 100.0 * share,
                row["passes"].get<std::string>().c_str());
    if (row.contains("share_of_bf16_third") && row["N"].get<Index>() > 4096)
        std::printf("%-22s three dense products at %.1f %% of the bf16 rate / 3\n", "",
                    100.0 * row["share_of_bf16_third"].get<double>());
}

std::vector<Workload> chosen(const Options& options) {
    if (options.only.empty()) return gpu_workloads(options.quick);
    std::vector<Workload> workloads;
    for (const std::string& name : options.only) workloads.push_back(workload_named(name));
    return workloads;
}

// Returns whether every workload ran.
bool run(const Options& options) {
    const BackendChoice choice{.kind = choice_from<BackendKind>(options.backend, "--backend"),
                               .threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency())),
                               .precision = choice_from<Precision>(options.precision, "--precision"),
                               .without_passes = options.without};
    require(options.without.empty() || options.backend == "cuda", Exit::usage,
            "--without: the CPU backend has none of these", "leave it out, or use --backend cuda");
    const std::vector<Workload> workloads = options.limits_only ? std::vector<Workload>() : chosen(options);
    const std::unique_ptr<Backend> backend = make_backend(choice);
    const ProcessGrid grid(MPI_COMM_SELF, {1, 1});
    nlohmann::json result = {{"backend", backend->name()},
                             {"precision", options.precision},
                             {"limits", json_of({})},
                             {"rows", nlohmann::json::array()}};
    const auto save = [&] {
        if (options.json.empty()) return;
        std::ofstream file(options.json);
        file << result.dump(1) << '\n';
        require(static_cast<bool>(file.flush()), Exit::storage, fmt::format("cannot write {}", options.json),
                "choose another place with --json");
    };
    // Each limit is saved before the next is measured, so that a failure keeps those before it.
    const auto known = [&](const Limits& limits) {
        result["limits"] = json_of(limits);
        save();
    };
    const bool measured = options.limits == "measure", on_file = !measured && options.limits != "none";
    std::unique_ptr<Timer> timer;
    Limits limits = on_file ? limits_of_file(options.limits) : Limits{};
#if SPIKEFLOSS_WITH_CUDA
    if (backend->name() == "cuda") {
        timer = cuda_timer(*backend);
        if (measured) limits = cuda_limits(*backend, known);
    }
#endif
    if (!timer) {
        timer = host_timer(*backend);
        if (measured) limits = host_limits(*backend);
    }
    known(limits);
    print_limits(result["limits"]);
    bool complete = true;
    for (const Workload& workload : workloads) {
        result["rows"].push_back(run_case(*backend, grid, *timer, limits, workload, options));
        complete = complete && !result["rows"].back().contains("failed");
        print_row(result["rows"].back());
        std::fflush(stdout);
        save();  // after every row, so that an interrupted run keeps its rows
    }
    return complete;
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
    app.add_option("--only", options.only,
                   "names of workloads to run, of --list or of any sizes: train_N_B_T, floss_N_k_T_B")
        ->delimiter(',');
    app.add_option("--without", options.without,
                   "ways of the CUDA backend to leave out, to compare them with others: team, tiles, digits, products, "
                   "clusters (cuda/cuda_backend.hpp)")
        ->delimiter(',')
        ->check(CLI::IsMember({"team", "tiles", "digits", "products", "loop", "clusters"}));
    app.add_flag("--list", options.list, "print the names of the workloads, the smallest first");
    app.add_option("--limits", options.limits, "measure, none, or the JSON file of an earlier run to take them from");
    app.add_flag("--limits-only", options.limits_only, "measure the limits of the device, and no workload");
    app.add_option("--precision", options.precision, "of products on the GPU")
        ->check(CLI::IsMember({"fp32", "tf32", "bf16"}));
    app.add_option("--repeats", options.repeats, "timed repeats of each workload")->check(CLI::Range(3, 1000));
    app.add_option("--budget", options.budget, "seconds of timing for one workload")->check(CLI::PositiveNumber);
    app.add_flag("--quick", options.quick, "small workloads");
    CLI11_PARSE(app, argc, argv);
    if (options.list) {
        for (const auto& workload : bench::gpu_workloads(options.quick)) std::printf("%s\n", workload.name.c_str());
        return 0;
    }
    MpiSession mpi(&argc, &argv, MpiSession::Start::always);
    try {
        if (!bench::run(options)) return static_cast<int>(Exit::internal);
    } catch (const Error& error) {
        std::cerr << "bench_gpu: " << error.what() << '\n';
        return static_cast<int>(error.code());
    } catch (const std::bad_alloc&) {
        std::cerr << "bench_gpu: " << out_of_memory().what() << '\n';
        return static_cast<int>(Exit::usage);
    }
    return 0;
}
