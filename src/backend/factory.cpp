// The only place that knows which backends the build contains.
#include "backend/factory.hpp"

#include "backend/cpu_backend.hpp"
#include "core/error.hpp"

namespace spikefloss {

std::unique_ptr<Backend> make_backend(const std::string& name, int threads, Sums sums) {
    require(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"), Exit::usage,
            "this machine's processor has no AVX2 and FMA instructions, which this build uses",
            "configure with -DSPIKEFLOSS_ARCH= (empty) and build again");
    if (name == "auto" || name == "cpu") return std::make_unique<CpuBackend>(threads, sums);
    throw Error(Exit::usage, fmt::format("backend '{}' is not in this build", name),
                fmt::format("choose one of: auto, {}", backend_names()));
}

std::string backend_names() { return "cpu"; }

}  // namespace spikefloss
