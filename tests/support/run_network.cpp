#include "support/run_network.hpp"

#include "backend/backends.hpp"
#include "support/near.hpp"
#include "train/gradient.hpp"

#include <cmath>
#include <numeric>
#include <stdexcept>

namespace spikefloss::testing_support {
namespace {

const std::vector<double>& values_of(const reference::Parameters& parameters, Parameter p) {
    for (const auto& [name, values] : reference::all_parameters)
        if (name == name_of(p)) return parameters.*values;
    throw std::logic_error("the reference lacks a parameter");
}

NeuronModel neuron_model(const reference::Network& net) {
    // By the name of the value, not by its number, because the two enums are independent.
    NeuronModel model;
    model.threshold = static_cast<float>(net.threshold);
    model.sharpness = static_cast<float>(net.sharpness);
    model.reset_delay = net.reset_delay;
    switch (net.reset) {
        case reference::Reset::zero: model.reset = Reset::zero; break;
        case reference::Reset::subtract: model.reset = Reset::subtract; break;
        case reference::Reset::none: model.reset = Reset::none; break;
    }
    switch (net.surrogate) {
        case reference::Surrogate::fast_sigmoid: model.surrogate = Surrogate::fast_sigmoid; break;
        case reference::Surrogate::arctan: model.surrogate = Surrogate::arctan; break;
        case reference::Surrogate::sigmoid: model.surrogate = Surrogate::sigmoid; break;
        case reference::Surrogate::gaussian: model.surrogate = Surrogate::gaussian; break;
        case reference::Surrogate::triangle: model.surrogate = Surrogate::triangle; break;
        case reference::Surrogate::exponential: model.surrogate = Surrogate::exponential; break;
    }
    return model;
}

std::vector<double> widened(const std::vector<float>& values) { return {values.begin(), values.end()}; }

// Puts blocks [rows, b, n] into zeros [rows, B, N] and sums over the ranks that contribute.
std::vector<double> put_together(const ProcessGrid& grid, const std::vector<double>& mine, Index rows,
                                 BlockRange sequences, Index B, BlockRange columns, Index N, bool speaks) {
    const Index b = sequences.size(), n = columns.size();
    EXPECT_EQ(static_cast<Index>(mine.size()), rows * b * n);
    std::vector<double> all(static_cast<std::size_t>(rows * B * N), 0.0);
    for (Index t = 0; t < rows && speaks; ++t)
        for (Index s = 0; s < b; ++s)
            for (Index j = 0; j < n; ++j)
                all[static_cast<std::size_t>((t * B + sequences.begin + s) * N + columns.begin + j)] =
                    mine[static_cast<std::size_t>((t * b + s) * n + j)];
    grid.control().all_reduce_sum(all.data(), Scalar::float64, static_cast<Index>(all.size()));
    return all;
}

}  // namespace

std::vector<GridShape> grid_shapes(int ranks) {
    std::vector<GridShape> shapes;
    for (int P = 1; P <= ranks; ++P)
        if (ranks % P == 0) shapes.push_back({P, ranks / P});
    return shapes;
}

void on_every_grid(const std::function<void(const ProcessGrid&)>& work) {
    int ranks = 1;
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (const GridShape shape : grid_shapes(ranks)) {
        SCOPED_TRACE(testing::Message() << "grid " << shape.neuron_shards << "x" << shape.batch_shards);
        work(ProcessGrid(MPI_COMM_WORLD, shape));
    }
}

const ProcessGrid& alone() {
    static const ProcessGrid grid(MPI_COMM_SELF, {1, 1});
    return grid;
}

HostNetwork host_network(const reference::Network& net, const ProcessGrid& grid) {
    HostNetwork host{
        {neuron_model(net), net.readout == reference::Readout::membrane ? Readout::membrane : Readout::spikes},
        ParameterLayout({net.neurons, net.inputs, net.outputs}, grid.shape().neuron_shards, grid.neuron_shard()),
        {}};
    host.values.assign(static_cast<std::size_t>(host.layout.size()), 0.0f);
    for (const Segment& s : host.layout.segments()) {
        const std::vector<double>& global = values_of(net, s.parameter);
        if (global.empty()) continue;  // an initial state of 0
        for (Index r = 0; r < s.rows; ++r)
            for (Index c = 0; c < s.cols; ++c)
                host.values[static_cast<std::size_t>(s.offset + r * s.cols + c)] =
                    static_cast<float>(global[static_cast<std::size_t>((s.row + r) * s.global_cols + s.col + c)]);
    }
    return host;
}

Batch host_batch(const reference::Network& net, const reference::Sequences& seq, BlockRange sequences) {
    Batch batch;
    batch.steps = seq.steps;
    batch.sequences = sequences.size();
    batch.inputs = net.inputs;
    batch.outputs = net.outputs;
    batch.loss = find_choice<LossKind>(reference::name_of(seq.loss)).value();
    const auto take = [&](const std::vector<double>& from, Index m, std::vector<float>& to) {
        for (Index t = 0; t < seq.steps; ++t)
            to.insert(to.end(), from.begin() + (t * seq.batch + sequences.begin) * m,
                      from.begin() + (t * seq.batch + sequences.end) * m);
    };
    take(seq.x, net.inputs, batch.x);
    take(seq.mask, 1, batch.mask);
    if (!seq.target.empty())
        take(seq.target, net.outputs, batch.target);
    else
        batch.label.assign(seq.label.begin() + sequences.begin, seq.label.begin() + sequences.end);
    return batch;
}

std::vector<float> host_bases(const reference::Network& net, const reference::Sequences& seq, BlockRange neurons,
                              BlockRange sequences) {
    const Index N = net.neurons, D = net.state_size(), k = seq.exponents;
    std::vector<float> bases;
    for (Index s = sequences.begin; s < sequences.end; ++s)
        for (Index j = 0; j < k; ++j)
            for (Index part = 0; part < D / N; ++part)
                for (Index i = neurons.begin; i < neurons.end; ++i)
                    bases.push_back(
                        static_cast<float>(seq.q0[static_cast<std::size_t>((s * D + part * N + i) * k + j)]));
    return bases;
}

reference::Sequences repeated(const reference::Sequences& seq, reference::Index copies) {
    reference::Sequences many = seq;
    many.batch = copies * seq.batch;
    const auto repeat_rows = [&](const auto& from, Index rows) {
        std::remove_cvref_t<decltype(from)> to;
        const Index row = static_cast<Index>(from.size()) / rows;
        for (Index t = 0; t < rows; ++t)
            for (Index c = 0; c < copies; ++c)
                to.insert(to.end(), from.begin() + t * row, from.begin() + (t + 1) * row);
        return to;
    };
    many.x = repeat_rows(seq.x, seq.steps);
    many.mask = repeat_rows(seq.mask, seq.steps);
    many.target = repeat_rows(seq.target, seq.steps);
    many.label = repeat_rows(seq.label, 1);
    many.q0 = repeat_rows(seq.q0, 1);
    return many;
}

std::vector<double> gathered_state(const ProcessGrid& grid, const std::vector<double>& mine, Index rows, Index B,
                                   Index N) {
    return put_together(grid, mine, rows, grid.sequences_of(B), B, grid.neurons_of(N), N, true);
}

std::vector<double> gathered_sequences(const ProcessGrid& grid, const std::vector<double>& mine, Index rows, Index B,
                                       Index m) {
    const bool last = grid.neuron_shard() == grid.shape().neuron_shards - 1;
    return put_together(grid, mine, rows, grid.sequences_of(B), B, {0, m}, m, last);
}

reference::Parameters gathered_parameters(const ProcessGrid& grid, const ParameterLayout& layout,
                                          const std::vector<float>& values) {
    reference::Parameters all;
    for (const auto& [name, member] : reference::all_parameters) {
        std::vector<double>& global = all.*member;
        for (const Segment& s : layout.segments()) {
            if (name != name_of(s.parameter)) continue;
            global.resize(static_cast<std::size_t>(s.global_rows * s.global_cols), 0.0);
            // Only the last shards contribute values that several ranks hold.
            const bool speaks = grid.batch_shard() == grid.shape().batch_shards - 1 &&
                                (!s.replicated || grid.neuron_shard() == grid.shape().neuron_shards - 1);
            for (Index r = 0; r < s.rows && speaks; ++r)
                for (Index c = 0; c < s.cols; ++c)
                    global[static_cast<std::size_t>((s.row + r) * s.global_cols + s.col + c)] =
                        values[static_cast<std::size_t>(s.offset + r * s.cols + c)];
        }
        grid.control().all_reduce_sum(global.data(), Scalar::float64, static_cast<Index>(global.size()));
    }
    return all;
}

void use_bits(Batch& batch) {
    const Index M = batch.inputs, words = spike_words(M), rows = batch.steps * batch.sequences;
    batch.x_bits.assign(static_cast<std::size_t>(rows * words), 0);
    for (Index i = 0; i < rows * M; ++i)
        if (batch.x[static_cast<std::size_t>(i)] != 0.0f)
            batch.x_bits[static_cast<std::size_t>(i / M * words + i % M / 32)] |= std::uint32_t{1} << i % M % 32;
    batch.x.clear();
}

TaskRun run_task(const ProcessGrid& grid, Execution execution, const reference::Network& net,
                 const reference::Sequences& seq, double adjoint_limit) {
    const std::unique_ptr<Backend> owner = make_test_backend(execution.threads, execution.sums);
    Backend& backend = *owner;
    const Network network(backend, grid, host_network(net, grid));
    const Index T = seq.steps, B = seq.batch, N = net.neurons;
    const BlockRange mine = grid.sequences_of(B);
    Batch batch = host_batch(net, seq, mine);
    StatePass state(
        backend, grid, network, T, mine.size(),
        {.keep_current = true, .time_constants = execution.time_constants, .whole_passes = execution.whole_passes});
    LossPass loss(backend, grid, T, mine.size(), net.inputs, net.outputs, batch.loss);
    Gradient gradient(backend, grid, network.layout);
    if (execution.bits) {
        EXPECT_TRUE(state.takes_bits());
        use_bits(batch);
    }
    loss.load(batch);
    state.forward(network, loss.x());

    TaskRun run;
    run.passes = state.passes().forward.name + ", " + state.passes().backward.name;
    run.outcome = loss.evaluate(state.tape().readout.data());
    run.rate = state.tape().spikes.rate();
    run.current = gathered_state(grid, widened(state.tape().current.to_host()), T + 1, B, N);
    run.membrane = gathered_state(grid, widened(state.tape().membrane.to_host()), T + 1, B, N);
    // Every rank contributes the neurons of the next shard, so the result is right only if the communicated spikes are.
    const BlockRange next =
        block_range(N, grid.shape().neuron_shards, (grid.neuron_shard() + 1) % grid.shape().neuron_shards);
    std::vector<Index> neurons(static_cast<std::size_t>(next.size()));
    std::iota(neurons.begin(), neurons.end(), next.begin);
    const std::vector<unsigned char> spikes = state.tape().spikes.raster({0, mine.size()}, neurons);
    run.spikes = put_together(grid, {spikes.begin(), spikes.end()}, T + 1, mine, B, next, N, true);
    run.readout = gathered_sequences(grid, widened(state.tape().readout.to_host()), T, B, net.outputs);

    state.backward(network, loss.x(),
                   {.dy = loss.dy(), .adjoint_limit = static_cast<float>(adjoint_limit), .state_norms = true},
                   gradient.start());
    run.state_gradient_norm = state.state_gradient_norm();
    gradient.reduce({});
    run.gradient = gathered_parameters(grid, network.layout, gradient.to_host());
    return run;
}

FlossRun run_floss(const ProcessGrid& grid, Execution execution, const reference::Network& net,
                   const reference::Sequences& seq, const FlossChoice& choice) {
    const std::unique_ptr<Backend> owner = make_test_backend(execution.threads, execution.sums);
    Backend& backend = *owner;
    Network network(backend, grid, host_network(net, grid));
    const Index T = seq.steps, B = seq.batch, k = seq.exponents;
    const BlockRange mine = grid.sequences_of(B);
    const Buffer<float> x(backend, host_batch(net, seq, mine).x);
    FlossingOptions options;
    options.tangent = {k, choice.spectrum.warmup, choice.spectrum.qr_interval,
                       choice.spectrum.jacobian_reset == reference::JacobianReset::detached ? JacobianReset::detached
                                                                                            : JacobianReset::ignored,
                       execution.whole_passes};
    options.through_state = choice.through_state;
    options.time_constants = execution.time_constants;
    FlossingPass pass(backend, grid, network, options, T, B, host_bases(net, seq, grid.neurons_of(net.neurons), mine));
    Gradient gradient(backend, grid, network.layout);

    FlossRun run;
    if (execution.used_before) {
        const std::vector<float> weights = network.values.to_host();
        std::vector<float> others = weights;
        const auto [offset, count] = network.layout.extent(Parameter::w_rec);
        for (Index i = 0; i < count; ++i) others[static_cast<std::size_t>(offset + i)] *= -0.7f;
        network.values.copy_in(others.data());
        pass.run(network, x.data(), {choice.target, choice.slack, choice.weight}, gradient.start(), {});
        network.values.copy_in(weights.data());
    }
    run.penalty = pass.run(network, x.data(), {choice.target, choice.slack, choice.weight}, gradient.start(),
                           {.state_norms = choice.through_state});
    run.lambda_per_sequence = gathered_sequences(grid, run.penalty.spectrum.per_sequence, 1, B, k);
    run.qr_steps = pass.tangents().counted_steps();
    run.log_r = gathered_sequences(grid, pass.tangents().log_r(),
                                   static_cast<Index>(pass.tangents().counted_steps().size()), B, k);
    if (choice.through_state) run.state_gradient_norm = pass.state().state_gradient_norm();
    gradient.reduce({});
    run.gradient = gathered_parameters(grid, network.layout, gradient.to_host());
    return run;
}

Case clear_case(reference::Example example, const reference::SpectrumOptions* spectrum) {
    constexpr double margin = 2e-5, smallest_log_r = -4.0;
    for (const std::uint64_t last = example.seed + 1000; example.seed < last; ++example.seed) {
        Case found{reference::random_network(example), reference::random_sequences(example), {}};
        found.trajectory = reference::forward(found.net, found.seq);
        const reference::Network& net = found.net;
        bool clear = true;
        for (double u : found.trajectory.membrane) {
            const double v = u - net.threshold;
            clear =
                clear && std::fabs(v) > margin && reference::distance_to_kink(net.surrogate, v, net.sharpness) > margin;
        }
        if (clear && spectrum) {
            try {
                for (double log_r : reference::spectrum(net, found.seq, found.trajectory, *spectrum).log_r)
                    clear = clear && log_r > smallest_log_r;
            } catch (const std::runtime_error&) {
                clear = false;  // the bases have lost rank
            }
        }
        if (clear) return found;
    }
    throw std::runtime_error("no seed gives a case that float32 must reproduce");
}

void expect_gradients_near(const reference::Parameters& actual, const reference::Parameters& expected,
                           double tolerance) {
    for (const auto& [name, values] : reference::all_parameters)
        if (!(expected.*values).empty()) {
            EXPECT_TRUE(near_in_norm(actual.*values, expected.*values, tolerance)) << name;
        }
}

reference::Parameters given_by(const Execution& execution, reference::Parameters gradient) {
    if (!execution.time_constants) {
        gradient.alpha.clear();
        gradient.beta.clear();
    }
    return gradient;
}

void expect_gradients_equal(const reference::Parameters& actual, const reference::Parameters& expected) {
    for (const auto& [name, values] : reference::all_parameters)
        EXPECT_TRUE(all_equal(actual.*values, expected.*values)) << name;
}

}  // namespace spikefloss::testing_support
