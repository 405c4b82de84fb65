#include "commands/file_inputs.hpp"

#include "core/whole_file.hpp"
#include "io/file_probe.hpp"
#include "io/hdf5_checksum.hpp"

#include <algorithm>

namespace spikefloss {

Inputs read_inputs(const FileCommand& command, const Session& session) {
    const ProcessGrid& grid = session.grid;
    HostNetwork host;
    NirOrigin origin;
    require_readable(command.network, grid);
    if (command.input != command.network) require_readable(command.input, grid);
    grid.agree([&] {
        host = load_network(command.network, command.nir, grid.shape().neuron_shards, grid.neuron_shard(),
                            command.transposed);
        origin = nir_origin(host, command.network);
    });
    Inputs in{Network(*session.backend, grid, host), {}, {}, std::move(origin)};
    grid.agree([&] {
        in.sequences = read_sequences(command.input, host.layout.shape(), in.network.state_parts(), grid,
                                      command.transposed, command.loss);
    });
    in.mine = grid.sequences_of(in.sequences.total);
    return in;
}

void append_steps(Inputs& in, const FileCommand& command, const ProcessGrid& grid) {
    Batch& batch = in.sequences.batch;
    Index steps = command.pad.value_or(in.origin.delay);
    if (!command.pad && steps > 0) {
        const auto first = std::min(batch.mask.begin() + steps * batch.sequences, batch.mask.end());
        std::int64_t counted = std::count(batch.mask.begin(), first, 1.0f);
        grid.control().all_reduce_sum(&counted, Scalar::int64, 1);
        if (counted == 0) steps = 0;
    }
    if (steps == 0) return;
    const auto empty = [&](Index width) { return static_cast<std::size_t>(steps * batch.sequences * width); };
    batch.x.resize(batch.x.size() + empty(batch.inputs), 0.0f);
    batch.mask.insert(batch.mask.begin(), empty(1), 0.0f);
    if (!batch.target.empty()) batch.target.insert(batch.target.begin(), empty(batch.outputs), 0.0f);
    batch.steps += steps;
    in.appended = steps;
}

void require_output(const ProcessGrid& everyone, const FileCommand& command, const char* format, const char* kind) {
    everyone.agree([&] {
        if (everyone.rank() != 0) return;
        require_may_write({"--output",
                           command.output,
                           kind,
                           {command.network, command.input},
                           [&](const std::string& path) { return is_whole_file_of(format, path); },
                           command.overwrite});
    });
}

}  // namespace spikefloss
