// The bytes are a network file with sequences, or a NIR file. Faults of the HDF5 library end the process that probes
// the file and do not end this one.
#include "fuzz/hdf5_input.hpp"
#include "io/network_file.hpp"
#include "io/nir_graph.hpp"
#include "io/nir_network.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    const std::string path = fuzz::input_file(data, size);
    fuzz::read_or_refuse([&] {
        require_readable(path, fuzz::alone());
        if (InputFile(path).has("/node")) network_of(read_nir(path), {}, path);
        const HostNetwork network = read_network(path, 1, 0);
        read_sequences(path, network.layout.shape(),
                       state_parts(network.has_current(), network.layout.topology().adaptation), fuzz::alone());
    });
    return 0;
}
