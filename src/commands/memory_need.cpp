#include "commands/memory_need.hpp"

#include "backend/counting_backend.hpp"
#include "commands/options.hpp"
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

TrainingState blank_state(const Workload& workload) { return {blank(workload.network), {}, {}, {}}; }

bool measures(const Config& config) {
    const std::vector<FlossingTime>& schedule = config.flossing.schedule;
    return config.diagnostics.every > 0 ||
           std::find(schedule.begin(), schedule.end(), FlossingTime::adaptive) != schedule.end();
}

TrainerOptions without_flossing(TrainerOptions options) {
    options.floss_schedule = {};
    return options;
}

Communicators counting_communicators(GridShape shape, int rank, TrafficNeed& sent) {
    const int P = shape.neuron_shards, Q = shape.batch_shards;
    // Within a step, only control() sends to all ranks.
    return {std::make_unique<CountingCommunicator>(0, 1, sent.batch),
            std::make_unique<CountingCommunicator>(rank % P, P, sent.neurons),
            std::make_unique<CountingCommunicator>(rank / P, Q, sent.batch)};
}

// Batches as those of another task, without the data. What is computed from them is not computed in a trace.
class BlankTask final : public Task {
public:
    explicit BlankTask(const Task& like) : like_(like) {}
    Index steps() const override { return like_.steps(); }
    Index inputs() const override { return like_.inputs(); }
    Index outputs() const override { return like_.outputs(); }
    LossKind loss() const override { return like_.loss(); }
    Index dataset_size(Purpose purpose) const override { return like_.dataset_size(purpose); }
    Batch sample(Purpose, std::int64_t, Index, BlockRange sequences) const override {
        Batch batch{steps(), sequences.size(), inputs(), outputs(), loss(), {}, {}, {}, {}, {}};
        const auto rows = static_cast<std::size_t>(batch.steps * batch.sequences);
        batch.mask.assign(rows, 1.0f);
        if (!takes_labels(batch.loss)) batch.target.resize(rows * static_cast<std::size_t>(batch.outputs));
        return batch;
    }

private:
    const Task& like_;
};

// Takes a training step, a flossing step and a record of diagnostics, those that the run has.
std::vector<TrafficNeed> traced_units(CountingBackend& counting, GridShape shape, int rank, const Workload& workload) {
    TrafficNeed sent;
    const ProcessGrid grid(shape, rank, counting_communicators(shape, rank, sent));
    const BlankTask task(workload.task);
    TrainerOptions options = trainer_options(workload.config, task);
    // At most: a QR after every step, where the interval is chosen during the pass.
    for (Index* interval : {&options.flossing.tangent.qr_interval, &options.diagnostics.qr_interval})
        *interval = std::max<Index>(1, *interval);
    // Counts from zero, so the traffic of making the objects is left out.
    const auto count = [&](const char* name, const TrainerOptions& chosen, const auto& work) {
        Trainer trainer(counting, grid, task, chosen, blank_state(workload));
        sent.neurons = sent.batch = {};
        work(trainer);
        return TrafficNeed{name, sent.neurons, sent.batch};
    };
    const auto advance = [](Trainer& trainer) { trainer.advance(); };
    std::vector<TrafficNeed> needs = {count("a training step", without_flossing(options), advance)};
    TrainerOptions flossing = options;
    if (options.floss_schedule.joint_weight > 0.0) {
        flossing.floss_schedule = {};
        flossing.floss_schedule.every = 1, flossing.floss_schedule.joint_weight = 1.0;
        needs.push_back(count("with the penalty in it", flossing, advance));
    } else if (!workload.config.flossing.schedule.empty()) {
        flossing.floss_schedule = {};
        flossing.floss_schedule.before = 1;
        needs.push_back(count("a flossing step", flossing, advance));
    }
    if (measures(workload.config))
        needs.push_back(
            count("a record of diagnostics", without_flossing(options), [](Trainer& trainer) { trainer.diagnose(); }));
    return needs;
}

}  // namespace

HostNetwork blank(const HostNetwork& network) { return {network.model, network.layout, {}, network.has_current()}; }

MemoryNeed memory_need(Backend& backend, GridShape shape, int rank, const Workload& workload, std::size_t free) {
    TrafficNeed none;
    const ProcessGrid grid(shape, rank, counting_communicators(shape, rank, none));
    const TrainerOptions options = trainer_options(workload.config, workload.task);

    CountingBackend weights(backend), optimisers(backend);
    {
        const TrainingState state = blank_state(workload);
        const Network network(weights, grid, state.network);
        const Gradient gradient(optimisers, grid, network.layout);
        const Optimiser first(optimisers, network.layout, options.optimiser);
        const Optimiser second(optimisers, network.layout, options.floss_optimiser);
    }
    CountingBackend plain(backend);
    const Trainer trainer(plain, grid, workload.task, without_flossing(options), blank_state(workload));
    const Tape& tape = trainer.tape();
    const std::size_t tape_bytes =
        tape.membrane.bytes() + tape.current.bytes() + tape.spikes.bytes() + tape.readout.bytes();

    CountingBackend whole(backend);
    Trainer flossing(whole, grid, workload.task, options, blank_state(workload));
    const std::size_t with_flossing = whole.bytes();
    if (measures(workload.config)) flossing.prepare_measurement();

    MemoryNeed need;
    need.parts = {
        {"weights", weights.bytes(), "fewer neurons, or more neuron shards (--grid PxQ, larger P)"},
        {"optimisers", optimisers.bytes(), "fewer neurons, or more neuron shards (--grid PxQ, larger P)"},
        {"tape of states", tape_bytes, "a smaller train.batch, shorter sequences, or more ranks"},
        {"batch and chunks of time", plain.bytes() - weights.bytes() - optimisers.bytes() - tape_bytes,
         "a smaller train.batch, shorter sequences, or more ranks"},
        {"tangents of flossing", with_flossing - plain.bytes(),
         "fewer flossing.exponents, a shorter flossing.horizon, or a smaller flossing.batch"},
        {"diagnostics", whole.bytes() - with_flossing, "fewer diagnostics.exponents, or a smaller diagnostics.batch"}};
    need.passes = flossing.passes();
    need.arrays = whole.bytes();
    need.free = free;
    if (free > 0 && need.arrays > free) return need;
    // With one neuron shard and no delays, every QR is also taken carefully, by Householder, which needs more.
    using Results = CountingBackend::Results;
    const bool householder = shape.neuron_shards == 1 && workload.network.layout.topology().longest_delay() == 1;
    CountingBackend scratch(backend, householder ? Results::ones : Results::zeros);
    traced_units(scratch, shape, rank, workload);
    need.scratch = scratch.scratch();
    return need;
}

std::vector<TrafficNeed> traffic_need(Backend& backend, GridShape shape, int rank, const Workload& workload) {
    CountingBackend counting(backend);
    return traced_units(counting, shape, rank, workload);
}

std::string passes_text(const MemoryNeed& need) {
    std::string text;
    for (std::size_t at = 0; at < need.passes.size();) {
        std::string names = need.passes[at].first;
        const std::string& form = need.passes[at].second;
        for (++at; at < need.passes.size() && need.passes[at].second == form; ++at)
            names += " and " + need.passes[at].first;
        text += fmt::format("{}{}: {}", text.empty() ? "" : "; ", names, form);
    }
    return text;
}

std::string memory_line(const MemoryNeed& need) {
    std::string text;
    for (const MemoryNeed::Part& part : need.parts)
        if (part.bytes) text += fmt::format("{} {}, ", part.name, size_text(part.bytes));
    return fmt::format("memory of a rank: {} of {} free: {}scratch {}", size_text(need.total()), size_text(need.free),
                       text, size_text(need.scratch));
}

std::string plan_text(Backend& backend, GridShape shape, const Workload& workload, std::size_t free) {
    const int P = shape.neuron_shards, Q = shape.batch_shards, last = P * Q - 1;
    const MemoryNeed need = memory_need(backend, shape, last, workload, free);
    std::string text = fmt::format("  memory, in bytes\n");
    const auto line = [&](const std::string& name, std::size_t bytes) {
        text += fmt::format("    {:26} {:>15} {:>12}\n", name, bytes, size_text(bytes));
    };
    for (const MemoryNeed::Part& part : need.parts) line(part.name, part.bytes);
    line("scratch of operations", need.scratch);
    line("in all", need.total());
    if (free) {
        line("free for this rank", free);
        text += need.fits() ? "    it fits\n" : "    IT DOES NOT FIT\n";
    }
    text += "  passes\n";
    for (const auto& [name, form] : need.passes) text += fmt::format("    {:29} {}\n", name, form);
    if (P * Q == 1) return text + "  communication: none, there is one rank\n";
    text += fmt::format(
        "  communication: data that the rank passes to collectives among the {} neuron shards and the {} batch "
        "shards\n    {:26} {:>8} {:>15} {:>12} {:>8} {:>15} {:>12}\n",
        P, Q, "", "calls", "bytes", "", "calls", "bytes", "");
    for (const TrafficNeed& sent : traffic_need(backend, shape, last, workload))
        text += fmt::format("    {:26} {:>8} {:>15} {:>12} {:>8} {:>15} {:>12}\n", sent.name, sent.neurons.calls,
                            sent.neurons.bytes, size_text(static_cast<std::size_t>(sent.neurons.bytes)),
                            sent.batch.calls, sent.batch.bytes, size_text(static_cast<std::size_t>(sent.batch.bytes)));
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
            fmt::format("the largest part is {}: use {}; spikefloss info --plan CONFIG shows the need without training",
                        largest->name, largest->remedy));
    });
}

}  // namespace spikefloss
