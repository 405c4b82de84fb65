// The state pass in segments against the full tape, on every grid: the same loss, readout, spikes and gradients with
// far less memory. Bit for bit if both divide time into the same chunks, else within rounding.
#include "backend/instruction_sets.hpp"
#include "support/near.hpp"
#include "support/run_network.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace spikefloss {
namespace {

using namespace testing_support;

// The results of the pass on this rank.
struct PassRun {
    std::vector<float> readout, again;  // again: of a second forward pass, after the backward pass
    std::vector<unsigned char> spikes;
    std::vector<float> gradient;
    std::vector<double> state_gradient_norm;
    double rate = 0.0;
    bool finite = false;
    Index segment = 0;
    std::size_t bytes = 0;
};

struct Choice {
    TapeKind tape = TapeKind::full;
    Sums sums = Sums::float32;
    bool time_constants = false, whole_passes = true;
    double limit = 0.0;  // of the adjoint
};

PassRun run_pass(const ProcessGrid& grid, const reference::Network& net, const reference::Sequences& seq,
                 const Choice& choice) {
    const std::unique_ptr<Backend> made = make_cpu_backend(1, choice.sums);
    Backend& backend = *made;
    const Network network(backend, grid, host_network(net, grid));
    const BlockRange mine = grid.sequences_of(seq.batch);
    const Batch batch = host_batch(net, seq, mine);
    StatePass state(
        backend, grid, network, seq.steps, mine.size(),
        {.time_constants = choice.time_constants, .tape = choice.tape, .whole_passes = choice.whole_passes});
    LossPass loss(backend, grid, seq.steps, mine.size(), net.inputs, net.outputs, batch.loss);
    loss.load(batch);
    SumBuffer gradient(backend, network.layout.size());
    // An extra adjoint of every membrane, as in flossing.
    std::vector<float> e(static_cast<std::size_t>((seq.steps + 1) * mine.size() * network.n()));
    for (std::size_t j = 0; j < e.size(); ++j) e[j] = 1e-3f * std::sin(static_cast<float>(j));
    const Buffer<float> extra(backend, e);

    PassRun run;
    state.forward(network, loss.x());
    loss.evaluate(state.tape().readout.data());
    run.readout = state.tape().readout.to_host();
    std::vector<Index> neurons(static_cast<std::size_t>(net.neurons));
    std::iota(neurons.begin(), neurons.end(), Index{0});
    run.spikes = state.tape().spikes.raster({0, mine.size()}, neurons);
    run.rate = state.tape().spikes.rate();
    state.backward(network, loss.x(),
                   {.dy = loss.dy(),
                    .extra = extra.data(),
                    .adjoint_limit = static_cast<float>(choice.limit),
                    .state_norms = true},
                   gradient);
    Buffer<float> rounded(backend, gradient.size());
    backend.round_sums(gradient.data(), rounded.data(), rounded.size());
    run.gradient = rounded.to_host();
    run.state_gradient_norm = state.state_gradient_norm();
    run.finite = state.finite();
    state.forward(network, loss.x());
    run.again = state.tape().readout.to_host();
    run.segment = state.segment_steps();
    run.bytes = state.bytes();
    return run;
}

void expect_equal(const PassRun& run, const PassRun& full) {
    EXPECT_TRUE(all_equal(run.readout, full.readout));
    EXPECT_TRUE(all_equal(run.gradient, full.gradient));
    EXPECT_TRUE(all_equal(run.state_gradient_norm, full.state_gradient_norm));
}

void expect_near(const PassRun& run, const PassRun& full) {
    EXPECT_TRUE(all_near(run.readout, full.readout, 1e-6));
    EXPECT_TRUE(near_in_norm(run.gradient, full.gradient, 3e-6));
    EXPECT_TRUE(near_in_norm(run.state_gradient_norm, full.state_gradient_norm, 3e-6));
}

// Whether this rank does the work that needs no grid.
bool first_rank() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    return rank == 0;
}

// Segments and the full tape, in several ways of running them; `same_chunks`: on all ranks.
void expect_as_full(const ProcessGrid& grid, const Case& c, double limit, bool same_chunks) {
    for (Choice choice : {Choice{.sums = Sums::float32}, Choice{.sums = Sums::float64, .whole_passes = false},
                          Choice{.sums = Sums::float32, .time_constants = true}}) {
        SCOPED_TRACE(testing::Message() << "T " << c.seq.steps << (choice.time_constants ? ", time constants" : "")
                                        << (choice.whole_passes ? ", whole passes" : ", loop"));
        choice.limit = limit;
        const PassRun full = run_pass(grid, c.net, c.seq, choice);
        choice.tape = TapeKind::segments;
        const PassRun run = run_pass(grid, c.net, c.seq, choice);
        EXPECT_TRUE(all_equal(run.spikes, full.spikes));
        EXPECT_EQ(run.rate, full.rate);
        EXPECT_TRUE(run.finite && full.finite);
        EXPECT_TRUE(all_equal(run.again, run.readout));
        EXPECT_TRUE(all_equal(full.again, full.readout));
        if (same_chunks)
            expect_equal(run, full);
        else
            expect_near(run, full);
    }
}

// T below, at and above multiples of a segment; T = 1 is a single segment.
TEST(StatePassSegments, AreTheFullTapeOnEveryGrid) {
    for (const auto readout : reference::all_readouts)
        for (const Index steps : {1, 3, 16, 17}) {
            const Case c = clear_case({.neurons = 7,
                                       .inputs = 3,
                                       .outputs = 2,
                                       .steps = steps,
                                       .batch = 7,
                                       .readout = readout,
                                       .initial_state = true,
                                       .seed = static_cast<std::uint64_t>(100 * steps)});
            on_every_grid([&](const ProcessGrid& grid) { expect_as_full(grid, c, 0.0, steps == 1); });
        }
}

TEST(StatePassSegments, WithAnAdjointCapThatActs) {
    for (const auto readout : reference::all_readouts) {
        const Case c = clear_case({.neurons = 7, .steps = 14, .batch = 7, .readout = readout, .gain = 2.0, .seed = 77});
        const PassRun free = run_pass(alone(), c.net, c.seq, {});
        const double limit = *std::max_element(free.state_gradient_norm.begin(), free.state_gradient_norm.end()) / 5.0;
        const PassRun capped = run_pass(alone(), c.net, c.seq, {.limit = limit});
        EXPECT_GT(relative_error(capped.gradient, free.gradient), 1e-2);
        on_every_grid([&](const ProcessGrid& grid) { expect_as_full(grid, c, limit, false); });
    }
}

// So many sequences that a chunk has few steps in the full tape, too. Then every sum is the same sum. 4 steps per chunk
// and segment, the last of 1; and 4 per chunk, 8 per segment, the last of 4 + 2.
TEST(StatePassSegments, SameChunksGiveTheSameBits) {
    if (!first_rank()) return;
    for (const auto readout : reference::all_readouts)
        for (const Index steps : {13, 30}) {
            Case c = clear_case({.neurons = 5, .steps = steps, .batch = 3, .readout = readout, .seed = 500});
            c.seq = repeated(c.seq, make_cpu_backend(1, Sums::float32)->chunk_rows(5) / (4 * 3));
            expect_as_full(alone(), c, 0.01, true);
            EXPECT_EQ(run_pass(alone(), c.net, c.seq, {.tape = TapeKind::segments}).segment, steps == 13 ? 4 : 8);
        }
}

// Memory that grows with T: two arrays of floats in the full tape if time constants are trained; in segments only bits.
TEST(StatePassSegments, TakeLessMemory) {
    if (!first_rank()) return;
    const std::unique_ptr<Backend> made = make_cpu_backend(1, Sums::float32);
    Backend& backend = *made;
    constexpr Index N = 256, b = 2;
    const Network network(backend, alone(), HostNetwork{{}, ParameterLayout({N, 1, 1}, 1, 0), {}});
    const auto bytes = [&](Index T, bool keep_current, TapeKind kind) {
        return static_cast<double>(
            StatePass(backend, alone(), network, T, b, {.keep_current = keep_current, .tape = kind}).bytes());
    };
    for (const bool keep_current : {false, true}) {
        const double full = bytes(10000, keep_current, TapeKind::full);
        const double segments = bytes(10000, keep_current, TapeKind::segments);
        EXPECT_GE(full, (keep_current ? 2.0 : 1.0) * 10001 * b * N * 4);
        EXPECT_LT(segments, full / (keep_current ? 20.0 : 10.0));
        // In addition to bits (1 bit per neuron and step), readouts and norms: the 100 + 1 states of a segment, and 100
        // starts of two arrays, and an end.
        const double always = 10001 * b * (N / 8 + 3 * 4 + 8), states = (keep_current ? 403 : 303) * b * N * 4;
        EXPECT_LE(segments, always + states);
        // Four times the steps: twice the states, four times the bits.
        EXPECT_LE(bytes(40000, keep_current, TapeKind::segments), 4.0 * always + 2.0 * states);
    }
}

// One membrane or input that is not finite, before the first step or in the last segment. It is found although only the
// first segment is held after the backward pass, and with every reset.
TEST(StatePassSegments, FindWhatIsNotFinite) {
    if (!first_rank()) return;
    for (const auto& rule : reference::all_reset_rules) {
        const Case c = clear_case({.neurons = 3,
                                   .inputs = 1,
                                   .steps = 16,
                                   .reset = rule.reset,
                                   .reset_delay = rule.delay,
                                   .initial_state = true,
                                   .seed = 8});
        for (const double infinity :
             {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
            Case early = c, late = c;
            early.net.initial_membrane[1] = infinity;
            late.seq.x[14 * 2] = infinity;  // step 14 of sequence 0
            for (const TapeKind tape : {TapeKind::full, TapeKind::segments}) {
                EXPECT_TRUE(run_pass(alone(), c.net, c.seq, {.tape = tape}).finite);
                EXPECT_FALSE(run_pass(alone(), early.net, early.seq, {.tape = tape}).finite);
                EXPECT_FALSE(run_pass(alone(), late.net, late.seq, {.tape = tape}).finite);
            }
        }
    }
}

}  // namespace
}  // namespace spikefloss
