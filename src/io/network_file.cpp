// Reads and writes /network and /sequences.
#include "io/network_file.hpp"

#include "core/error.hpp"
#include "io/topology_file.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

namespace spikefloss {
namespace {

constexpr const char* network_format = "spikefloss-network";
// 2 has what programs that know only version 1 would ignore or refuse without a reason (docs/files.md).
constexpr std::int64_t plain_version = 1, network_version = 2;

constexpr Index largest = std::numeric_limits<std::int32_t>::max();  // so that no product of two sizes overflows

// The path of a parameter, or of its gradient or moment.
std::string dataset_of(const std::string& group, const Segment& segment) {
    return fmt::format("{}/{}{}", group, segment.name, group == "/network" ? segment.part : "");
}

// Missing ones are 0.
bool is_optional(Parameter p) {
    return p == Parameter::initial_current || p == Parameter::initial_membrane || p == Parameter::adapt_membrane ||
           p == Parameter::adapt_spike || p == Parameter::initial_adaptation;
}

// w_rec is square, so its shape does not show the order of its axes. But the size of bias, alpha and beta shows which
// axis of w_in and w_out belongs to the neurons.
void require_order(const InputFile& file, const std::vector<Index>& w_in, const std::vector<Index>& w_out) {
    Index neurons = -1;
    for (const char* name : {"/network/bias", "/network/alpha", "/network/beta"}) {
        if (!file.has(name)) return;
        const std::vector<Index> dims = file.shape(name);
        const Index count = std::accumulate(dims.begin(), dims.end(), Index(1), std::multiplies<>());
        if (std::count(dims.begin(), dims.end(), 1) + 1 < static_cast<Index>(dims.size()) ||
            (neurons >= 0 && count != neurons))
            return;
        neurons = count;
    }
    const bool w_in_is = w_in[0] != neurons && w_in[1] == neurons,
               w_out_is = w_out[1] != neurons && w_out[0] == neurons;
    if (w_in_is || w_out_is)
        file.fail(
            fmt::format("the axes of its arrays look {}: {} has shape {}{}, but bias, alpha and beta have {} numbers, "
                        "one for each neuron",
                        file.reversed() ? "right in the file, but would be reversed" : "reversed",
                        w_in_is ? "/network/w_in" : "/network/w_out", shape_text(w_in_is ? w_in : w_out),
                        w_in_is ? " in place of [N, M]" : " in place of [O, N]", neurons),
            file.order_advice());
}

// The sizes N, M and O, from w_in and w_out. Everything else in the group must agree with them.
NetworkShape read_shape(const InputFile& file) {
    const auto matrix = [&](const std::string& name, const char* letters) {
        std::vector<Index> dims = file.shape(name, 2);
        if (dims.size() != 2 || dims[0] < 1 || dims[1] < 1)
            file.fail(
                fmt::format("{} has shape {} but must be a matrix {}, both above 0", name, shape_text(dims), letters),
                "weights are [post, pre]: one row for each neuron that receives");
        for (const Index size : dims)
            if (size > largest)
                file.fail(
                    fmt::format("{} has shape {}; a dimension may be {} at most", name, shape_text(dims), largest),
                    "store a smaller network; a damaged file may have such sizes, too");
        return dims;
    };
    const std::vector<Index> w_in = matrix("/network/w_in", "[N, M]");
    const std::vector<Index> w_out = matrix("/network/w_out", "[O, N]");
    require_order(file, w_in, w_out);
    return {w_in[0], w_in[1], w_out[0]};
}

// The sizes of a network of populations, O from w_out.
Topology read_populations(const InputFile& file) {
    for (const char* name : {"/network/w_in", "/network/w_rec"})
        if (file.has(name))
            file.fail(fmt::format("/network has both populations and {}", name),
                      "a network of populations has its weights in /network/projections: remove w_in and w_rec");
    Topology topology = read_topology(file);
    const std::vector<Index> w_out = file.shape("/network/w_out", 2);
    const Index read = topology.read().size();
    if (w_out.size() != 2 || w_out[0] < 1 || w_out[0] > largest || w_out[1] != read)
        file.fail(fmt::format("/network/w_out has shape {} but must be [O, {}], a column for each neuron that the "
                              "readout reads",
                              shape_text(w_out), read),
                  "the readout reads the population readout_from, or all neurons without this attribute");
    topology.shape.outputs = w_out[0];
    return topology;
}

Topology read_structure(const InputFile& file, const NetworkModel& model, std::int64_t version) {
    Topology topology;
    if (!has_populations(file)) {
        if (!file.has("/network/w_in") && !file.has("/network/w_rec"))
            file.fail("/network has neither w_in and w_rec nor populations",
                      "docs/files.md shows how to write both forms from Python");
        topology.shape = read_shape(file);
    } else {
        if (version == plain_version)
            file.fail("/network has populations, but its version is 1", "write version = 2, as docs/files.md shows");
        topology = read_populations(file);
    }
    topology.thresholds = file.has("/network/threshold");
    if (topology.thresholds == file.has_attribute("/network", "threshold"))
        file.fail(fmt::format("/network has {} threshold", topology.thresholds ? "both an attribute and a dataset"
                                                                               : "neither an attribute nor a dataset"),
                  "write the attribute for one threshold of all neurons, or the dataset [N]");
    if (topology.thresholds && version == plain_version)
        file.fail("/network/threshold is a dataset, but the version of /network is 1", "write version = 2");
    topology.adaptation = model.neuron.adaptation != Adaptation::none;
    return topology;
}

void require_parameter_shapes(const InputFile& file, const ParameterLayout& layout) {
    const NetworkShape& shape = layout.shape();
    const bool plain = layout.topology().plain();
    const std::string n = plain ? fmt::format("/network/w_in says N = {}", shape.neurons)
                                : fmt::format("the populations have {} neurons", shape.neurons);
    const std::string o = fmt::format("/network/w_out says O = {}", shape.outputs);
    for (const Segment& segment : layout.segments()) {
        const std::string name = fmt::format("/network/{}", segment.name);
        if (segment.projection >= 0 || (is_optional(segment.parameter) && !file.has(name))) continue;
        const std::vector<Index> dims = segment.dims();
        switch (segment.parameter) {
            case Parameter::w_in: break;  // sets the sizes itself
            case Parameter::w_rec: file.require_shape(name, dims, "[N, N]", n); break;
            case Parameter::w_out: file.require_shape(name, dims, "[O, N]", n); break;
            case Parameter::bias_out:
            case Parameter::kappa: file.require_shape(name, dims, "[O]", o); break;
            default: file.require_shape(name, dims, "[N]", n);
        }
    }
}

// An attribute of /network. Beyond the range of float32 it would become infinite or 0.
float read_float(const InputFile& file, const char* name) {
    const double value = file.number_attribute("/network", name);
    using Limits = std::numeric_limits<float>;
    if (std::abs(value) > Limits::max() || (value != 0.0 && std::abs(value) < Limits::min()))
        file.fail(fmt::format("attribute {} of /network is {}, beyond the range of float32", name, value),
                  fmt::format("write a number of magnitude {:.2g} to {:.2g}", Limits::min(), Limits::max()));
    return static_cast<float>(value);
}

// The version of /network.
std::int64_t read_version(const InputFile& file) {
    if (!file.has("/network"))
        file.fail("group /network is missing", file.has("/node")
                                                   ? "this is a NIR file: give it a name that ends in .nir"
                                                   : "docs/files.md shows how to write a network file from Python");
    const std::string format = word_attribute(file, "/network", "format");
    if (format != network_format)
        file.fail(fmt::format("attribute format of /network is '{}' but must be '{}'", format, network_format),
                  "name a file with a network, or write that attribute as docs/files.md shows");
    const std::int64_t version = file.integer_attribute("/network", "version");
    if (version < plain_version || version > network_version)
        file.fail(fmt::format("/network has version {} of its format; this program reads versions {} and {}", version,
                              plain_version, network_version),
                  version > network_version ? "use a newer spikefloss" : "write the file again in the present format");
    return version;
}

NetworkModel read_model(const InputFile& file) {
    const auto where = [&](const char* name) { return fmt::format("{}: attribute {} of /network", file.path(), name); };
    NetworkModel model;
    if (file.has_attribute("/network", "threshold")) model.neuron.threshold = read_float(file, "threshold");
    model.neuron.reset = choice_from<Reset>(word_attribute(file, "/network", "reset"), where("reset"));
    if (file.has_attribute("/network", "reset_delay")) {
        const std::int64_t delay = file.integer_attribute("/network", "reset_delay");
        if (delay != 0 && delay != 1)
            file.fail(fmt::format("attribute reset_delay of /network is {} but must be 0 or 1", delay),
                      "0: a spike resets its membrane at once; 1: in the next step");
        model.neuron.reset_delay = static_cast<int>(delay);
    }
    if (file.has_attribute("/network", "adaptation"))
        model.neuron.adaptation =
            choice_from<Adaptation>(word_attribute(file, "/network", "adaptation"), where("adaptation"));
    model.neuron.surrogate = choice_from<Surrogate>(word_attribute(file, "/network", "surrogate"), where("surrogate"));
    model.neuron.sharpness = read_float(file, "sharpness");
    if (!(model.neuron.sharpness > 0.0f))
        file.fail(fmt::format("attribute sharpness of /network is {} but must be above 0", model.neuron.sharpness),
                  "the surrogate derivative is about 1/sharpness wide");
    model.readout = choice_from<Readout>(word_attribute(file, "/network", "readout"), where("readout"));
    if (file.has_attribute("/network", "refractory")) {
        model.refractory = file.integer_attribute("/network", "refractory");
        if (model.refractory < 0 || model.refractory > largest)
            file.fail(fmt::format("attribute refractory of /network is {} but must be 0 or more", model.refractory),
                      "it is the number of steps after a spike in which the neuron cannot spike");
    }
    return model;
}

// The q0 of this rank: file [B, D, k] -> [b, k, the parts of my neurons].
void read_bases(const InputFile& file, Index N, Index parts, const ProcessGrid& grid, SequencesFile& sequences) {
    const std::string name = "/sequences/q0";
    const Index D = parts * N;
    const std::vector<Index> dims = file.shape(name, 3);
    if (dims.size() == 3 && dims[0] != sequences.total && dims[1] == D && dims[2] == sequences.total)
        file.fail(fmt::format("{} has shape {} but must be [B, D, k] with B = {}; its axes look reversed", name,
                              shape_text(dims), sequences.total),
                  file.order_advice());
    if (dims.size() != 3 || dims[0] != sequences.total || dims[1] != D || dims[2] < 1 || dims[2] > D)
        file.fail(fmt::format("{} has shape {} but must be [B, D, k] = [{}, {}, 1 to {}]", name, shape_text(dims),
                              sequences.total, D, D),
                  parts == 1
                      ? "D = N, the membranes alone, because every alpha of the network is 0"
                      : fmt::format("D = {} N: the rows of the currents (unless every alpha is 0), then those of the "
                                    "membranes, then those of the adaptations (if neurons adapt)",
                                    parts));
    const BlockRange mine = grid.sequences_of(sequences.total), neurons = grid.neurons_of(N);
    const Index b = mine.size(), k = dims[2], n = neurons.size();
    sequences.q0_columns = k;
    sequences.q0.resize(static_cast<std::size_t>(b * k * parts * n));
    for (Index part = 0; part < parts; ++part) {
        const auto rows = file.read<float>(name, {mine.begin, part * N + neurons.begin, 0}, {b, n, k});
        for (Index s = 0; s < b; ++s)
            for (Index i = 0; i < n; ++i)
                for (Index j = 0; j < k; ++j)
                    sequences.q0[static_cast<std::size_t>(((s * k + j) * parts + part) * n + i)] =
                        rows[static_cast<std::size_t>((s * n + i) * k + j)];
    }
}

// The mask [T] of all sequences, or [T, B].
void read_mask(const InputFile& file, Index total, BlockRange mine, Batch& batch) {
    const std::string name = "/sequences/mask";
    const Index T = batch.steps, b = mine.size();
    batch.mask.assign(static_cast<std::size_t>(T * b), 1.0f);
    if (!file.has(name)) return;
    const bool own = file.shape(name, 2) == std::vector<Index>{T, total};
    if (!own)
        file.require_shape(name, {T}, "[T]",
                           fmt::format("/sequences/x says T = {} (or [T, B] for sequences of their own lengths)", T));
    const std::vector<float> read = own ? file.read<float>(name, {0, mine.begin}, {T, b}) : file.read<float>(name);
    for (Index t = 0; t < T; ++t)
        for (Index s = 0; s < (own ? b : 1); ++s) {
            const float m = read[static_cast<std::size_t>(own ? t * b + s : t)];
            if (m != 0.0f && m != 1.0f)
                file.fail(fmt::format("{}[{}{}] is {} but must be 0 or 1", name, t,
                                      own ? fmt::format(", {}", mine.begin + s) : "", m),
                          "1 marks the steps that count for the loss");
            std::fill_n(batch.mask.begin() + t * b + s, own ? 1 : b, m);
        }
    for (Index s = 0; s < b; ++s) {
        bool marked = false;
        for (Index t = 0; t < T; ++t) marked = marked || batch.mask[static_cast<std::size_t>(t * b + s)] == 1.0f;
        if (!marked)
            file.fail(own ? fmt::format("{} is 0 throughout sequence {}, so none of its steps counts for the loss",
                                        name, mine.begin + s)
                          : fmt::format("{} is 0 everywhere, so no step counts for the loss", name),
                      "write 1 for at least one step");
    }
}

void read_targets(const InputFile& file, Index outputs, BlockRange mine, LossKind loss, SequencesFile& sequences) {
    Batch& batch = sequences.batch;
    const bool has_target = file.has("/sequences/target"), has_label = file.has("/sequences/label");
    if (has_target && has_label)
        file.fail("/sequences has both target and label",
                  "keep only the one for the loss that you need (docs/files.md)");
    sequences.has_targets = has_target || has_label;
    if (has_target) {
        batch.loss = chosen_loss(loss, LossKind::binary_cross_entropy, "the loss");
        file.require_shape("/sequences/target", {batch.steps, sequences.total, outputs}, "[T, B, O]",
                           fmt::format("/sequences/x says T = {}, B = {} and the network has O = {}", batch.steps,
                                       sequences.total, outputs));
        batch.target = file.read<float>("/sequences/target", {0, mine.begin, 0}, {batch.steps, mine.size(), outputs});
        for (std::size_t i = 0; i < batch.target.size(); ++i)
            if (batch.loss == LossKind::binary_cross_entropy && !(batch.target[i] >= 0.0f && batch.target[i] <= 1.0f)) {
                const Index at = static_cast<Index>(i), b = mine.size();
                file.fail(fmt::format("/sequences/target[{}, {}, {}] is {} but must be between 0 and 1",
                                      at / (b * outputs), mine.begin + at / outputs % b, at % outputs, batch.target[i]),
                          "targets are the bits 0 and 1; for others use --loss mean_squared_error");
            }
    }
    if (has_label) {
        batch.loss = chosen_loss(loss, LossKind::cross_entropy_mean, "the loss");
        file.require_shape("/sequences/label", {sequences.total}, "[B]",
                           fmt::format("/sequences/x says B = {}", sequences.total));
        const auto labels = file.read<std::int64_t>("/sequences/label", {mine.begin}, {mine.size()});
        for (std::size_t i = 0; i < labels.size(); ++i)
            if (labels[i] < 0 || labels[i] >= outputs)
                file.fail(fmt::format("/sequences/label[{}] is {} but must be 0 to {}",
                                      mine.begin + static_cast<Index>(i), labels[i], outputs - 1),
                          "the network has one output per class, numbered from 0");
        batch.label.assign(labels.begin(), labels.end());
    }
}

}  // namespace

HostNetwork read_network(const std::string& path, Index neuron_shards, Index neuron_shard, bool transposed) {
    InputFile file(path);
    HostNetwork network;
    const std::int64_t version = read_version(file);
    network.model = read_model(file);
    choose_order(file, "/network", transposed);
    Topology topology = read_structure(file, network.model, version);
    const BlockRange mine = block_range(topology.shape.neurons, neuron_shards, neuron_shard);
    std::vector<Synapses> synapses = read_synapses(file, topology, mine);
    network.layout = ParameterLayout(std::move(topology), std::move(synapses), neuron_shards, neuron_shard);
    require_parameter_shapes(file, network.layout);
    require_shards(path, network.layout.shape(), neuron_shards);
    if (file.has("/network/w_rec"))
        file.require_room("/network/w_rec", {mine.size(), network.layout.shape().neurons}, sizeof(float));
    network.values = read_parameters(file, "/network", network.layout);
    if (const auto fault = out_of_range(network.layout, network.values, true))
        file.fail(fault->problem, fault->suggestion);
    if (file.has_attribute("/network", "nir")) network.nir = file.string_attribute("/network", "nir");
    return network;
}

void require_shards(const std::string& path, const NetworkShape& shape, Index neuron_shards) {
    require(
        neuron_shards <= shape.neurons, Exit::usage,
        fmt::format("{}: the network has {} neurons, too few for {} neuron shards", path, shape.neurons, neuron_shards),
        "choose a grid PxQ with a smaller P (--grid)");
}

std::vector<float> read_parameters(const InputFile& file, const std::string& group, const ParameterLayout& layout) {
    std::vector<float> values(static_cast<std::size_t>(layout.size()), 0.0f);
    for (const Segment& segment : layout.segments()) {
        const std::string name = dataset_of(group, segment);
        if (is_optional(segment.parameter) && !file.has(name)) continue;
        const std::vector<Index> dims = segment.dims();
        file.require_shape(name, dims, "that of the network's parameter", "the two belong together");
        if (segment.size() == 0) continue;
        float* out = values.data() + segment.offset;
        if (!segment.matrix)
            file.read(name, {segment.col}, {segment.cols}, out);
        else if (segment.stride == segment.cols)
            file.read(name, {segment.row, segment.col}, {segment.rows, segment.cols}, out);
        else {
            const auto rows = file.read<float>(name, {segment.row, segment.col}, {segment.rows, segment.cols});
            auto from = rows.begin();
            segment.each_row(values.data(), [&](float* row, Index) {
                std::copy_n(from, segment.cols, row);
                from += segment.cols;
            });
        }
    }
    return values;
}

void write_network(OutputFile& file, const ProcessGrid& grid, const HostNetwork& network) {
    const NeuronModel& neuron = network.model.neuron;
    const Topology& topology = network.layout.topology();
    const bool plain_rules = neuron.reset_delay == 1 && network.model.refractory == 0 && !topology.adaptation &&
                             !topology.thresholds && neuron.surrogate != Surrogate::exponential;
    file.attribute("/network", "format", network_format);
    file.attribute("/network", "version", plain_rules && topology.plain() ? plain_version : network_version);
    if (!topology.thresholds) file.attribute("/network", "threshold", static_cast<double>(neuron.threshold));
    file.attribute("/network", "reset", std::string(name_of(neuron.reset)));
    if (neuron.reset_delay == 0) file.attribute("/network", "reset_delay", std::int64_t{0});
    file.attribute("/network", "surrogate", std::string(name_of(neuron.surrogate)));
    file.attribute("/network", "sharpness", static_cast<double>(neuron.sharpness));
    file.attribute("/network", "readout", std::string(name_of(network.model.readout)));
    if (topology.adaptation) file.attribute("/network", "adaptation", std::string(name_of(neuron.adaptation)));
    if (network.model.refractory > 0) file.attribute("/network", "refractory", std::int64_t{network.model.refractory});
    if (!network.nir.empty()) file.attribute("/network", "nir", network.nir);
    if (!topology.plain()) write_topology(file, grid, network.layout);
    write_parameters(file, grid, "/network", network.layout, network.values);
}

void write_parameters(OutputFile& file, const ProcessGrid& grid, const std::string& group,
                      const ParameterLayout& layout, const std::vector<float>& values) {
    // All batch shards hold the same data, so the first one writes.
    const bool writes = grid.batch_shard() == 0;
    for (const Segment& segment : layout.segments()) {
        const float* data = values.data() + segment.offset;
        std::vector<float> packed;
        std::vector<Block<float>> blocks;
        if (writes && segment.size() && (!segment.replicated || grid.neuron_shard() == 0)) {
            if (segment.stride != segment.cols) {
                segment.each_row(values.data(), [&](const float* row, Index) {
                    packed.insert(packed.end(), row, row + segment.cols);
                });
                data = packed.data();
            }
            if (segment.matrix)
                blocks.push_back({{segment.row, segment.col}, {segment.rows, segment.cols}, data});
            else
                blocks.push_back({{segment.col}, {segment.cols}, data});
        }
        file.dataset(dataset_of(group, segment), segment.dims(), blocks);
    }
}

SequencesFile read_sequences(const std::string& path, const NetworkShape& shape, Index parts, const ProcessGrid& grid,
                             bool transposed, LossKind loss) {
    InputFile file(path);
    choose_order(file, "/sequences", transposed);
    const std::vector<Index> dims = file.shape("/sequences/x", 3);
    if (dims.size() != 3 || dims[0] < 1 || dims[1] < 1)
        file.fail(fmt::format("/sequences/x has shape {} but must be [T, B, M] with at least one step and sequence",
                              shape_text(dims)),
                  "time comes first, then the sequence, then the input");
    if (dims[2] != shape.inputs && dims[0] == shape.inputs)
        file.fail(fmt::format("/sequences/x has shape {} but the network has M = {}; the axes of x look reversed",
                              shape_text(dims), shape.inputs),
                  file.order_advice());
    if (dims[2] != shape.inputs)
        file.fail(fmt::format("/sequences/x has shape {}, that is M = {} inputs, but the network has M = {}",
                              shape_text(dims), dims[2], shape.inputs),
                  "the last dimension of x is the second of /network/w_in");
    SequencesFile sequences;
    sequences.total = dims[1];
    require(grid.shape().batch_shards <= sequences.total, Exit::usage,
            fmt::format("{}: the file has {} sequences, too few for {} batch shards", path, sequences.total,
                        grid.shape().batch_shards),
            "choose a grid PxQ with a smaller Q (--grid)");
    const BlockRange mine = grid.sequences_of(sequences.total);
    Batch& batch = sequences.batch;
    batch.steps = dims[0];
    batch.sequences = mine.size();
    batch.inputs = shape.inputs;
    batch.outputs = shape.outputs;
    batch.x = file.read<float>("/sequences/x", {0, mine.begin, 0}, {batch.steps, mine.size(), batch.inputs});
    read_mask(file, sequences.total, mine, batch);
    read_targets(file, shape.outputs, mine, loss, sequences);
    if (file.has("/sequences/q0")) read_bases(file, shape.neurons, parts, grid, sequences);
    return sequences;
}

}  // namespace spikefloss
