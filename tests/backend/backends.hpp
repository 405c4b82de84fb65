// The backends of all operation tests and benchmarks. A new backend is one more entry here.
#pragma once

#include "backend/factory.hpp"
#include "backend/instruction_sets.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace spikefloss::testing_support {

struct BackendCase {
    std::string name;  // letters, digits and _ only: part of the test's name
    std::function<std::unique_ptr<Backend>()> make;
    std::string missing = "";  // why it cannot run here; empty when it can
};

inline std::ostream& operator<<(std::ostream& out, const BackendCase& backend) { return out << backend.name; }

// Named cuda_*: ctest runs these on their own.
inline std::vector<BackendCase> cuda_backends() {
    std::vector<BackendCase> backends;
    for (Sums sums : {Sums::float32, Sums::float64})
        backends.push_back({"cuda_" + std::string(name_of(sums)),
                            [=] { return make_backend(BackendChoice{.kind = BackendKind::cuda, .sums = sums}); },
                            why_no_cuda()});
    return backends;
}

// The same GPU with smaller limits, so that whole passes of a few dozen neurons take every form: W_rec split over the
// blocks of a cluster, over blocks that communicate through global memory, or a product for every step (by bfloat16
// parts, by digits). With few
// multiprocessors, blocks take many sequences at a time (1: eight in a product), and teams several groups in turn.
inline std::vector<BackendCase> limited_cuda_backends() {
    struct Limited {
        const char* name;
        BackendChoice::DeviceLimits limits;
        std::vector<std::string> without = {};
    };
    std::vector<BackendCase> backends;
    for (const Limited& limited :
         {Limited{"cuda_clusters", {14000, true, 0}}, Limited{"cuda_grid", {14000, false, 0}},
          Limited{"cuda_stepwise", {1024, false, 0}, {"digits"}}, Limited{"cuda_digits", {1024, false, 0}, {"loop"}},
          Limited{"cuda_small", {0, true, 1}}, Limited{"cuda_grid_small", {14000, false, 4}},
          Limited{"cuda_columns", {0, true, 0}, {"tiles"}},
          Limited{"cuda_columns_clusters", {14000, true, 0}, {"tiles"}},
          Limited{"cuda_columns_small", {0, true, 1}, {"tiles"}}})
        backends.push_back({limited.name,
                            [=] {
                                return make_backend(BackendChoice{.kind = BackendKind::cuda,
                                                                  .limits = limited.limits,
                                                                  .without_passes = limited.without});
                            },
                            why_no_cuda()});
    return backends;
}

// Three threads do not divide any of the usual sizes, so a wrong split of the work shows. The kernels for older
// processors have one entry for each kind of sums.
inline std::vector<BackendCase> cpu_backends() {
    std::vector<BackendCase> backends;
    for (int threads : {1, 3})
        for (Sums sums : {Sums::float32, Sums::float64})
            backends.push_back({"cpu_" + std::to_string(threads) + "_threads_" + std::string(name_of(sums)),
                                [=] { return make_backend(BackendKind::cpu, threads, sums); }});
    for (const InstructionSet& set : instruction_sets()) {
        if (!set.runs_here() || &set == &instruction_set()) continue;
        std::string name(set.name);
        std::replace(name.begin(), name.end(), '-', '_');
        for (Sums sums : {Sums::float32, Sums::float64})
            backends.push_back({"cpu_" + name + "_" + std::string(name_of(sums)),
                                [&set, sums] { return make_cpu_backend(1, sums, set.name); }});
    }
    return backends;
}

// Whether it fuses products of floats with their sums: all do but the kernels for x86-64 without more.
inline bool fuses_products(const BackendCase& backend) {
    if (backend.name.rfind("cpu_", 0) != 0) return true;
    return backend.name.rfind("cpu_x86_64_float", 0) != 0 && instruction_set().name != "x86-64";
}

// In the emulated twin of a test only the CUDA backend, on an emulated device. Elsewhere all backends of the build.
inline std::vector<BackendCase> available_backends() {
#ifdef SPIKEFLOSS_TEST_EMULATED
    return cuda_backends();
#else
    std::vector<BackendCase> backends = cpu_backends();
    if (backend_names() != "cpu")
        for (BackendCase& backend : cuda_backends()) backends.push_back(std::move(backend));
    return backends;
#endif
}

// For the tests of whole passes.
inline std::vector<BackendCase> available_pass_backends() {
    std::vector<BackendCase> backends = available_backends();
    if (backend_names() != "cpu")
        for (BackendCase& backend : limited_cuda_backends()) backends.push_back(std::move(backend));
    return backends;
}

// Whether a backend that cannot run here is a failure. On a machine that should have a GPU its tests must not be
// skipped.
inline bool gpu_is_required() {
    const char* asked = std::getenv("SPIKEFLOSS_REQUIRE_GPU");
    return asked && std::string(asked) == "1";
}

// The backend of tests that use one backend: in an emulated twin the CUDA backend; elsewhere the CPU backend, or the
// one that SPIKEFLOSS_TEST_BACKEND names. Ends the process, as a skipped test, if that is cuda and there is no GPU.
inline std::unique_ptr<Backend> make_test_backend(int threads, Sums sums) {
#ifdef SPIKEFLOSS_TEST_EMULATED
    return make_backend(BackendKind::cuda, threads, sums);
#else
    const char* asked = std::getenv("SPIKEFLOSS_TEST_BACKEND");
    const auto kind = choice_from<BackendKind>(asked ? asked : "cpu", "SPIKEFLOSS_TEST_BACKEND");
    if (kind == BackendKind::cuda && !why_no_cuda().empty()) {
        std::printf("skipped: %s\n", why_no_cuda().c_str());
        std::exit(gpu_is_required() ? 1 : 0);
    }
    return make_backend(kind, threads, sums);
#endif
}

}  // namespace spikefloss::testing_support
