// The GPUs of this machine: which one a rank takes, and what it can do.
#pragma once

#include <cstddef>
#include <string>

namespace spikefloss {

struct Device {
    int id = 0;
    std::string name;
    std::string uuid;          // the beginning of the number that tells this GPU from all others
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    std::size_t shared_per_block = 0;  // bytes of dynamic shared memory that a block can ask for
    std::size_t memory = 0;            // bytes in all
    bool clusters() const { return major >= 9; }
};

// How many CUDA devices this process sees; 0 without a driver.
int device_count();
// What device `id` is. Throws Error(Exit::usage) when there is none.
Device describe_device(int id);

}  // namespace spikefloss
