// The basis of "bit for bit on every grid": element-wise operations give the same bits at every place of an
// array (vector body, remainder, another thread), and with Sums::float64 and dyadic values sums over blocks are
// exact.
#include "backend/operation_test.hpp"

#include "parallel/block_range.hpp"

#include <cstring>

namespace spikefloss::testing_support {
namespace {

class Rounding : public OperationTest {};
SPIKEFLOSS_ON_EVERY_BACKEND(Rounding);

// Columns [block] of a [rows, n] array.
Floats part(const Floats& whole, Index n, BlockRange block) {
    Floats values;
    for (std::size_t row = 0; row * n < whole.size(); ++row)
        values.insert(values.end(), whole.begin() + row * n + block.begin, whole.begin() + row * n + block.end);
    return values;
}

testing::AssertionResult same_bits(const Floats& a, const Floats& b) {
    if (a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0)
        return testing::AssertionSuccess();
    return testing::AssertionFailure() << "the bits differ: " << all_equal(a, b).message();
}

// W x = the sum over shards of W[:, block] x[block], and the rows of W x from a shard's rows of W.
TEST_P(Rounding, ProductsOverBlocksOfDyadicValues) {
    if (backend.sums() != Sums::float64) return;  // only these sums guarantee it
    const Index b = 3, n = 67;
    const Floats w = dyadic_floats(n * n, 1), x = dyadic_floats(b * n, 2);
    const Buffer<float> w_(backend, w), x_(backend, x);
    Buffer<float> whole(backend, b * n);
    backend.project({n, n, w_.data(), n}, {.values = x_.data(), .stride = n}, Matrix<float>(whole.data(), b, n), false);
    for (Index parts : {1, 2, 3, 6, 67, 80}) {
        SumBuffer sums(backend, b * n);
        Buffer<float> rounded(backend, b * n), by_rows(backend, b * n);
        for (const BlockRange block : block_ranges(n, parts)) {
            backend.project({n, block.size(), w_.data() + block.begin, n},
                            {.values = x_.data() + block.begin, .stride = n}, sums.matrix(b, n), true);
            backend.project({block.size(), n, w_.data() + block.begin * n, n}, {.values = x_.data(), .stride = n},
                            Matrix<float>(by_rows.data() + block.begin, b, block.size(), n), false);
        }
        backend.round_sums(sums.data(), rounded.data(), b * n);
        EXPECT_TRUE(same_bits(rounded.to_host(), whole.to_host())) << parts << " column blocks";
        EXPECT_TRUE(same_bits(by_rows.to_host(), whole.to_host())) << parts << " row blocks";
    }
}

constexpr Index b = 5, n = 67;

// The part of a [b, n] array (or of [b, k, n]) that a shard owns.
Floats shard(const Floats& whole, BlockRange sequences, BlockRange neurons) {
    const Index row = static_cast<Index>(whole.size()) / b;
    return part({whole.begin() + sequences.begin * row, whole.begin() + sequences.end * row}, n, neurons);
}

Neurons shard(const Neurons& net, BlockRange sequences, BlockRange neurons) {
    Neurons mine(net);
    for (Floats Neurons::*constant : {&Neurons::alpha, &Neurons::beta, &Neurons::bias, &Neurons::threshold,
                                      &Neurons::rho, &Neurons::adapt_membrane, &Neurons::adapt_spike})
        if (!(net.*constant).empty()) mine.*constant = part(net.*constant, n, neurons);
    mine.u = shard(net.u, sequences, neurons);
    if (net.adapts()) mine.w = shard(net.w, sequences, neurons);
    return mine;
}

// What neurons have in these tests: nothing, or their own thresholds and an adaptation.
constexpr Extras shard_extras[] = {{}, {Adaptation::threshold, true, 0}, {Adaptation::current, true, 0}};

// operation(sequences, neurons): the arrays that it computes for a shard. They are parts of those of the whole.
template <class Operation>
void expect_same_on_every_shard(Operation&& operation) {
    const auto whole = operation({0, b}, {0, n});
    for (Index neuron_parts : {1, 2, 3, 6, 13, 67})
        for (Index sequence_parts : {1, 2, 5})
            for (const BlockRange sequences : block_ranges(b, sequence_parts))
                for (const BlockRange neurons : block_ranges(n, neuron_parts)) {
                    SCOPED_TRACE(testing::Message() << "sequences from " << sequences.begin << " to " << sequences.end
                                                    << ", neurons from " << neurons.begin << " to " << neurons.end);
                    const auto mine = operation(sequences, neurons);
                    for (std::size_t array = 0; array < mine.size(); ++array)
                        EXPECT_TRUE(same_bits(mine[array], shard(whole[array], sequences, neurons)))
                            << "array " << array;
                    if (testing::Test::HasFailure()) return;
                }
}

TEST_P(Rounding, StateStepOfAnyShard) {
    for (const auto& rule : all_reset_rules)
        for (const Extras& extras : shard_extras) {
            SCOPED_TRACE(testing::Message() << "reset " << rule << ", " << extras);
            const Neurons net({.threshold = 0.7f, .reset = rule.reset, .reset_delay = rule.delay}, b, n, 1, extras);
            const Floats input = random_floats(b * n, 1), recurrent = random_floats(b * n, 2),
                         i = random_floats(b * n, 3);
            const auto step = [&](BlockRange sequences, BlockRange neurons) {
                const Neurons mine = shard(net, sequences, neurons);
                const Constants constants(backend, mine);
                const Buffer<float> input_(backend, shard(input, sequences, neurons)),
                    recurrent_(backend, shard(recurrent, sequences, neurons)),
                    i_(backend, shard(i, sequences, neurons));
                const Index count = i_.size(), adapting = net.adapts() ? count : 0;
                Buffer<float> i_next(backend, count), u_next(backend, count), w_next(backend, adapting);
                const NeuronState state = constants.state(i_.data());
                backend.neuron_step(mine.model, constants, sequences.size(), neurons.size(), input_.data(),
                                    recurrent_.data(), state, {i_next.data(), u_next.data(), w_next.data()});
                Buffer<float> di(backend, i_next.to_host()), du(backend, u_next.to_host()),
                    dw(backend, w_next.to_host()), g(backend, count), own(backend, adapting);
                backend.neuron_step_backward(mine.model, constants, sequences.size(), neurons.size(), state, {},
                                             {di.data(), du.data(), dw.data()}, g.data(), own.data(), {});
                std::vector<Floats> all = {i_next.to_host(), u_next.to_host(), di.to_host(), du.to_host(), g.to_host()};
                if (net.adapts())
                    for (const Buffer<float>* more : {&w_next, &dw, &own}) all.push_back(more->to_host());
                return all;
            };
            expect_same_on_every_shard(step);
        }
}

TEST_P(Rounding, SurrogatesOfAnyShard) {
    const Index k = 2;
    for (Surrogate surrogate : all_surrogates)
        for (const Extras& extras : shard_extras) {
            SCOPED_TRACE(testing::Message() << "surrogate " << int(surrogate) << ", " << extras);
            const Neurons net({.threshold = 0.7f, .surrogate = surrogate, .sharpness = 3.0f}, b, n, 1, extras);
            const Index parts = net.adapts() ? 2 : 1;
            const Floats back = random_floats(b * n, 1), q = random_floats(b * k * parts * n, 2),
                         k_back = random_floats(b * k * n, 3);
            const auto operations = [&](BlockRange sequences, BlockRange neurons) {
                const Neurons mine = shard(net, sequences, neurons);
                const Index rows = sequences.size(), columns = neurons.size();
                const Constants constants(backend, mine);
                const Buffer<float> back_(backend, shard(back, sequences, neurons)),
                    q_(backend, shard(q, sequences, neurons)), k_back_(backend, shard(k_back, sequences, neurons));
                Buffer<float> du(backend, rows * columns), x(backend, k_back_.size()), a(backend, q_.to_host()),
                    e(backend, rows * columns);
                const NeuronState state = constants.state();
                backend.add_adjoints(mine.model, constants, Readout::membrane, rows, columns, state, back_.data(),
                                     nullptr, nullptr, nullptr, {nullptr, du.data()}, {});
                const BasisShape shape{rows, k, columns, false, net.adapts()};
                backend.tangent_input(mine.model, constants, shape, state, q_.data(), x.data());
                backend.tangent_input_backward(mine.model, JacobianReset::detached, constants, shape, state, q_.data(),
                                               k_back_.data(), k_back_.data(), a.data(), e.data());
                return std::array{du.to_host(), x.to_host(), a.to_host(), e.to_host()};
            };
            expect_same_on_every_shard(operations);
        }
}

TEST_P(Rounding, TangentStepOfAnyShard) {
    const Index k = 3;
    for (const Extras& extras : shard_extras) {
        SCOPED_TRACE(testing::Message() << extras);
        const Neurons net({.threshold = 0.7f}, b, n, 1, extras);
        const Floats wx = random_floats(b * k * n, 3), x = random_floats(b * k * n, 4);
        const Floats basis = random_floats((net.adapts() ? 3 : 2) * b * k * n, 1);  // [b, k, parts, n]
        const auto step = [&](BlockRange sequences, BlockRange neurons) {
            const Neurons mine = shard(net, sequences, neurons);
            const Index rows = sequences.size(), columns = neurons.size();
            const Constants constants(backend, mine);
            const Buffer<float> wx_(backend, shard(wx, sequences, neurons)), x_(backend, shard(x, sequences, neurons));
            Buffer<float> q(backend, shard(basis, sequences, neurons)), g(backend, wx_.size());
            const BasisShape shape{rows, k, columns, true, net.adapts()};
            const NeuronState state = constants.state();
            backend.tangent_step(mine.model, JacobianReset::detached, constants, shape, state, x_.data(), wx_.data(),
                                 q.data(), q.data());
            const Floats p = q.to_host();
            backend.tangent_step_backward(mine.model, JacobianReset::detached, constants, shape, state, nullptr,
                                          nullptr, nullptr, q.data(), g.data(), {});
            return std::array{p, q.to_host(), g.to_host()};
        };
        expect_same_on_every_shard(step);
    }
}

// A rank updates only its own part of the parameters.
TEST_P(Rounding, OptimisersOfAnyPart) {
    const Index count = 67;
    const Floats gradient = random_floats(count, 1), m = random_floats(count, 2),
                 v = uniform_floats(count, 3, 0.0, 1.0), values = random_floats(count, 4);
    const auto update = [&](BlockRange block) {
        const Buffer<float> gradient_(backend, part(gradient, count, block));
        Buffer<float> m_(backend, part(m, count, block)), v_(backend, part(v, count, block)),
            values_(backend, part(values, count, block));
        UpdateView all{1, block.size(), block.size(), gradient_.data(), m_.data(), v_.data(), values_.data()};
        backend.update(Adam{1e-3f, 0.9f, 0.999f, 1e-8f, 0.01f, 3}, 0.3f, {&all, 1});
        backend.update(Sgd{0.1f, 0.9f}, 0.7f, {&all, 1});
        all.constraint = Constraint::fraction;
        backend.update(Sgd{0.1f, 0.9f}, 0.7f, {&all, 1});
        return values_.to_host();
    };
    const Floats whole = update({0, count});
    for (Index parts : {2, 3, 13})
        for (const BlockRange block : block_ranges(count, parts))
            EXPECT_TRUE(same_bits(update(block), part(whole, count, block))) << parts << " parts";
}

}  // namespace
}  // namespace spikefloss::testing_support
