// The workloads of bench_gpu and bench_cpu: training steps and flossing steps of given sizes, on random networks. The
// bias is chosen so that the neurons fire at a given rate. Each has a lower bound of its time on a machine.
//
// A training step is the forward pass, the backward pass and all gradients (dW_in, dW_rec, db, dW_out, db_out) of the
// loss sum(dy * y) with a given dy. A flossing step is FlossingPass::run: trajectory, spectrum of k exponents, and the
// gradient of mean_j lambda_j^2 directly and through the trajectory. Neither has an optimiser.
#pragma once

#include "device.hpp"

#include "lyapunov/flossing_pass.hpp"

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>

namespace spikefloss::bench {

struct Workload {
    std::string name;
    Index N, B, T;
    Index k = 0;  // exponents; 0: a training step
    std::string goal;
    Index M = 100, O = 10;
    double input_rate = 0.05;  // the input is spikes of this probability; 1: normal numbers
    bool binary = false;       // binary units: no memory, no reset
    Index degree = 0;          // synapses of a neuron, a fifth of them inhibitory; 0: all neurons, in one dense matrix
    bool adaptive = false;     // spikes raise the threshold
    double rate = 0.075;       // of spikes per step, within 14 %
    bool flossing() const { return k > 0; }
    bool sparse() const { return degree > 0; }
};

// The rows of the tables; `quick`: small ones, to try the programs out. Those of bench_gpu are sorted by time.
std::vector<Workload> gpu_workloads(bool quick);
std::vector<Workload> cpu_workloads(bool quick);
// The row of gpu_workloads with this name, or a workload of the sizes in the name: train_N_B_T, floss_N_k_T_B, or
// sparse_N_degree_B_T with _kK at its end for flossing.
// Throws Error(Exit::usage) for another name.
Workload workload_named(const std::string& name);

// One workload in backend memory, ready to run. On several ranks, each has its sequences and all neurons (training
// only).
class Case {
public:
    Case(Backend& backend, const ProcessGrid& grid, const Workload& workload);

    // Chooses the bias; returns the spike probability per neuron and step.
    double tune();
    void step();     // zeroes the gradient, queues one step and sums the gradient over the ranks
    void forward();  // only the network's forward pass
    // Writes the data that a peer needs to do the same and to compare: meta.json, and arrays as raw little-endian
    // numbers: w_in [N,M], w_rec [N,N] (post, pre), bias [N], w_out [O,N], x [T,B,M], dy [T,B,O] or q0 [B,k,D], our
    // spikes [T+1,B,words] (uint32, neuron 0 in the lowest bit), lambda [k] (float64) and the gradients d_<parameter>.
    // Of a sparse W_rec: w_rec [synapses] by row, and indices [N,degree] (int32) of their sources.
    void write(const std::filesystem::path& folder);

    const Network& network() const { return network_; }
    const StatePasses& passes() { return state().passes(); }

private:
    StatePass& state() { return floss_ ? floss_->state() : *state_; }
    void set_bias(float value);
    // The numbers of one parameter as `write` gives them, of this layout.
    std::vector<float> numbers_of(Parameter parameter, const std::vector<float>& all) const;

    Backend& backend_;
    const ProcessGrid& grid_;
    Workload workload_;
    std::vector<float> host_x_, host_dy_, host_q0_;
    Network network_;
    Buffer<float> x_, dy_;
    std::optional<StatePass> state_;
    std::optional<FlossingPass> floss_;
    SumBuffer gradient_;
    std::vector<double> exponents_;
};

// Lower bounds of the time of a workload on a machine with these limits: memory traffic, products, and waiting.
struct Bounds {
    double memory = 0.0, products = 0.0, latency = 0.0;  // seconds; 0: unknown
    double bytes = 0.0, operations = 0.0;
    double least() const { return std::max({memory, products, latency}); }
    std::string name() const;
};
Bounds bounds_of(const Workload& workload, double rate, const Limits& limits);

}  // namespace spikefloss::bench
