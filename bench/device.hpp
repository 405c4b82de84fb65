// The machine of bench_gpu: a clock that times queued work, and the rates that no program can exceed on it, measured on
// the same device in the same run. device_cuda.cu implements this for a GPU, device_host.cpp for the CPU backend.
#pragma once

#include "backend/backend.hpp"

#include <functional>
#include <memory>
#include <string>

namespace spikefloss::bench {

// Rates per second and times in seconds; 0: not measured on this machine.
struct Limits {
    std::string device;
    double copy_rate = 0.0;  // bytes read and written by a copy
    double bf16_rate = 0.0, fp32_rate = 0.0,
           fp64_rate = 0.0;        // of large matrix products, operations (2 a multiply-add)
    double launch_time = 0.0;      // from one empty kernel to the next, queued one by one
    double graph_node_time = 0.0;  // the same inside a CUDA graph
    // One barrier of the blocks of a team inside a kernel: one block, a cluster of 8, all multiprocessors.
    double block_barrier = 0.0, cluster_barrier = 0.0, grid_barrier = 0.0;
    double on_chip_block = 0.0;  // bytes of shared memory of a block
    double multiprocessors = 0.0;
};

// Times work that is queued on a backend, from the earliest start of its first operation to the end of its last.
class Timer {
public:
    virtual ~Timer() = default;
    virtual double seconds(const std::function<void()>& work) = 0;
};

std::unique_ptr<Timer> host_timer(Backend& backend);
Limits host_limits(Backend& backend);
// Only for a CudaBackend, in builds that have it. `known` gets the limits after each measurement.
std::unique_ptr<Timer> cuda_timer(Backend& backend);
Limits cuda_limits(Backend& backend, const std::function<void(const Limits&)>& known);

// The median of `repeats` calls of seconds(), after one that is not counted.
double median_seconds(Timer& timer, const std::function<void()>& work, int repeats);

}  // namespace spikefloss::bench
