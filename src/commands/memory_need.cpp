#include "commands/memory_need.hpp"

#include "backend/counting_backend.hpp"
#include "commands/setup.hpp"
#include "core/error.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// "1.50 GiB", "12.0 MiB", "3.2 KiB"
std::string size_text(std::size_t bytes) {
    const auto size = static_cast<double>(bytes);
    if (size >= 0x1p30) return fmt::format("{:.2f} GiB", size / 0x1p30);
    if (size >= 0x1p20) return fmt::format("{:.1f} MiB", size / 0x1p20);
    return fmt::format("{:.1f} KiB", size / 0x1p10);
}

// A network of this shape; only its size counts.
TrainingState blank_state(const ProcessGrid& grid, const InitialNetwork& initial, const NetworkShape& shape,
                          bool has_current) {
    HostNetwork network{initial.model, ParameterLayout(shape, grid.shape().neuron_shards, grid.neuron_shard()), {}};
    network.values.resize(static_cast<std::size_t>(network.layout.size()));
    const auto [offset, count] = network.layout.extent(Parameter::alpha);
    std::fill_n(network.values.begin() + offset, count, has_current ? 0.5f : 0.0f);
    return {std::move(network), {}, {}, {}};
}

bool measures(const Config& config) {
    const std::vector<std::string>& schedule = config.flossing.schedule;
    return config.diagnostics.every > 0 || std::find(schedule.begin(), schedule.end(), "adaptive") != schedule.end();
}

}  // namespace

MemoryNeed memory_need(const Session& session, const Config& config, const Task& task, const NetworkShape& shape,
                       bool has_current) {
    const ProcessGrid& grid = session.grid;
    const InitialNetwork initial = initial_settings(config, task);
    const TrainerOptions options = trainer_options(config, task);

    CountingBackend weights(*session.backend);
    {
        const TrainingState state = blank_state(grid, initial, shape, has_current);
        const Network network(weights, grid, state.network);
        const Optimiser first(weights, grid, network.layout, options.optimiser);
        const Optimiser second(weights, grid, network.layout, options.floss_optimiser);
    }
    CountingBackend plain(*session.backend);
    TrainerOptions without = options;
    without.floss_schedule = {};
    const Trainer trainer(plain, grid, task, without, blank_state(grid, initial, shape, has_current));
    const Tape& tape = trainer.tape();
    const std::size_t tape_bytes =
        tape.membrane.bytes() + tape.current.bytes() + tape.spikes.bytes() + tape.readout.bytes();

    CountingBackend whole(*session.backend);
    Trainer flossing(whole, grid, task, options, blank_state(grid, initial, shape, has_current));
    const std::size_t with_flossing = whole.bytes();
    if (measures(config)) flossing.prepare_measurement();

    MemoryNeed need;
    need.parts = {
        {"weights and optimisers", weights.bytes(), "fewer neurons, or more neuron shards (--grid PxQ, larger P)"},
        {"tape of states", tape_bytes, "a smaller train.batch, shorter sequences, or more ranks"},
        {"batch and chunks of time", plain.bytes() - weights.bytes() - tape_bytes,
         "a smaller train.batch, shorter sequences, or more ranks"},
        {"tangents of flossing", with_flossing - plain.bytes(),
         "fewer flossing.exponents, a shorter flossing.horizon, or a smaller flossing.batch"},
        {"diagnostics", whole.bytes() - with_flossing, "fewer diagnostics.exponents, or a smaller diagnostics.batch"}};
    need.arrays = whole.bytes();
    // Work space of the libraries, and operands that operations rearrange.
    const bool on_gpu = session.backend->name() == "cuda";
    need.scratch = need.arrays / (on_gpu ? 10 : 20) + (std::size_t{on_gpu ? 96u : 16u} << 20);
    need.free = session.memory_share();
    return need;
}

std::string memory_line(const MemoryNeed& need) {
    std::string text;
    for (const MemoryNeed::Part& part : need.parts)
        if (part.bytes) text += fmt::format("{} {}, ", part.name, size_text(part.bytes));
    return fmt::format("memory of a rank: {} of {} free: {}scratch about {}", size_text(need.total()),
                       size_text(need.free), text, size_text(need.scratch));
}

std::string memory_table(const MemoryNeed& need) {
    std::string text;
    for (const MemoryNeed::Part& part : need.parts)
        text += fmt::format("  {:26} {:>12}\n", part.name, size_text(part.bytes));
    text += fmt::format("  {:26} {:>12}\n", "scratch, about", size_text(need.scratch));
    text += fmt::format("  {:26} {:>12}\n", "in all", size_text(need.total()));
    text += fmt::format("  {:26} {:>12}   {}\n", "free for this rank", size_text(need.free),
                        need.fits() ? "it fits" : "IT DOES NOT FIT");
    return text;
}

void require_memory(const Session& session, const MemoryNeed& need) {
    session.grid.agree([&] {
        if (need.fits()) return;
        const auto largest = std::max_element(need.parts.begin(), need.parts.end(),
                                              [](const auto& a, const auto& b) { return a.bytes < b.bytes; });
        throw Error(
            Exit::usage,
            fmt::format("the run does not fit into the memory of rank {}: {}", session.grid.rank(), memory_line(need)),
            fmt::format("the largest part is {}: use {}; spikefloss info CONFIG tries it out", largest->name,
                        largest->remedy));
    });
}

}  // namespace spikefloss
