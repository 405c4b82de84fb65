// The network and its inputs in the reference: plain structs of doubles.
//
// tests/reference is an independent implementation of all equations: serial, double precision, one loop per index, and
// no header shared with src/, so that a wrong shared equation cannot hide. Everything else is compared with it.
// Arrays are row-major with the last index contiguous. Misuse throws std::invalid_argument.
#pragma once

#include <array>
#include <cstdint>
#include <ostream>
#include <vector>

namespace spikefloss::reference {

using Index = std::int64_t;

enum class Reset { zero, subtract, none };
enum class Surrogate { fast_sigmoid, arctan, sigmoid, gaussian, triangle, exponential };
enum class Adaptation { none, threshold, current };
enum class Readout { membrane, spikes };
enum class LossKind {
    binary_cross_entropy,
    mean_squared_error,
    cross_entropy_mean,
    cross_entropy_max,
    cross_entropy_sum,
    cross_entropy_last
};

inline constexpr std::array all_resets = {Reset::zero, Reset::subtract, Reset::none};
// What a spike does to the membrane, and after how many steps. The tests of backends have the Reset of the program.
template <class Kind>
struct ResetRuleOf {
    Kind reset;
    int delay;
    friend std::ostream& operator<<(std::ostream& out, const ResetRuleOf& rule) {
        return out << "reset " << static_cast<int>(rule.reset) << " after " << rule.delay;
    }
};
template <class Kind>
inline constexpr std::array<ResetRuleOf<Kind>, 6> reset_rules_of = {
    {{Kind::zero, 1}, {Kind::subtract, 1}, {Kind::none, 1}, {Kind::zero, 0}, {Kind::subtract, 0}, {Kind::none, 0}}};
using ResetRule = ResetRuleOf<Reset>;
inline constexpr auto& all_reset_rules = reset_rules_of<Reset>;
inline constexpr std::array all_surrogates = {Surrogate::fast_sigmoid, Surrogate::arctan,   Surrogate::sigmoid,
                                              Surrogate::gaussian,     Surrogate::triangle, Surrogate::exponential};
inline constexpr std::array all_adaptations = {Adaptation::none, Adaptation::threshold, Adaptation::current};
inline constexpr std::array all_readouts = {Readout::membrane, Readout::spikes};
inline constexpr std::array all_losses = {LossKind::binary_cross_entropy, LossKind::mean_squared_error,
                                          LossKind::cross_entropy_mean,   LossKind::cross_entropy_max,
                                          LossKind::cross_entropy_sum,    LossKind::cross_entropy_last};
// The others are means over the elements of targets.
inline bool takes_labels(LossKind loss) { return loss >= LossKind::cross_entropy_mean; }

// Their names in files.
const char* name_of(Reset reset);
const char* name_of(Surrogate surrogate);
const char* name_of(Adaptation adaptation);
const char* name_of(Readout readout);
const char* name_of(LossKind loss);

// Everything that can be trained, or a gradient with respect to it.
struct Parameters {
    std::vector<double> w_in;              // [N, M]
    std::vector<double> w_rec;             // [N, N]
    std::vector<double> bias;              // [N]
    std::vector<double> w_out;             // [O, N]
    std::vector<double> bias_out;          // [O]
    std::vector<double> alpha;             // [N] decay of the current per step
    std::vector<double> beta;              // [N] decay of the membrane per step
    std::vector<double> kappa;             // [O] decay of the readout per step
    std::vector<double> initial_current;   // [N] i[0]; empty means 0
    std::vector<double> initial_membrane;  // [N] u[0]; empty means 0
    std::vector<double> thresholds;        // [N] theta of each neuron; empty means Network::threshold
    // With adaptation, else empty:
    std::vector<double> rho;                 // [N] decay of the adaptation per step
    std::vector<double> adapt_membrane;      // [N] a_u
    std::vector<double> adapt_spike;         // [N] a_s
    std::vector<double> initial_adaptation;  // [N] w[0]; empty means 0
};

// The parameters by name, for loops over all of them.
struct NamedParameter {
    const char* name;
    std::vector<double> Parameters::*values;
};
inline constexpr std::array<NamedParameter, 10> all_parameters = {{
    {"w_in", &Parameters::w_in},
    {"w_rec", &Parameters::w_rec},
    {"bias", &Parameters::bias},
    {"w_out", &Parameters::w_out},
    {"bias_out", &Parameters::bias_out},
    {"alpha", &Parameters::alpha},
    {"beta", &Parameters::beta},
    {"kappa", &Parameters::kappa},
    {"initial_current", &Parameters::initial_current},
    {"initial_membrane", &Parameters::initial_membrane},
}};

// Those of neurons with own thresholds or adaptation.
inline constexpr std::array<NamedParameter, 5> adaptation_parameters = {{
    {"threshold", &Parameters::thresholds},
    {"rho", &Parameters::rho},
    {"adapt_membrane", &Parameters::adapt_membrane},
    {"adapt_spike", &Parameters::adapt_spike},
    {"initial_adaptation", &Parameters::initial_adaptation},
}};

struct Network : Parameters {
    Index neurons = 0, inputs = 0, outputs = 0;  // N, M, O
    double threshold = 1.0;                      // theta, unless neurons have their own
    Reset reset = Reset::zero;
    int reset_delay = 1;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    double sharpness = 5.0;  // g
    Readout readout = Readout::membrane;
    Adaptation adaptation = Adaptation::none;
    Index refractory = 0;  // steps after a spike in which a neuron cannot spike

    bool adapts() const { return adaptation != Adaptation::none; }
    double theta(Index n) const { return thresholds.empty() ? threshold : thresholds[n]; }
    // False if every alpha is 0: then the state is only the membranes.
    bool has_current() const;
    Index state_size() const { return neurons * (1 + has_current() + adapts()); }  // D
};

// Throws unless every array has the size in its comment.
void check_shapes(const Network& net);

// A gradient of zeros, with every parameter of net (always with the initial state, also if net has none).
Parameters zero_gradient(const Network& net);
// a + factor b.
Parameters sum(const Parameters& a, const Parameters& b, double factor = 1.0);

struct Sequences {
    Index steps = 0, batch = 0;  // T, B
    std::vector<double> x;       // [T, B, M]
    std::vector<double> mask;    // [T, B], 1 where the readout counts
    std::vector<double> target;  // [T, B, O], of 0 and 1 for the binary cross-entropy; or
    std::vector<int> label;      // [B], for a loss that takes labels
    LossKind loss = LossKind::binary_cross_entropy;
    std::vector<double> q0;  // [B, D, k] starting bases; may be empty
    Index exponents = 0;     // k of q0
};

}  // namespace spikefloss::reference
