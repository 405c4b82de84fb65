// Times every operation of every backend at the working shapes of tests/backend/shapes.hpp. One line per operation,
// backend and shape; a whole pass is one chunk of 16 steps; `bytes_per_second` counts the arrays read and written
// once, `flops` those of products.
#include "backend/backends.hpp"
#include "backend/buffer.hpp"
#include "backend/shapes.hpp"
#include "backend/state_passes.hpp"
#include "core/random.hpp"
#include "network/sparse_patterns.hpp"

#include <benchmark/benchmark.h>

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace spikefloss {
namespace {

using testing_support::BackendCase;
using testing_support::Shape;

const NeuronModel model;

// Arrays of one shape that the operations work on: T steps and O readouts for the readout, M inputs.
struct Arrays {
    static constexpr Index T = 100, O = 10, M = 100, steps = 16;
    Backend& backend;
    Index b, k, n, D;

    // [n] and [n, n]
    Buffer<float> alpha = filled(n, 0.9f), beta = filled(n, 0.8f), bias = filled(n, 0.1f), w = random(n * n),
                  w_in = random(n * M);
    // [b, n]
    Buffer<float> u = random(b * n), i = random(b * n), input = random(b * n), recurrent = random(b * n),
                  du = random(b * n), di = random(b * n), g = random(b * n), i_next = random(b * n),
                  u_next = random(b * n), inputs = random(b * M);
    Buffer<double> sum{backend, 1};
    Buffer<std::uint32_t> bits{backend, random_bits(b* spike_words(n))};
    Buffer<double> squares{backend, b};
    Buffer<float> limit = filled(1, 1.0f);
    // [b, k, D], [b, k, n]
    Buffer<float> q = random(b * k * D), p = random(b * k * D), x = random(b * k * n), back = random(b * k * n);
    // [b, k, k], [b, k]
    Buffer<double> gram{backend, b* k* k}, r{backend, unit_r()}, c{backend, b* k* k}, log_r{backend, b* k},
        weight{backend, b* k};
    Buffer<std::int32_t> info{backend, 2 * b}, label{backend, b}, named{backend, b};
    // [T, b, O]
    Buffer<float> z = random(T * b * O), y = random(T * b * O), dy = random(T * b * O),
                  target = filled(T * b * O, 1.0f), mask = filled(T * b, 1.0f), kappa = filled(O, 0.9f),
                  bias_out = filled(O, 0.1f);
    Buffer<double> result{backend, 2};
    SumBuffer sums_n{backend, n}, sums_n_other{backend, n}, sums_w{backend, n* n}, sums_o{backend, O};
    Buffer<float> m = filled(n * n, 0.0f), v = filled(n * n, 0.0f);
    // [steps+1, b, n] of whole passes
    Buffer<float> u_steps = random((steps + 1) * b * n), i_steps = random((steps + 1) * b * n),
                  x_steps = random(steps * b * M), y_steps = random(steps * b * O), w_out = random(O * n);
    Buffer<std::uint32_t> bits_steps{backend, (steps + 1) * b* spike_words(n)};
    SumBuffer sums_in{backend, n* M}, sums_out{backend, O* n};
    std::optional<StatePasses> passes;  // made at the first use
    bool taken = true;                  // whether the backend has the operation at this shape

    Arrays(Backend& backend_, const Shape& shape)
        : backend(backend_), b(shape.b), k(shape.k), n(shape.n), D(2 * shape.n) {}

    void state_forward() {
        if (!passes) passes = backend.state_passes({steps, b, n, M, O}, backend);
        taken = passes->forward.pass != nullptr;
        if (taken)
            passes->forward.pass->run({steps, model, neurons(), Readout::membrane, w_in.data(), w.data(), w_out.data(),
                                       x_steps.data(), nullptr, i_steps.data(), b * n, u_steps.data(), nullptr,
                                       bits_steps.data(), Matrix<float>(y_steps.data(), steps * b, O), false});
    }
    void state_backward() {
        if (!passes) passes = backend.state_passes({steps, b, n, M, O}, backend);
        taken = passes->backward.pass != nullptr;
        if (taken)
            passes->backward.pass->run({steps,
                                        model,
                                        neurons(),
                                        Readout::membrane,
                                        w.data(),
                                        w_out.data(),
                                        x_steps.data(),
                                        u_steps.data(),
                                        nullptr,
                                        bits_steps.data(),
                                        y_steps.data(),
                                        nullptr,
                                        nullptr,
                                        nullptr,
                                        di.data(),
                                        du.data(),
                                        sums_in.matrix(n, M),
                                        sums_w.matrix(n, n),
                                        sums_out.matrix(O, n),
                                        sums_n.matrix(1, n),
                                        nullptr,
                                        {},
                                        {}},
                                       nullptr);
    }

    Buffer<float> filled(Index count, float value) {
        return {backend, std::vector<float>(static_cast<std::size_t>(count), value)};
    }
    Buffer<float> random(Index count) {
        std::vector<float> values(static_cast<std::size_t>(count));
        for (Index at = 0; at < count; ++at)
            values[static_cast<std::size_t>(at)] =
                static_cast<float>(normal(1, Stream::test, static_cast<std::uint32_t>(at), 0, 0));
        return {backend, values};
    }
    // A sixteenth of the neurons fires.
    static std::vector<std::uint32_t> random_bits(Index words) {
        std::vector<std::uint32_t> bits(static_cast<std::size_t>(words));
        for (Index at = 0; at < words; ++at) {
            const auto r = random_words(1, Stream::test, static_cast<std::uint32_t>(at), 1, 0, 0);
            bits[static_cast<std::size_t>(at)] = r[0] & r[1] & r[2] & r[3];
        }
        return bits;
    }
    std::vector<double> unit_r() const {
        std::vector<double> unit(static_cast<std::size_t>(b * k * k), 0.0);
        for (Index at = 0; at < b * k; ++at) unit[static_cast<std::size_t>(at * k + at % k)] = 1.0;
        return unit;
    }
    NeuronVectors neurons() const { return {alpha.data(), beta.data(), bias.data()}; }
    NeuronState state() const { return {i.data(), u.data()}; }
    NeuronState next_state() const { return {i_next.data(), u_next.data()}; }
    StateAdjoint adjoint() { return {di.data(), du.data()}; }
    ConstantSums time_constants() { return {.alpha = sums_n.matrix(1, n), .beta = sums_n_other.matrix(1, n)}; }
    BasisShape basis() const { return {b, k, n, true}; }
    Weights w_rec() const { return {n, n, w.data(), n}; }
    Activity spikes() const { return {.bits = bits.data(), .stride = spike_words(n)}; }
    // A sparse matrix with a tenth of the entries.
    static constexpr Index every = 10;
    const Weights& sparse() {
        if (patterns) return w_sparse;
        std::vector<Index> row_begin{0};
        std::vector<std::int32_t> column;
        for (Index row = 0; row < n; ++row) {
            for (Index j = row % every; j < n; j += every) column.push_back(static_cast<std::int32_t>(j));
            row_begin.push_back(static_cast<Index>(column.size()));
        }
        const std::vector<BlockRange> blocks{{0, n}};
        const ProjectionRows all{0, blocks[0], row_begin, column};
        patterns.emplace(backend, n, std::span(&all, 1), blocks);
        patterns->sort_by_column(w.data());
        return w_sparse = patterns->weights(0, w.data());
    }
    std::optional<SparsePatterns> patterns;  // made at the first use
    Weights w_sparse{};
    SumMatrix recurrent_sums() { return Matrix<float>(recurrent.data(), b, n); }
};

struct Operation {
    const char* name;
    std::function<void(Arrays&)> run;
    // Floats moved, and floating-point operations if these are the limit.
    std::function<double(const Arrays&)> floats;
    std::function<double(const Arrays&)> flops;
};

std::vector<Operation> operations() {
    const auto bn = [](double arrays) { return [=](const Arrays& a) { return arrays * double(a.b * a.n); }; };
    const auto bkn = [](double arrays) { return [=](const Arrays& a) { return arrays * double(a.b * a.k * a.n); }; };
    const auto tbo = [](double arrays) {
        return [=](const Arrays& a) { return arrays * double(Arrays::T * a.b * Arrays::O); };
    };
    const auto nn = [](double arrays) { return [=](const Arrays& a) { return arrays * double(a.n * a.n); }; };
    const auto bkk = [](double arrays) {
        return [=](const Arrays& a) { return 2.0 * arrays * double(a.b * a.k * a.k); };
    };
    const auto product = [](auto&& rows_of) {
        return [=](const Arrays& a) { return 2.0 * rows_of(a) * double(a.n * a.n); };
    };
    const auto sequences = [](const Arrays& a) { return double(a.b); };
    const auto tangents = [](const Arrays& a) { return double(a.b * a.k); };
    const auto gram_flops = [](const Arrays& a) { return 2.0 * double(a.b * a.k * a.k * a.D); };

    return {
        {"project_spikes", [](Arrays& a) { a.backend.project(a.w_rec(), a.spikes(), a.recurrent_sums(), false); },
         nn(1), product(sequences)},
        {"project_tangents",
         [](Arrays& a) {
             a.backend.project(a.w_rec(), {.values = a.x.data(), .stride = a.n},
                               Matrix<float>(a.p.data(), a.b * a.k, a.n), false);
         },
         nn(1), product(tangents)},
        {"project_transposed",
         [](Arrays& a) {
             a.backend.project_transposed(a.w_rec(), {a.g.data(), a.b, a.n}, a.recurrent_sums(), false);
         },
         nn(1), product(sequences)},
        {"add_outer_floats",
         [](Arrays& a) {
             a.backend.add_outer({a.g.data(), a.b, a.n}, {.values = a.u.data(), .stride = a.n},
                                 a.sums_w.matrix(a.n, a.n));
         },
         nn(2), product(sequences)},
        {"add_outer_spikes",
         [](Arrays& a) {
             a.backend.add_outer({a.g.data(), a.b, a.n}, a.spikes(), a.sums_w.matrix(a.n, a.n));
         },
         nn(2), product(sequences)},
        {"project_spikes_sparse",
         [](Arrays& a) { a.backend.project(a.sparse(), a.spikes(), a.recurrent_sums(), false); },
         nn(2.0 / Arrays::every),
         {}},
        {"project_tangents_sparse",
         [](Arrays& a) {
             a.backend.project(a.sparse(), {.values = a.x.data(), .stride = a.n},
                               Matrix<float>(a.p.data(), a.b * a.k, a.n), false);
         },
         nn(2.0 / Arrays::every),
         {}},
        {"project_transposed_sparse",
         [](Arrays& a) {
             a.backend.project_transposed(a.sparse(), {a.g.data(), a.b, a.n}, a.recurrent_sums(), false);
         },
         nn(2.0 / Arrays::every),
         {}},
        {"add_outer_spikes_sparse",
         [](Arrays& a) {
             const Weights& sparse = a.sparse();
             a.backend.add_outer({a.g.data(), a.b, a.n}, a.spikes(), a.sums_w.matrix(1, a.patterns->entries()),
                                 sparse.pattern);
         },
         nn(3.0 / Arrays::every),
         {}},
        {"add_column_sums",
         [](Arrays& a) {
             a.backend.add_column_sums({a.g.data(), a.b, a.n}, a.sums_n.matrix(1, a.n));
         },
         bn(1),
         {}},
        {"round_sums", [](Arrays& a) { a.backend.round_sums(a.sums_w.data(), a.m.data(), a.n * a.n); }, nn(2), {}},
        {"sum_squares",
         [](Arrays& a) {
             const Squares all{a.w.data(), a.n, a.n, a.n, a.sum.data()};
             a.backend.sum_squares({&all, 1});
         },
         nn(1),
         {}},
        {"row_sum_squares",
         [](Arrays& a) { a.backend.row_sum_squares(a.b, a.n, a.i.data(), a.u.data(), nullptr, a.squares.data()); },
         bn(2),
         {}},
        {"cap_rows",
         [](Arrays& a) {
             a.backend.cap_rows(a.b, a.n, a.squares.data(), a.limit.data(), a.i_next.data(), a.u_next.data(), nullptr);
         },
         bn(4),
         {}},
        {"neuron_step",
         [](Arrays& a) {
             a.backend.neuron_step(model, a.neurons(), a.b, a.n, a.input.data(), a.recurrent.data(), a.state(),
                                   {a.i_next.data(), a.u_next.data()});
         },
         bn(6),
         {}},
        {"pack_spikes",
         [](Arrays& a) { a.backend.pack_spikes(model, a.neurons(), a.b, a.n, a.state(), a.bits.data()); },
         bn(1),
         {}},
        {"count_spikes",
         [](Arrays& a) { a.backend.count_spikes(1, a.b * spike_words(a.n), a.bits.data(), 0, a.sum.data()); },
         bn(1.0 / 32),
         {}},
        {"neuron_step_backward",
         [](Arrays& a) {
             a.backend.neuron_step_backward(model, a.neurons(), a.b, a.n, a.state(), a.next_state(), a.adjoint(),
                                            a.g.data(), nullptr, {});
         },
         bn(6),
         {}},
        {"neuron_step_backward_with_time_constants",
         [](Arrays& a) {
             a.backend.neuron_step_backward(model, a.neurons(), a.b, a.n, a.state(), a.next_state(), a.adjoint(),
                                            a.g.data(), nullptr, a.time_constants());
         },
         bn(11),
         {}},
        {"add_adjoints",
         [](Arrays& a) {
             a.backend.add_adjoints(model, a.neurons(), Readout::membrane, a.b, a.n, a.state(), a.g.data(), nullptr,
                                    a.input.data(), a.recurrent.data(), a.adjoint(), {});
         },
         bn(6),
         {}},
        {"state_forward", [](Arrays& a) { a.state_forward(); }, bn(6.0 * Arrays::steps), {}},
        {"state_backward", [](Arrays& a) { a.state_backward(); }, bn(6.0 * Arrays::steps), {}},
        {"readout_filter",
         [](Arrays& a) {
             a.backend.readout_filter(a.T, a.b, a.O, a.kappa.data(), a.bias_out.data(), a.z.data(), a.y.data());
         },
         tbo(2),
         {}},
        {"readout_filter_backward",
         [](Arrays& a) {
             a.backend.readout_filter_backward(a.T, a.b, a.O, a.kappa.data(), a.y.data(), a.dy.data(), a.z.data(),
                                               a.sums_o.matrix(1, a.O));
         },
         tbo(3),
         {}},
        {"element_loss",
         [](Arrays& a) {
             a.backend.element_loss(LossKind::binary_cross_entropy, a.T, a.b, a.O, a.y.data(), a.target.data(),
                                    a.mask.data(), 1.0f, a.dy.data(), a.result.data());
         },
         tbo(3),
         {}},
        {"softmax_cross_entropy",
         [](Arrays& a) {
             a.backend.softmax_cross_entropy(LossKind::cross_entropy_mean, a.T, a.b, a.O, a.y.data(), a.label.data(),
                                             a.mask.data(), 1.0f, a.dy.data(), a.named.data(), a.result.data());
         },
         tbo(2),
         {}},
        {"tangent_input",
         [](Arrays& a) { a.backend.tangent_input(model, a.neurons(), a.basis(), a.state(), a.q.data(), a.x.data()); },
         bkn(2),
         {}},
        {"tangent_step",
         [](Arrays& a) {
             a.backend.tangent_step(model, JacobianReset::detached, a.neurons(), a.basis(), a.state(), nullptr,
                                    a.x.data(), a.q.data(), a.p.data());
         },
         bkn(5),
         {}},
        {"tangent_step_backward",
         [](Arrays& a) {
             a.backend.tangent_step_backward(model, JacobianReset::detached, a.neurons(), a.basis(), a.state(), nullptr,
                                             nullptr, nullptr, a.p.data(), a.x.data(), {});
         },
         bkn(4),
         {}},
        {"tangent_input_backward",
         [](Arrays& a) {
             a.backend.tangent_input_backward(model, JacobianReset::detached, a.neurons(), a.basis(), a.state(),
                                              a.q.data(), a.back.data(), a.x.data(), a.p.data(), a.du.data());
         },
         bkn(6),
         {}},
        {"tangent_step_backward_with_time_constants",
         [](Arrays& a) {
             a.backend.tangent_step_backward(model, JacobianReset::detached, a.neurons(), a.basis(), a.state(),
                                             a.q.data(), nullptr, a.back.data(), a.p.data(), a.x.data(),
                                             a.time_constants());
         },
         bkn(9),
         {}},
        {"gram", [](Arrays& a) { a.backend.gram(a.basis(), a.q.data(), a.q.data(), a.gram.data()); }, bkn(2),
         gram_flops},
        {"cholesky_after_gram",
         [](Arrays& a) {
             a.backend.gram(a.basis(), a.q.data(), a.q.data(), a.gram.data());
             a.backend.cholesky(a.b, a.k, {1, 0, true}, a.gram.data(), a.c.data(), a.log_r.data(),
                                {a.info.data(), a.squares.data()});
         },
         bkk(2), gram_flops},
        {"divide_by_r", [](Arrays& a) { a.backend.divide_by_r(a.b, a.k, a.D, a.r.data(), a.p.data()); }, bkn(4),
         gram_flops},
        {"householder",
         [](Arrays& a) {
             a.backend.householder(a.b, a.k, a.D, a.p.data(), a.gram.data(), a.log_r.data(), a.info.data());
         },
         bkn(4), gram_flops},
        {"qr_backward",
         [](Arrays& a) {
             a.backend.qr_backward(a.b, a.k, a.D, a.q.data(), a.r.data(), a.weight.data(), a.c.data(), a.p.data());
         },
         bkn(6), gram_flops},
        {"update_adam",
         [](Arrays& a) {
             const UpdateView all{a.n, a.n, a.n, a.w.data(), a.m.data(), a.v.data(), a.w.data()};
             a.backend.update(Adam{1e-6f, 0.9f, 0.999f, 1e-8f, 0.0f, 5}, 1.0f, {&all, 1});
         },
         nn(6),
         {}},
        {"update_sgd",
         [](Arrays& a) {
             const UpdateView all{a.n, a.n, a.n, a.w.data(), a.m.data(), nullptr, a.v.data()};
             a.backend.update(Sgd{1e-6f, 0.9f}, 1.0f, {&all, 1});
         },
         nn(5),
         {}},
        {"update_fraction",
         [](Arrays& a) {
             const UpdateView all{1, a.n, a.n, a.beta.data(), nullptr, nullptr, a.alpha.data(), Constraint::fraction};
             a.backend.update(Sgd{1e-6f, 0.0f}, 1.0f, {&all, 1});
         },
         [](const Arrays& a) { return 3.0 * double(a.n); },
         {}},
    };
}

void time_operation(benchmark::State& state, const Operation& operation, const BackendCase& which, const Shape& shape) {
    const std::unique_ptr<Backend> backend = which.make();
    Arrays arrays(*backend, shape);
    operation.run(arrays);
    if (!arrays.taken) return state.SkipWithError("left to the loop over step operations");
    for (auto _ : state) {
        operation.run(arrays);
        backend->synchronize();
    }
    const auto iterations = static_cast<double>(state.iterations());
    state.SetBytesProcessed(static_cast<std::int64_t>(4.0 * operation.floats(arrays) * iterations));
    if (operation.flops)
        state.counters["flops"] = benchmark::Counter(operation.flops(arrays) * iterations, benchmark::Counter::kIsRate);
}

}  // namespace
}  // namespace spikefloss

int main(int argc, char** argv) {
    using namespace spikefloss;
    for (const Operation& operation : operations())
        for (const BackendCase& backend : testing_support::available_backends()) {
            if (!backend.missing.empty()) continue;
            for (const Shape& shape : testing_support::working_shapes())
                benchmark::RegisterBenchmark(
                    fmt::format("{}/{}/b{}_k{}_n{}", operation.name, backend.name, shape.b, shape.k, shape.n).c_str(),
                    [=](benchmark::State& state) { time_operation(state, operation, backend, shape); })
                    ->UseRealTime();
        }
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
