// The surrogate Lyapunov spectrum of a network and the quantities derived from it.
#pragma once

#include "lyapunov/tangent_pass.hpp"

#include <string>
#include <vector>

namespace spikefloss {

struct Spectrum {
    std::vector<double> exponents;     // lambda [k], 1/step, the mean over all sequences of all ranks
    std::vector<double> per_sequence;  // [b, k], this rank's sequences
    Index sequences = 0;               // B, of all ranks
    Index state_size = 0;              // D
};

// The mean over all `sequences` sequences of the exponents that `tangents` found. Collective.
Spectrum mean_spectrum(const ProcessGrid& grid, const TangentPass& tangents, Index sequences, Index state_size);

// Which exponents are -infinite and why, in one sentence; "" if none is.
std::string lost_text(const std::vector<double>& exponents);

// Kaplan-Yorke dimension j + sum_{i<=j} lambda_i / |lambda_{j+1}|, j the largest with a non-negative sum; 0 when all
// exponents are negative. When the sum of all k given exponents is not negative, k is a lower bound (is_bound), unless
// k = D.
struct KaplanYorke {
    double dimension;
    bool is_bound;
};
KaplanYorke kaplan_yorke(const Spectrum& spectrum);

// Sum of the positive exponents, in 1/step (of those measured).
double entropy_rate(const Spectrum& spectrum);

// log10 of the condition number exp((lambda_1 - lambda_k) T) of the long-term Jacobian over T steps.
double log10_condition_number(const Spectrum& spectrum, Index T);

}  // namespace spikefloss
