// The GPUs of this machine and their properties.
#pragma once

#include <cstddef>
#include <string>

namespace spikefloss {

struct Device {
    int id = 0;
    std::string name;
    std::string uuid;          // the beginning of the number that identifies this GPU
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    std::size_t shared_per_block = 0;  // most bytes of dynamic shared memory of a block
    std::size_t memory = 0;            // bytes, total
    bool clusters() const { return major >= 9; }
};

// The number of CUDA devices that this process sees; 0 without a driver.
int device_count();
// The properties of device `id`. Throws Error(Exit::usage) if it does not exist.
Device describe_device(int id);

}  // namespace spikefloss
