// `convert`: a network from a NIR file to an HDF5 file of spikefloss, or from such a file or a checkpoint to NIR.
#include "commands/commands.hpp"
#include "core/whole_file.hpp"
#include "io/file_probe.hpp"
#include "io/hdf5_checksum.hpp"
#include "io/network_file.hpp"
#include "io/nir_graph.hpp"

#include <cstdio>

namespace spikefloss {

int convert(const ProcessGrid& everyone, const ConvertCommand& command) {
    constexpr const char* network_format = "spikefloss-network";
    const bool to_nir = is_nir(command.output);
    everyone.agree([&] {
        require(to_nir != is_nir(command.input), Exit::usage,
                fmt::format("{} and {}: one of the two must be a NIR file, NAME.nir", command.input, command.output),
                "the suffix chooses the direction: spikefloss convert IN.nir OUT.h5, or IN.h5 OUT.nir");
        require(!to_nir || (!command.nir.surrogate && command.nir.sharpness == 0.0), Exit::usage,
                "--surrogate and --sharpness are for a NIR file that is read", "leave them out");
        if (everyone.rank() != 0) return;
        require_may_write(
            {"OUT",
             command.output,
             "a network as this command writes it",
             {command.input},
             [&](const std::string& path) { return is_whole_file_of(to_nir ? nir_format : network_format, path); },
             command.overwrite});
    });
    require_readable(command.input, everyone);
    HostNetwork network;
    NirOrigin origin;
    everyone.agree([&] {
        network = load_network(command.input, to_nir ? NirRules() : command.nir, 1, 0);
        origin = nir_origin(network, command.input);
        if (to_nir && everyone.rank() == 0) write_nir(command.output, graph_of(network, command.nir, command.input));
    });
    if (!to_nir) {
        OutputFile file(everyone, command.output);
        file.attribute("/", "format", network_format);
        write_network(file, everyone, network);
        file.finish();
    }
    if (everyone.rank() != 0) return 0;
    const NetworkShape shape = network.layout.shape();
    fmt::print("{}: {} inputs, {} neurons", command.output, shape.inputs, shape.neurons);
    for (const NirOrigin::Population& p : origin.populations) fmt::print(", {} {}", p.name, p.size);
    fmt::print(", {} outputs", shape.outputs);
    if (origin.delay > 0)
        fmt::print("; {} is {} step{} later", to_nir ? "the network" : "its readout", origin.delay,
                   origin.delay == 1 ? "" : "s");
    fmt::print("\n");
    return 0;
}

}  // namespace spikefloss
