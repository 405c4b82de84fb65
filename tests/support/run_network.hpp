// Distributes the reference's global doubles to the ranks of a grid, runs the passes of the library, and collects
// global doubles on every rank. Tests of the passes compare these with the reference, or with one rank.
#pragma once

#include "lyapunov/flossing_pass.hpp"
#include "reference/reference.hpp"
#include "train/loss.hpp"

#include <functional>
#include <vector>

namespace spikefloss::testing_support {

// Every P x Q with P Q = ranks.
std::vector<GridShape> grid_shapes(int ranks);
// Calls work(grid) on every such grid over all ranks, one after another; failures name the grid.
void on_every_grid(const std::function<void(const ProcessGrid&)>& work);
// The grid of this process alone.
const ProcessGrid& alone();

// The part of `net` that this rank of `grid` holds.
HostNetwork host_network(const reference::Network& net, const ProcessGrid& grid);
// Sequences [begin, end) of seq in the form of the library.
Batch host_batch(const reference::Network& net, const reference::Sequences& seq, BlockRange sequences);
// seq.q0 [B, D, k] in the layout of TangentPass::forward, for these neurons and sequences.
std::vector<float> host_bases(const reference::Network& net, const reference::Sequences& seq, BlockRange neurons,
                              BlockRange sequences);
reference::Sequences repeated(const reference::Sequences& seq, reference::Index copies);  // [T, copies B, ...]

// [rows, b, n] of every rank, put together as [rows, B, N] on all ranks.
std::vector<double> gathered_state(const ProcessGrid& grid, const std::vector<double>& mine, Index rows, Index B,
                                   Index N);
// [rows, b, m], the same on all neuron shards, as [rows, B, m].
std::vector<double> gathered_sequences(const ProcessGrid& grid, const std::vector<double>& mine, Index rows, Index B,
                                       Index m);
// A parameter buffer (values or gradients) as global arrays; the replicated ones are taken from the last neuron shard.
reference::Parameters gathered_parameters(const ProcessGrid& grid, const ParameterLayout& layout,
                                          const std::vector<float>& values);

struct TaskRun {
    std::vector<double> current, membrane, spikes;  // [T+1, B, N], as in reference::Trajectory
    std::vector<double> readout;                    // [T, B, O]
    Outcome outcome;
    double rate = 0.0;
    reference::Parameters gradient;
    std::vector<double> state_gradient_norm;  // [T+1]
    std::string passes;                       // the names of the passes forwards and backwards
};
// The way in which a pass is run. The result must not depend on it.
struct Execution {
    Sums sums = Sums::float32;
    bool whole_passes = true;    // false: always the loop over step operations
    bool time_constants = true;  // also the gradients of alpha and beta; a whole backward pass runs only without them
    int threads = 1;
    bool bits = false;         // x, of 0 and 1, is given as bits, to a pass that takes them
    bool used_before = false;  // run_floss: the same pass has run with other weights
};
// Turns the inputs of a batch, all 0 or 1, into bits.
void use_bits(Batch& batch);
TaskRun run_task(const ProcessGrid& grid, Execution execution, const reference::Network& net,
                 const reference::Sequences& seq, double adjoint_limit = 0.0);
inline TaskRun run_task(const ProcessGrid& grid, Sums sums, const reference::Network& net,
                        const reference::Sequences& seq, double adjoint_limit = 0.0) {
    return run_task(grid, Execution{.sums = sums}, net, seq, adjoint_limit);
}

struct FlossRun {
    PenaltyValue penalty;
    std::vector<double> lambda_per_sequence;  // [B, k]
    std::vector<double> log_r;                // [QRs, B, k]
    std::vector<std::int64_t> qr_steps;       // [QRs]
    reference::Parameters gradient;
    std::vector<double> state_gradient_norm;  // [T+1], through the state only
};
struct FlossChoice {
    reference::SpectrumOptions spectrum = {};
    std::vector<double> target = {0.0};
    bool through_state = true;
    double weight = 1.0;
    double slack = 0.0;
};
// The number of exponents is that of seq.q0.
FlossRun run_floss(const ProcessGrid& grid, Execution execution, const reference::Network& net,
                   const reference::Sequences& seq, const FlossChoice& choice);
inline FlossRun run_floss(const ProcessGrid& grid, Sums sums, const reference::Network& net,
                          const reference::Sequences& seq, const FlossChoice& choice) {
    return run_floss(grid, Execution{.sums = sums}, net, seq, choice);
}

// ---- examples that float32 must reproduce ---------------------------------------------------------------------------
// The example with the first seed >= example.seed for which every membrane stays 2e-5 away from the threshold and from
// the kinks of the surrogate and, when spectrum is given, no QR shrinks a direction below e^-4.
struct Case {
    reference::Network net;
    reference::Sequences seq;
    reference::Trajectory trajectory;
};
Case clear_case(reference::Example example, const reference::SpectrumOptions* spectrum = nullptr);

// The gradient of every parameter within `tolerance` of its norm; only parameters with values in `expected`.
void expect_gradients_near(const reference::Parameters& actual, const reference::Parameters& expected,
                           double tolerance);
// The gradients that this execution gives. expect_gradients_near leaves the others out.
reference::Parameters given_by(const Execution& execution, reference::Parameters gradient);
void expect_gradients_equal(const reference::Parameters& actual, const reference::Parameters& expected);

}  // namespace spikefloss::testing_support
