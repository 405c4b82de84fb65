// spikefloss as a library: networks from arrays or files, and the passes over them, in one process. Arrays are
// row-major; time comes first, weights are [post, pre]. Names and shapes are those of docs/files.md. N neurons, M
// inputs, O readouts, T steps, B sequences, k exponents; the state has D = 1 to 3 times N numbers.
//
// Nothing here prints, ends the process or starts MPI. Faults are spikefloss::Error (core/error.hpp): Exit::usage or
// bad_file for arguments, Exit::numerics for results that are not finite. Every function can be called from several
// threads at once, also with the same Network.
#pragma once

#include "core/error.hpp"

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace spikefloss::api {

using Index = std::int64_t;
using Shape = std::vector<Index>;

// An array of the caller, which must live through the call. Null: not given.
struct View {
    const float* values = nullptr;
    Shape shape = {};
};
struct Array {
    std::vector<float> values;
    Shape shape;
};
// By name: "w_in", "bias", ..., "projections/NAME".
using Arrays = std::map<std::string, Array>;

struct Population {
    std::string name;
    Index size = 0;
};

// A dense projection has the array "projections/NAME" [post, pre], a sparse one [nnz], the data of a CSR matrix with
// these indptr [post + 1] and indices [nnz], which rise within a row.
struct Projection {
    std::string name = "", from = "input", to = "";
    Index delay = 1;
    std::string sign = "any";
    bool sparse = false;
    std::vector<Index> indptr = {};
    std::vector<std::int32_t> indices = {};
};

// The attributes of /network. The words are those of docs/files.md.
struct Rules {
    double threshold = 1.0;  // of all neurons, unless there is an array "threshold" [N]
    std::string reset = "zero";
    int reset_delay = 1;
    std::string surrogate = "fast_sigmoid";
    double sharpness = 5.0;
    std::string readout = "membrane", adaptation = "none";
    Index refractory = 0;
    // Of a network of populations, which has no w_in and w_rec:
    std::vector<Population> populations = {};
    std::vector<Projection> projections = {};
    Index inputs = 0;
    std::string readout_from = "";  // a population; "": all neurons
};

struct Held;  // the network as the passes take it

// Never changes; copies share the numbers.
class Network {
public:
    // Copies the arrays. Those that docs/files.md calls optional may be missing.
    Network(const Rules& rules, const std::map<std::string, View>& arrays);
    explicit Network(std::shared_ptr<const Held> held) : held_(std::move(held)) {}

    Index neurons() const;
    Index inputs() const;
    Index outputs() const;
    Index state_size() const;  // D
    // All arrays that the network has.
    Arrays arrays() const;
    const Held& held() const { return *held_; }
    const std::shared_ptr<const Held>& shared() const { return held_; }

private:
    std::shared_ptr<const Held> held_;
};

// From a network file, a checkpoint or a NIR file as `spikefloss convert` takes them, and to a network file. They need
// HDF5, so they are in the library spikefloss_api_files.
Network read_network(const std::string& path);
void write_network(const Network& network, const std::string& path);

// How to compute. threads: 0: one for each core that this process may use. sums: "float64" as the commands, with which
// results do not depend on the order of sums; "float32" as training, which is faster.
//
// check: called on the thread of the caller in a long call, every 40 ms or after the step that then runs. What it
// throws ends the call; a Pass can run again. With float32 sums it is called between chunks of many steps: the threads
// then take their sequences through a chunk without waiting for each other, so they cannot stop at the same step.
struct Settings {
    int threads = 0;
    std::string sums = "float64";
    std::function<void()> check = {};
};

// ---- the network in time --------------------------------------------------------------------------------------------

struct PassOptions {
    bool currents = false;        // keep them
    bool constants = false;       // gradients of alpha, beta and the other constants of neurons, too
    bool input_gradient = false;  // dL/dx, too; of a network without populations
    bool readout = true;          // false: none is computed, and the adjoint has none
};

// What a loss adds to the adjoint, each may be missing.
struct Adjoint {
    View readout = {};   // dL/dy [T, B, O]
    View spikes = {};    // dL/ds [T, B, N], of steps 1 to T
    View membrane = {};  // dL/du [T, B, N], of steps 1 to T; of neurons without adaptation or thresholds of their own
};

struct Gradients {
    // NaN if there is none.
    double loss = std::numeric_limits<double>::quiet_NaN(), accuracy = loss;
    Arrays parameters;  // names and shapes of Network::arrays
    Array input;        // dL/dx [T, B, M], if it was asked for
    // |dL/d(state)| at steps 0 to T; empty without PassOptions::constants, and of `floss` with `direct`.
    std::vector<double> state_gradient_norm;
};

// One run of a network, whose backward pass can follow later. For one thread at a time.
class Pass {
public:
    Pass(const Network& network, Index T, Index B, const PassOptions& options = {}, const Settings& settings = {});
    ~Pass();
    Pass(const Pass&) = delete;
    Pass& operator=(const Pass&) = delete;

    // x [T, B, M] is not copied; it must live until the last backward pass. Error(Exit::numerics) if a membrane is not
    // finite.
    void forward(const View& x);
    std::vector<std::uint8_t> spikes() const;  // [T+1, B, N], from the initial state on
    Array membrane() const;                    // [T+1, B, N], before resets
    Array current() const;                     // [T+1, B, N], if they were kept
    Array readout() const;                     // [T, B, O]
    double rate() const;                       // spikes per neuron and step
    // Gradients of the loss with this adjoint, without a loss.
    Gradients backward(const Adjoint& adjoint);

private:
    friend Gradients gradients(const Network&, const View&, const struct Targets&, const PassOptions&, const Settings&);
    struct Parts;
    std::unique_ptr<Parts> parts_;
};

// What the readout is compared with: labels [B] or a target [T, B, O]. mask [T] or [T, B] of 0 and 1 marks the steps
// that count. loss: a word of docs/equations.md, or "auto".
struct Targets {
    std::vector<Index> label = {};
    View target = {}, mask = {};
    std::string loss = "auto";
};

// Loss, accuracy and gradients of the network on x [T, B, M].
Gradients gradients(const Network& network, const View& x, const Targets& targets, const PassOptions& options = {},
                    const Settings& settings = {});

// ---- surrogate Lyapunov exponents -----------------------------------------------------------------------------------

struct SpectrumOptions {
    Index exponents = 16;   // k
    Index warmup = 0;       // steps that do not count
    Index qr_interval = 0;  // steps from QR to QR; 0: chosen
    std::string jacobian_reset = "detached";
    View q0 = {};  // [B, D, k] orthonormal columns; missing: random ones of this seed
    std::uint64_t seed = 1;
};

struct Spectrum {
    std::vector<double> exponents;     // [k] per step, the mean over sequences; -infinity if lost
    std::vector<double> per_sequence;  // [B, k]
    std::vector<double> log_r;         // [QRs, B, k]
    std::vector<Index> qr_step;        // [QRs]
    double kaplan_yorke = 0.0, entropy_rate = 0.0, log10_condition_number = 0.0;
    bool kaplan_yorke_is_lower_bound = false;
    double rate = 0.0;  // spikes per neuron and step
};

Spectrum spectrum(const Network& network, const View& x, const SpectrumOptions& options, const Settings& settings = {});

struct FlossOptions {
    SpectrumOptions spectrum = {};
    std::vector<double> target = {0.0};  // per step; one, or one for each exponent that is not skipped
    double slack = 0.0;
    Index skipped = 0;      // the first exponents, which are only measured
    bool direct = false;    // without the gradient through the trajectory
    bool constants = true;  // gradients of alpha, beta and the other constants of neurons, too
};

struct Flossing {
    Gradients gradients;  // loss: the penalty
    std::vector<double> exponents, per_sequence;
};

// The flossing penalty mean_j (lambda_j - target_j)^2 and its gradients.
Flossing floss(const Network& network, const View& x, const FlossOptions& options, const Settings& settings = {});

}  // namespace spikefloss::api
