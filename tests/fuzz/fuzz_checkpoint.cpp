// The bytes are a checkpoint. Its seal is checked before the HDF5 library opens it.
#include "fuzz/hdf5_input.hpp"
#include "io/checkpoint.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    const std::string path = fuzz::input_file(data, size);
    fuzz::read_or_refuse([&] {
        require_whole_checkpoint(path, fuzz::alone());
        read_checkpoint_origin(path);
        read_checkpoint(path, fuzz::alone());
    });
    return 0;
}
