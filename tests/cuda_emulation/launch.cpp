// Launches: a launch that a device would refuse is refused; all others are queued.
#include "engine.hpp"
#include "settings.hpp"
#include "streams.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <string>

namespace emulation {

namespace {

constexpr std::size_t shared_reserved = 1024;
constexpr unsigned multiprocessors_of_group = 16;  // an H100 has groups of 16 and of 18
constexpr unsigned threads_per_block = 1024, blocks_per_multiprocessor = 32;
constexpr unsigned registers_per_multiprocessor = 65536, registers_at_once = 256;  // a warp gets multiples

// What cudaFuncSetAttribute has allowed a kernel.
struct Allowed {
    std::size_t shared = 48 * 1024;
    bool large_clusters = false;
};
std::map<const void*, Allowed>& allowed() {
    static auto& map = *new std::map<const void*, Allowed>;
    return map;
}

unsigned volume(dim3 d) { return d.x * d.y * d.z; }

// {kernel without namespaces: registers of a thread} for the device, from the table that nvcc made (registers.txt).
std::map<std::string, unsigned> register_table() {
    std::map<std::string, unsigned> table;
    std::ifstream input(SPIKEFLOSS_REGISTERS);  // a machine without the file has no such limit
    for (std::string line; std::getline(input, line);) {
        if (line.starts_with("#")) continue;
        std::istringstream words(line);
        std::string kernel;
        unsigned of_80 = 0, of_90 = 0, of_120 = 0;
        words >> kernel >> of_80 >> of_90 >> of_120;
        table[kernel] = capability() >= 120 ? of_120 : capability() >= 90 ? of_90 : of_80;
    }
    return table;
}

// 0 for a kernel that is not in the table, such as one of a test.
unsigned registers_of(const void* kernel) {
    static std::map<std::pair<const void*, int>, unsigned> known;
    const auto [at, is_new] = known.try_emplace({kernel, capability()}, 0u);
    if (!is_new) return at->second;
    std::string name = kernel_name(kernel);
    std::erase(name, ' ');  // kernel<4, 8>; the table has no spaces in names
    const std::size_t space = name.rfind("::", name.find('<'));
    const auto table = register_table();
    const auto found = table.find(space == std::string::npos ? name : name.substr(space + 2));
    if (found != table.end()) at->second = found->second;
    return at->second;
}

unsigned resident_blocks(const void* kernel, unsigned threads, std::size_t shared) {
    if (threads == 0 || threads > threads_per_block) return 0;
    const std::size_t all_shared = shared_per_block_limit() + shared_reserved;
    const unsigned warps = (threads + 31) / 32, by_threads = threads_per_multiprocessor() / (warps * 32);
    const auto by_shared = static_cast<unsigned>(all_shared / (shared + shared_reserved));
    const unsigned of_warp =
        (registers_of(kernel) * 32 + registers_at_once - 1) / registers_at_once * registers_at_once;
    const unsigned by_registers = of_warp ? registers_per_multiprocessor / of_warp / warps : blocks_per_multiprocessor;
    return std::min({by_threads, by_shared, by_registers, blocks_per_multiprocessor});
}

struct Shape {
    unsigned cluster = 1;
    bool cooperative = false;
    cudaError_t error = cudaSuccess;
};

Shape shape_of(const cudaLaunchConfig_st& config, const Allowed& function) {
    Shape shape;
    for (unsigned i = 0; i < config.numAttrs; ++i) {
        const cudaLaunchAttribute& attribute = config.attrs[i];
        if (attribute.id == cudaLaunchAttributeCooperative) shape.cooperative = attribute.val.cooperative != 0;
        if (attribute.id != cudaLaunchAttributeClusterDimension) continue;
        const auto& c = attribute.val.clusterDim;
        shape.cluster = c.x;
        // Only clusters along x are emulated.
        if (c.x == 0 || c.y != 1 || c.z != 1 || config.gridDim.x % c.x != 0)
            shape.error = cudaErrorInvalidConfiguration;
        const unsigned most = function.large_clusters ? 16 : 8;
        if (c.x > most) shape.error = cudaErrorInvalidClusterSize;
        if (capability() < 90) shape.error = cudaErrorNotSupported;
    }
    return shape;
}

bool valid_dimensions(dim3 grid, dim3 block) {
    if (volume(grid) == 0 || grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) return false;
    return block.x > 0 && block.y > 0 && block.z > 0 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
           volume(block) <= threads_per_block;
}

// The blocks of a cluster lie in one group of multiprocessors (GPC).
unsigned active_clusters(const void* kernel, unsigned cluster, unsigned threads, std::size_t shared) {
    const unsigned blocks = resident_blocks(kernel, threads, shared), all = static_cast<unsigned>(multiprocessors());
    const unsigned whole = all / multiprocessors_of_group, rest = all % multiprocessors_of_group;
    return whole * (blocks * multiprocessors_of_group / cluster) + blocks * rest / cluster;
}

}  // namespace

int launch_kernel(const cudaLaunchConfig_st& config, const void* kernel, std::function<void()> body) {
    std::lock_guard lock(device().mutex);
    if (device().sticky != cudaSuccess) return answer(cudaSuccess);
    const Allowed& function = allowed()[kernel];
    if (!valid_dimensions(config.gridDim, config.blockDim)) return answer(cudaErrorInvalidConfiguration);
    if (config.dynamicSmemBytes > function.shared) return answer(cudaErrorInvalidValue);
    const Shape shape = shape_of(config, function);
    if (shape.error != cudaSuccess) return answer(shape.error);
    const unsigned threads = volume(config.blockDim);
    const unsigned resident =
        resident_blocks(kernel, threads, config.dynamicSmemBytes) * static_cast<unsigned>(multiprocessors());
    if (shape.cooperative && volume(config.gridDim) > resident) return answer(cudaErrorCooperativeLaunchTooLarge);
    if (resident == 0 || active_clusters(kernel, shape.cluster, threads, config.dynamicSmemBytes) == 0)
        return answer(cudaErrorLaunchOutOfResources);
    LaunchRecord record{kernel,        std::move(body),  config.gridDim, config.blockDim, config.dynamicSmemBytes,
                        shape.cluster, shape.cooperative};
    return queue(config.stream, "kernel", [record = std::move(record)] {
        const cudaError_t error = Engine::get().run(record);
        if (error != cudaSuccess) raise(error, "");
    });
}

}  // namespace emulation

using namespace emulation;

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    std::lock_guard lock(device().mutex);
    Allowed& function = allowed()[kernel];
    switch (attribute) {
        case cudaFuncAttributeMaxDynamicSharedMemorySize:
            if (value < 0 || static_cast<std::size_t>(value) > shared_per_block_limit())
                return answer(cudaErrorInvalidValue);
            function.shared = static_cast<std::size_t>(value);
            return answer(cudaSuccess);
        case cudaFuncAttributeNonPortableClusterSizeAllowed:
            function.large_clusters = value != 0;
            return answer(cudaSuccess);
    }
    return answer(cudaErrorInvalidValue);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads,
                                                          std::size_t shared) {
    std::lock_guard lock(device().mutex);
    if (threads <= 0) return answer(cudaErrorInvalidValue);
    *blocks = shared > allowed()[kernel].shared
                  ? 0
                  : static_cast<int>(resident_blocks(kernel, static_cast<unsigned>(threads), shared));
    return answer(cudaSuccess);
}

cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void* kernel, const cudaLaunchConfig_t* config) {
    std::lock_guard lock(device().mutex);
    *clusters = 0;
    const Allowed& function = allowed()[kernel];
    const Shape shape = shape_of(*config, function);
    if (shape.error != cudaSuccess) return answer(shape.error);
    if (config->dynamicSmemBytes <= function.shared)
        *clusters = static_cast<int>(
            active_clusters(kernel, shape.cluster, volume(config->blockDim), config->dynamicSmemBytes));
    return answer(cudaSuccess);
}
