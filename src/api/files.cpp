// Networks of the library from and to files.
#include "api/held.hpp"
#include "io/file_probe.hpp"
#include "io/network_file.hpp"
#include "io/nir_network.hpp"

namespace spikefloss::api {

Network read_network(const std::string& path) {
    const ProcessGrid grid(MPI_COMM_SELF, {1, 1}, 0.0);
    require_readable(path, grid);
    auto held = std::make_shared<Held>();
    held->host = load_network(path, {}, 1, 0);
    return Network(std::move(held));
}

void write_network(const Network& network, const std::string& path) {
    const ProcessGrid grid(MPI_COMM_SELF, {1, 1}, 0.0);
    OutputFile file(grid, path);
    file.attribute("/", "format", std::string("spikefloss-network"));
    spikefloss::write_network(file, grid, network.held().host);
    file.finish();
}

}  // namespace spikefloss::api
