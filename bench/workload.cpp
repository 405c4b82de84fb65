// Networks, inputs and steps of the workloads, and their files.
#include "workload.hpp"

#include "core/error.hpp"
#include "core/random.hpp"

#include <cmath>
#include <fstream>
#include <regex>
#include <thread>
#include <tuple>

namespace spikefloss::bench {
namespace {

// First counters of the random numbers of this benchmark. They are beyond those of network parameters.
constexpr std::uint32_t for_x = 100, for_dy = 101, for_sources = 102;

constexpr float adaptation_decay = 0.995f, adaptation_jump = 0.05f;

// Uniform numbers of mean 0 and the given standard deviation. There are up to 3e8 of them, and uniform ones are fast.
void fill(float* out, Index rows, Index cols, double deviation, std::uint32_t purpose) {
    const auto workers = static_cast<Index>(std::clamp(std::thread::hardware_concurrency(), 1u, 16u));
    const double width = 2.0 * std::sqrt(3.0) * deviation;
    std::vector<std::jthread> threads;
    for (Index worker = 0; worker < workers; ++worker)
        threads.emplace_back([=] {
            const BlockRange mine = block_range(rows, workers, worker);
            for (Index row = mine.begin; row < mine.end; ++row)
                for (Index col = 0; col < cols; col += 4) {
                    const auto words = random_words(1, Stream::weights, purpose, static_cast<std::uint32_t>(row),
                                                    static_cast<std::uint32_t>(col), 0);
                    for (Index j = col; j < std::min(cols, col + 4); ++j)
                        out[row * cols + j] =
                            static_cast<float>(width * (uniform(words[static_cast<std::size_t>(j - col)]) - 0.5));
                }
        });
}

std::vector<float> random_numbers(Index rows, Index cols, double deviation, std::uint32_t purpose) {
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    fill(values.data(), rows, cols, deviation, purpose);
    return values;
}

// [T, B, M]: spikes, or numbers of mean 0 and variance 1.
std::vector<float> random_inputs(const Workload& workload) {
    const Index rows = workload.T * workload.B;
    if (workload.input_rate >= 1.0) return random_numbers(rows, workload.M, 1.0, for_x);
    std::vector<float> x = random_numbers(rows, workload.M, 1.0 / std::sqrt(12.0), for_x);  // uniform in (-1/2, 1/2)
    for (float& value : x) value = value + 0.5f < static_cast<float>(workload.input_rate) ? 1.0f : 0.0f;
    return x;
}

// The rows of a [T, B, width] array that belong to the sequences `mine`.
std::vector<float> sequences_of(const std::vector<float>& whole, Index T, Index B, Index width, BlockRange mine) {
    if (mine.size() == B) return whole;
    std::vector<float> part;
    for (Index t = 0; t < T; ++t)
        part.insert(part.end(), whole.begin() + (t * B + mine.begin) * width,
                    whole.begin() + (t * B + mine.end) * width);
    return part;
}

// Of a sparse workload: four fifths of the neurons are excitatory, and so are the sources of each neuron.
Index excitatory(Index count) { return count * 4 / 5; }

// The sources of neuron `row` among `size` neurons from `begin` on: `degree` equal parts of them have one each.
std::vector<std::int32_t> sources_of(Index row, Index begin, Index size, Index degree) {
    std::vector<std::int32_t> sources;
    for (Index j = 0; j < degree; ++j) {
        const BlockRange part = block_range(size, degree, j);
        const auto words = random_words(1, Stream::weights, for_sources, static_cast<std::uint32_t>(row),
                                        static_cast<std::uint32_t>(begin + j), 0);
        sources.push_back(static_cast<std::int32_t>(
            part.begin + static_cast<Index>(uniform(words[0]) * static_cast<double>(part.size()))));
    }
    return sources;
}

// Excitatory and inhibitory neurons, four sparse projections between them, dense ones from the input.
ParameterLayout sparse_layout(const Workload& workload) {
    const Index N = workload.N, E = excitatory(N);
    Topology topology{.shape = {N, workload.M, workload.O}, .populations = {{"exc", 0, E}, {"inh", E, N - E}}};
    std::vector<Synapses> synapses;
    for (Index target = 0; target < 2; ++target) {
        topology.projections.push_back({.name = "input_" + topology.populations[target].name, .target = target});
        synapses.emplace_back();
        for (Index source = 0; source < 2; ++source) {
            const BlockRange from = topology.neurons_of(source), to = topology.neurons_of(target);
            const Index degree =
                source == 0 ? excitatory(workload.degree) : workload.degree - excitatory(workload.degree);
            Synapses these;
            for (Index row = to.begin; row < to.end; ++row) {
                const std::vector<std::int32_t> sources = sources_of(row, from.begin, from.size(), degree);
                these.column.insert(these.column.end(), sources.begin(), sources.end());
                these.row_begin.push_back(these.count());
            }
            topology.projections.push_back(
                {.name = fmt::format("{}_{}", topology.populations[source].name, topology.populations[target].name),
                 .source = source,
                 .target = target,
                 .sparse = true,
                 .synapses = these.count()});
            synapses.push_back(std::move(these));
        }
    }
    return {topology, synapses, 1, 0};
}

ParameterLayout layout_of(const Workload& workload) {
    if (workload.sparse()) return sparse_layout(workload);
    return {Topology{.shape = {workload.N, workload.M, workload.O}, .adaptation = workload.adaptive}, {}, 1, 0};
}

// LIF neurons, tau_syn = 5 and tau_mem = 10 steps, fast sigmoid of sharpness 5, reset to zero; weights of standard
// deviation 1/sqrt(synapses of a neuron); the readout is the weighted membrane of the same step. Binary units have
// neither memory nor reset. Adaptive ones have tau = 200 steps and a jump of 0.05.
HostNetwork random_network(const Workload& workload) {
    const Index N = workload.N, synapses = workload.sparse() ? workload.degree : N;
    HostNetwork network{{}, layout_of(workload), {}};
    if (workload.binary) network.model.neuron.reset = Reset::none;
    if (workload.adaptive) network.model.neuron.adaptation = Adaptation::threshold;
    network.values.assign(static_cast<std::size_t>(network.layout.size()), 0.0f);
    const auto at = [&](Parameter p) { return network.values.data() + network.layout.extent(p).offset; };
    const double root = std::sqrt(static_cast<double>(synapses));
    fill(at(Parameter::w_in), N, workload.M, 4.0 / std::sqrt(100.0), 0);
    fill(at(Parameter::w_rec), N, synapses, 1.0 / root, 1);
    fill(at(Parameter::w_out), workload.O, N, 1.0 / std::sqrt(static_cast<double>(N)), 3);
    for (const Segment& segment : network.layout.segments()) {
        if (segment.projection < 0 || segment.parameter != Parameter::w_rec) continue;
        const Index source = network.layout.topology().projections[static_cast<std::size_t>(segment.projection)].source;
        for (Index i = 0; i < segment.size(); ++i) {  // four excitatory synapses weigh as much as one inhibitory
            float& weight = network.values[static_cast<std::size_t>(segment.offset + i)];
            weight = source == 0 ? std::abs(weight) : -4.0f * std::abs(weight);
        }
    }
    std::fill_n(at(Parameter::alpha), N, workload.binary ? 0.0f : static_cast<float>(std::exp(-1.0 / 5.0)));
    std::fill_n(at(Parameter::beta), N, workload.binary ? 0.0f : static_cast<float>(std::exp(-1.0 / 10.0)));
    if (workload.adaptive) {
        std::fill_n(at(Parameter::rho), N, adaptation_decay);
        std::fill_n(at(Parameter::adapt_spike), N, adaptation_jump);
    }
    return network;
}

template <class T>
void write_array(const std::filesystem::path& folder, const std::string& name, const T* data, Index count) {
    std::ofstream file(folder / (name + ".bin"), std::ios::binary);
    file.write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(sizeof(T)) * count);
    require(static_cast<bool>(file.flush()), Exit::storage,
            fmt::format("cannot write {}", (folder / (name + ".bin")).string()), "see whether the disk is full");
}

}  // namespace

std::vector<Workload> gpu_workloads(bool quick) {
    if (quick)
        return {{"train_40_4_30", 40, 4, 30, 0, "none: a small case"},
                {"train_96_8_50", 96, 8, 50, 0, "none: a small case"},
                {"floss_24_6_40_1", 24, 1, 40, 6, "none: a small case"},
                {"floss_40_8_30_4", 40, 4, 30, 8, "none: a small case"}};
    return {{"train_80_16_300", 80, 16, 300, 0, "20x eager, 5x compiled"},
            {"train_256_64_500", 256, 64, 500, 0, "20x eager, 5x compiled"},
            {"floss_64_50_500_1", 64, 1, 500, 50, "50x PyTorch"},
            {"train_1024_64_500", 1024, 64, 500, 0, "10x eager, 3x compiled"},
            {"floss_1024_32_200_16", 1024, 16, 200, 32, "10x PyTorch"},
            {"train_16384_64_100", 16384, 64, 100, 0, "60 % of the bf16 rate / 3"}};
}

Workload workload_named(const std::string& name) {
    for (const bool quick : {false, true})
        for (const Workload& workload : gpu_workloads(quick))
            if (workload.name == name) return workload;
    // Sizes are above 0.
    const std::string size = "_([1-9]\\d{0,5})";
    std::smatch found;
    const auto number = [&](std::size_t i) { return static_cast<Index>(std::stol(found[i])); };
    if (std::regex_match(name, found, std::regex("train" + size + size + size)))
        return {name, number(1), number(2), number(3), 0, "none"};
    if (std::regex_match(name, found, std::regex("floss" + size + size + size + size)))
        return {name, number(1), number(4), number(3), number(2), "none"};
    if (std::regex_match(name, found, std::regex("sparse" + size + size + size + size + "(?:_k([1-9]\\d{0,3}))?"))) {
        Workload workload{name, number(1), number(3), number(4), found[5].matched ? number(5) : 0, "none", 10};
        workload.degree = number(2), workload.rate = 0.02;
        require(workload.N >= 10 && workload.degree >= 5 && workload.degree <= workload.N / 5, Exit::usage,
                fmt::format("{}: {} synapses a neuron do not fit {} neurons", name, workload.degree, workload.N),
                "choose at least 5, and at most a fifth of the neurons");
        return workload;
    }
    throw Error(Exit::usage, fmt::format("there is no workload {}", name),
                "choose one of the tables of this folder, or sizes above 0: train_N_B_T, floss_N_k_T_B, "
                "sparse_N_degree_B_T or, with flossing, sparse_N_degree_B_T_kK");
}

std::vector<Workload> cpu_workloads(bool quick) {
    // The authors' tasks have normal input to binary units; SHD's cochlea fires rarely.
    if (quick)
        return {{"xor", 40, 4, 30, 0, "none: a small case", 1, 1, 1.0, true},
                {"shd", 48, 8, 20, 0, "none: a small case", 70, 20, 0.02},
                {"floss", 24, 1, 40, 6, "none: a small case"},
                {"floss-batch", 32, 4, 20, 8, "none: a small case"},
                {"alif", 40, 4, 30, 0, "none: a small case", 10, 10, 0.05, false, 0, true},
                {"sparse-1e4", 200, 4, 30, 0, "none: a small case", 10, 10, 0.05, false, 20, false, 0.02},
                {"floss-sparse", 200, 1, 30, 4, "none: a small case", 10, 10, 0.05, false, 20, false, 0.02}};
    return {{"xor", 80, 16, 300, 0, "5x fastest, 20x eager", 1, 1, 1.0, true},
            {"shd", 200, 256, 100, 0, "5x fastest, 20x eager", 700, 20, 0.02},
            {"mid", 512, 32, 500, 0, "5x fastest, 20x eager"},
            {"large", 2048, 32, 200, 0, "3x fastest, 5x eager"},
            {"floss", 64, 1, 500, 50, "40x PyTorch"},
            {"floss-batch", 256, 16, 200, 32, "15x PyTorch"},
            {"alif", 512, 32, 500, 0, "4x fastest", 100, 10, 0.05, false, 0, true},
            {"sparse-1e4", 10'000, 8, 200, 0, "5x fastest", 10, 10, 0.05, false, 100, false, 0.02},
            {"sparse-1e5", 100'000, 1, 200, 0, "5x fastest", 10, 10, 0.05, false, 100, false, 0.02},
            {"floss-sparse", 10'000, 1, 200, 8, "10x PyTorch", 10, 10, 0.05, false, 100, false, 0.02}};
}

Case::Case(Backend& backend, const ProcessGrid& grid, const Workload& workload)
    : backend_(backend),
      grid_(grid),
      workload_(workload),
      host_x_(random_inputs(workload)),
      network_(backend, grid, random_network(workload)),
      x_(backend, sequences_of(host_x_, workload.T, workload.B, workload.M, grid.sequences_of(workload.B))),
      gradient_(backend, network_.layout.size()) {
    const auto [N, B, T, k, O] = std::tuple(workload.N, workload.B, workload.T, workload.k, workload.O);
    if (workload_.flossing()) {
        // The authors leave the reset out of the Jacobian.
        const FlossingOptions options{.tangent = {.exponents = k, .reset = JacobianReset::ignored}};
        host_q0_ = random_bases(1, k, N, 2, {0, N}, {0, B});
        floss_.emplace(backend, grid, network_, options, T, B, host_q0_);
    } else {
        const BlockRange mine = grid.sequences_of(B);
        host_dy_ = random_numbers(T * B, O, 1.0 / static_cast<double>(T * B), for_dy);
        dy_ = Buffer<float>(backend, sequences_of(host_dy_, T, B, O, mine));
        state_.emplace(backend, grid, network_, T, mine.size());
    }
}

void Case::set_bias(float value) {
    const std::vector<float> bias(static_cast<std::size_t>(workload_.N), value);
    backend_.copy_in(network_[Parameter::bias], bias.data(), bias.size() * sizeof(float));
}

double Case::tune() {
    double low = -1.0, high = 2.0, rate = 0.0;
    for (int i = 0; i < 20; ++i) {
        const double bias = 0.5 * (low + high);
        set_bias(static_cast<float>(bias));
        forward();
        rate = state().tape().spikes.rate();
        if (std::abs(rate / workload_.rate - 1.0) < 0.136) break;
        (rate > workload_.rate ? high : low) = bias;
    }
    return rate;
}

void Case::forward() { state().forward(network_, x_.data()); }

void Case::step() {
    gradient_.zero();
    if (floss_) {
        exponents_ = floss_->run(network_, x_.data(), {}, gradient_).spectrum.exponents;
    } else {
        state_->forward(network_, x_.data());
        state_->backward(network_, x_.data(), {.dy = dy_.data()}, gradient_);
        if (grid_.ranks() > 1) grid_.batch().all_reduce_sum(gradient_.data(), gradient_.type(), gradient_.size());
    }
}

namespace {

// Calls work(projection, its value's place in the buffers, column) for all synapses of sparse projections, by target
// and then by source.
template <class Work>
void each_synapse(const ParameterLayout& layout, Work&& work) {
    const Topology& topology = layout.topology();
    for (const Population& population : topology.populations)
        for (Index row = 0; row < population.size; ++row)
            for (const Segment& segment : layout.segments()) {
                if (segment.projection < 0) continue;
                const Projection& projection = topology.projections[static_cast<std::size_t>(segment.projection)];
                if (!projection.sparse || topology.target_of(projection).begin != population.begin) continue;
                const Synapses& synapses = layout.synapses(segment.projection);
                for (Index e = synapses.row_begin[static_cast<std::size_t>(row)];
                     e < synapses.row_begin[static_cast<std::size_t>(row) + 1]; ++e)
                    work(projection, segment.offset + e, synapses.column[static_cast<std::size_t>(e)]);
            }
}

}  // namespace

std::vector<float> Case::numbers_of(Parameter parameter, const std::vector<float>& all) const {
    const auto [offset, count] = network_.layout.extent(parameter);
    if (!workload_.sparse() || parameter != Parameter::w_rec)
        return {all.begin() + offset, all.begin() + offset + count};
    std::vector<float> numbers;
    each_synapse(network_.layout, [&](const Projection&, Index place, std::int32_t) {
        numbers.push_back(all[static_cast<std::size_t>(place)]);
    });
    return numbers;
}

void Case::write(const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    step();
    const auto [N, B, T, k, M, O] =
        std::tuple(workload_.N, workload_.B, workload_.T, workload_.k, workload_.M, workload_.O);
    const NeuronModel& model = network_.model.neuron;
    const std::vector<float> values = network_.values.to_host();
    using Parameters = std::vector<Parameter>;
    const Parameters wanted = floss_ ? Parameters{Parameter::w_in, Parameter::w_rec, Parameter::bias}
                                     : Parameters{Parameter::w_in, Parameter::w_rec, Parameter::bias, Parameter::w_out};
    std::vector<float> gradient(values.size());
    backend_.copy_out(gradient.data(), gradient_.data(0), gradient.size() * sizeof(float));
    for (Parameter p : wanted) {
        const std::vector<float> numbers = numbers_of(p, values), found = numbers_of(p, gradient);
        write_array(folder, std::string(name_of(p)), numbers.data(), static_cast<Index>(numbers.size()));
        write_array(folder, "d_" + std::string(name_of(p)), found.data(), static_cast<Index>(found.size()));
    }
    if (workload_.sparse()) {
        std::vector<std::int32_t> sources;
        each_synapse(network_.layout, [&](const Projection& from, Index, std::int32_t column) {
            sources.push_back(static_cast<std::int32_t>(network_.layout.topology().source_of(from).begin) + column);
        });
        write_array(folder, "indices", sources.data(), static_cast<Index>(sources.size()));
    }
    const auto words = static_cast<std::size_t>((T + 1) * B * spike_words(N));
    std::vector<std::uint32_t> bits(words);
    backend_.copy_out(bits.data(), state().tape().spikes.bits(0), words * sizeof(std::uint32_t));
    write_array(folder, "spikes", bits.data(), static_cast<Index>(words));
    write_array(folder, "x", host_x_.data(), static_cast<Index>(host_x_.size()));
    if (floss_) {
        write_array(folder, "q0", host_q0_.data(), static_cast<Index>(host_q0_.size()));
        write_array(folder, "lambda", exponents_.data(), static_cast<Index>(exponents_.size()));
    } else {
        write_array(folder, "dy", host_dy_.data(), static_cast<Index>(host_dy_.size()));
    }
    const nlohmann::json meta = {
        {"name", workload_.name},
        {"kind", floss_ ? "flossing" : "training"},
        {"N", N},
        {"B", B},
        {"T", T},
        {"k", k},
        {"M", M},
        {"O", O},
        {"alpha", values[static_cast<std::size_t>(network_.layout.extent(Parameter::alpha).offset)]},
        {"beta", values[static_cast<std::size_t>(network_.layout.extent(Parameter::beta).offset)]},
        {"degree", workload_.degree},
        {"rho", workload_.adaptive ? adaptation_decay : 0.0f},
        {"jump", workload_.adaptive ? adaptation_jump : 0.0f},
        {"reset", model.reset == Reset::none ? "none" : "zero"},
        {"threshold", model.threshold},
        {"sharpness", model.sharpness},
        {"rate", state().tape().spikes.rate()}};
    std::ofstream(folder / "meta.json") << meta.dump(1) << '\n';
}

}  // namespace spikefloss::bench
