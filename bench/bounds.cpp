// Lower bounds of each workload for any program: bytes moved, products, and waiting. Step t + 1 needs the spikes of
// step t from all neurons. So W_rec is either kept on chip or read again in every step.
#include "workload.hpp"

#include <algorithm>
#include <cmath>

namespace spikefloss::bench {
namespace {

double over(double amount, double rate) { return rate > 0.0 ? amount / rate : 0.0; }

// The unit that holds W_rec: a block, a cluster, all multiprocessors, or nothing on chip. Its cost is that of a barrier
// of the unit (0: unknown). Off chip, the next step is its own kernel.
struct Home {
    bool on_chip;
    double meeting;
};
Home home_of(double w_bytes, const Limits& limits) {
    if (w_bytes <= limits.on_chip_block) return {true, limits.block_barrier};
    if (limits.cluster_barrier > 0.0 && w_bytes <= 8.0 * limits.on_chip_block) return {true, limits.cluster_barrier};
    if (w_bytes <= limits.multiprocessors * limits.on_chip_block) return {true, limits.grid_barrier};
    return {false, limits.graph_node_time};
}

// For a CPU. Caches hold a dense W_rec; products with spikes cost only the additions for the spikes; only the membranes
// and spikes of the state leave the caches. A flossing step multiplies k dense columns of each sequence. A synapse of a
// sparse W_rec counts 8 bytes, its weight and its source (the program stores the source in 2 bytes up to 65 536
// neurons). A product reads all of them in every step, or those of the spikes; the entries of its gradient are read and
// written once.
Bounds host_bounds(const Workload& workload, double rate, const Limits& limits) {
    const auto N = static_cast<double>(workload.N), BT = static_cast<double>(workload.B * workload.T),
               k = static_cast<double>(workload.k), M = static_cast<double>(workload.M),
               O = static_cast<double>(workload.O);
    const double synapses = N * (workload.sparse() ? static_cast<double>(workload.degree) : N);
    const double recurrent = 2.0 * BT * synapses, input = 2.0 * BT * N * M, readout = 2.0 * BT * N * O;
    const double input_rate = std::min(workload.input_rate, 1.0);
    Bounds bounds;
    bounds.bytes = 4.0 * BT * (2.0 * N + 2.0 * M + 2.0 * O) + 2.0 * 4.0 * 2.0 * (synapses + N * (M + O)) + BT * N / 4.0;
    if (workload.sparse()) {
        const auto T = static_cast<double>(workload.T), B = static_cast<double>(workload.B);
        bounds.bytes += 8.0 * synapses * T * (1.0 + std::min(1.0, rate * B));
        if (workload.flossing()) bounds.bytes += 2.0 * 8.0 * synapses * T;
    }
    // W s, W' g, dW = g s'; W_in x, dW_in; y, W_out' dy, dW_out.
    bounds.operations = (2.0 * rate + 1.0) * recurrent + 2.0 * input_rate * input;
    if (workload.flossing()) {
        // Forwards a product with W, half a Gram matrix in double, which takes twice as long, and Q = P / R, a
        // triangular product; backwards two products with W, half a Gram matrix, Q C, and a division by R. D = 2N.
        const double triangular = BT * 2.0 * N * k * k;
        bounds.operations += 3.0 * k * recurrent + (2.0 + 1.0 + 1.0 + 2.0 + 1.0) * triangular;
        bounds.bytes += 4.0 * 2.0 * BT * 2.0 * N * k;
    } else {
        bounds.operations += 3.0 * readout;
    }
    bounds.products = over(bounds.operations, limits.fp32_rate);
    bounds.memory = over(bounds.bytes, limits.copy_rate);
    return bounds;
}

}  // namespace

std::string Bounds::name() const {
    if (least() <= 0.0) return "unknown";
    return least() == memory ? "memory" : least() == products ? "products" : "steps x latency";
}

Bounds bounds_of(const Workload& workload, double rate, const Limits& limits) {
    if (limits.on_chip_block <= 0.0) return host_bounds(workload, rate, limits);
    const auto N = static_cast<double>(workload.N), B = static_cast<double>(workload.B),
               T = static_cast<double>(workload.T), k = static_cast<double>(workload.k),
               M = static_cast<double>(workload.M);
    const double w_bytes = 4.0 * N * N, tape = T * B * N, product = 2.0 * B * N * N * T;
    const Home home = home_of(w_bytes, limits);
    const double exact_bf16 = limits.bf16_rate / 3.0;  // a float product in three bfloat16 parts
    const double fastest = std::max(limits.fp32_rate, exact_bf16);
    Bounds bounds;
    // State, forwards and backwards: W_in x written and read; u written, read backwards; the readout's part written and
    // read, or e; g written, read by three sums. Forwards on chip only the rows of spikes are added.
    bounds.bytes = 4.0 * 10.0 * tape + (home.on_chip ? 2.0 : 2.0 * T) * w_bytes;
    bounds.operations = (home.on_chip ? rate : 1.0) * product + 2.0 * product + 2.0 * 2.0 * B * M * N * T;
    bounds.products = over((home.on_chip ? rate * product : 0.0), limits.fp32_rate) +
                      over((home.on_chip ? 0.0 : product) + product, fastest) +   // W s off chip; dW = g s'
                      over(product, home.on_chip ? limits.fp32_rate : fastest) +  // W' g
                      over(2.0 * 2.0 * B * M * N * T, limits.fp32_rate);          // W_in x, g x'
    bounds.latency = 2.0 * T * home.meeting;
    if (workload.flossing()) {
        // k more sequences, dense in both directions, both parts of the bases kept; Gram matrices in double forwards
        // and backwards, two triangular products forwards and three backwards in float, D = 2N rows.
        const double rows = B * k, dense = 2.0 * rows * N * N * T, gram = 2.0 * B * 2.0 * N * k * k * T;
        bounds.bytes += 4.0 * 3.0 * 2.0 * T * rows * N + (home.on_chip ? 0.0 : 2.0 * T * w_bytes);
        bounds.operations += 3.0 * dense + 3.5 * gram;
        bounds.products +=
            over(3.0 * dense, fastest) + over(2.0 * gram, limits.fp64_rate) + over(1.5 * gram, limits.fp32_rate);
        // The columns of a QR. Each needs the one before.
        bounds.latency += 2.0 * T * home.meeting + 2.0 * T * k * limits.block_barrier;
    }
    bounds.memory = over(bounds.bytes, limits.copy_rate);
    return bounds;
}

}  // namespace spikefloss::bench
