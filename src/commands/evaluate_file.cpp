// `eval --network`: loss, accuracy and spikes of any network given as a file, on sequences given as a file.
#include "commands/file_inputs.hpp"
#include "io/hdf5_file.hpp"
#include "io/metrics.hpp"
#include "train/finite.hpp"
#include "train/loss.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace spikefloss {
namespace {

constexpr const char* evaluation_format = "spikefloss-evaluation";

// The spikes of this rank's sequences and neurons at steps 1..T, [T, b, n].
std::vector<unsigned char> spikes_of(const Inputs& in, const StatePass& state) {
    const BlockRange neurons = in.network.layout.neurons();
    std::vector<Index> all(static_cast<std::size_t>(neurons.size()));
    std::iota(all.begin(), all.end(), neurons.begin);
    std::vector<unsigned char> spikes = state.tape().spikes.raster({0, in.mine.size()}, all);
    spikes.erase(spikes.begin(), spikes.begin() + in.mine.size() * neurons.size());  // the initial state
    return spikes;
}

// The spikes of each population on all ranks. A population of depth d runs d steps late; its own steps are counted, as
// many as the graph has. Collective.
std::vector<std::int64_t> counts_of(const Inputs& in, const std::vector<NirOrigin::Population>& populations,
                                    const std::vector<unsigned char>& spikes, const ProcessGrid& grid) {
    const BlockRange neurons = in.network.layout.neurons();
    const Index T = in.sequences.batch.steps, b = in.mine.size(), n = neurons.size();
    std::vector<std::int64_t> counts;
    for (const NirOrigin::Population& p : populations) {
        std::int64_t count = 0;
        const Index end = std::min(T, T - in.origin.delay + p.depth);
        for (Index t = p.depth; t < end; ++t)
            for (Index s = 0; s < b; ++s)
                for (Index j = std::max(p.first, neurons.begin); j < std::min(p.first + p.size, neurons.end); ++j)
                    count += spikes[static_cast<std::size_t>((t * b + s) * n + j - neurons.begin)];
        counts.push_back(count);
    }
    grid.control().all_reduce_sum(counts.data(), Scalar::int64, static_cast<Index>(counts.size()));
    return counts;
}

void write_evaluation(const FileCommand& command, const ProcessGrid& grid, const Inputs& in,
                      const std::vector<unsigned char>& spikes, const std::vector<float>& readout,
                      const std::optional<Outcome>& outcome, const std::string& nir) {
    const ParameterLayout& layout = in.network.layout;
    const BlockRange neurons = layout.neurons();
    const Index T = in.sequences.batch.steps, B = in.sequences.total, b = in.mine.size(), O = layout.shape().outputs;
    OutputFile file(grid, command.output);
    file.attribute("/", "format", evaluation_format);
    if (!nir.empty()) file.attribute("/", "nir", nir);
    if (outcome) {
        file.attribute("/", "loss", outcome->loss);
        if (has_accuracy(in.sequences.batch.loss)) file.attribute("/", "accuracy", outcome->accuracy);
        if (!std::isnan(outcome->r2)) file.attribute("/", "r2", outcome->r2);
    }
    file.dataset<unsigned char>("/spikes", {T, B, layout.shape().neurons},
                                {{{0, in.mine.begin, neurons.begin}, {T, b, neurons.size()}, spikes.data()}});
    std::vector<Block<float>> rows;
    if (grid.neuron_shard() == 0) rows.push_back({{0, in.mine.begin, 0}, {T, b, O}, readout.data()});
    file.dataset<float>("/readout", {T, B, O}, rows);
    file.finish();
}

}  // namespace

int evaluate_file(const ProcessGrid& everyone, const FileCommand& command) {
    if (!command.output.empty())
        require_output(everyone, command, evaluation_format, "an evaluation as spikefloss writes it");
    const Session session(everyone, command.parallel, command.sums);
    const ProcessGrid& grid = session.grid;
    Inputs in = read_inputs(command, session);
    append_steps(in, command, grid);
    const Batch& batch = in.sequences.batch;
    const NetworkShape shape = in.network.layout.shape();
    const Index T = batch.steps, b = in.mine.size(), B = in.sequences.total;

    StatePass state(*session.backend, grid, in.network, T, b);
    const HostArray<float> x(*session.backend, batch.x);
    state.forward(in.network, x.data());
    require_finite_states(*session.backend, grid, state, in.mine, in.network.layout.neurons());
    std::optional<Outcome> outcome;
    if (in.sequences.has_targets) {
        LossPass task(*session.backend, grid, T, b, 0, shape.outputs, batch.loss);
        task.load(batch);
        outcome = task.evaluate(state.tape().readout.data());
        if (batch.loss == LossKind::mean_squared_error) {
            TargetVariance variance;
            variance.add(batch, batch.sequences);
            outcome->r2 = variance.r2(grid, outcome->loss);
        }
    }
    const std::vector<unsigned char> spikes = spikes_of(in, state);
    std::vector<NirOrigin::Population> populations = in.origin.populations;
    if (populations.empty()) populations.push_back({"all neurons", 0, shape.neurons, 0});
    const std::vector<std::int64_t> counts = counts_of(in, populations, spikes, grid);
    if (!command.output.empty())
        write_evaluation(command, grid, in, spikes, state.tape().readout.to_host(), outcome,
                         in.origin.populations.empty() ? "" : in.origin.json());
    if (grid.rank() != 0) return 0;

    fmt::print("{} on {} sequence{} of {} steps{}", command.network, B, B == 1 ? "" : "s", T,
               in.appended > 0 ? fmt::format(" ({} and {} empty)", T - in.appended, in.appended) : "");
    if (outcome)
        fmt::print(": loss {:.9g}{}", outcome->loss,
                   has_accuracy(batch.loss)
                       ? fmt::format(", accuracy {:.3f} % ({} right)", 100.0 * outcome->accuracy, outcome->right)
                       : r2_text(*outcome));
    fmt::print("\n\n   population            neurons        spikes   per neuron and step\n");
    for (std::size_t p = 0; p < counts.size(); ++p) {
        const Index steps = in.origin.populations.empty() ? T : T - in.origin.delay;
        fmt::print("   {:20}  {:7}  {:12}   {:.6f}\n", populations[p].name, populations[p].size, counts[p],
                   static_cast<double>(counts[p]) / static_cast<double>(populations[p].size * steps * B));
    }
    return 0;
}

}  // namespace spikefloss
