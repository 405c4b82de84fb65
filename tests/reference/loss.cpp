// The two losses of dynamics.hpp with their gradients, written so that large logits do not overflow.
#include "reference/dynamics.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace spikefloss::reference {

namespace {

// The number of steps that count, and the number of outputs of readout [T, B, O].
Index masked_steps(const Sequences& seq) {
    if (static_cast<Index>(seq.mask.size()) != seq.steps) throw std::invalid_argument("loss: mask is not [T]");
    Index count = 0;
    for (double value : seq.mask) {
        if (value != 0.0 && value != 1.0) throw std::invalid_argument("loss: mask is neither 0 nor 1");
        count += value == 1.0;
    }
    if (count == 0) throw std::invalid_argument("loss: no step has mask 1");
    return count;
}

}  // namespace

Loss binary_cross_entropy(const Sequences& seq, const std::vector<double>& readout) {
    const Index T = seq.steps, per_step = static_cast<Index>(readout.size()) / T;  // B O
    if (seq.target.size() != readout.size()) throw std::invalid_argument("loss: target is not [T, B, O]");
    Loss loss;
    loss.terms = masked_steps(seq) * per_step;
    loss.gradient.assign(readout.size(), 0.0);
    const double terms = static_cast<double>(loss.terms);
    for (Index t = 0; t < T; ++t) {
        if (seq.mask[t] == 0.0) continue;
        for (Index j = t * per_step; j < (t + 1) * per_step; ++j) {
            const double y = readout[j], c = seq.target[j];
            // -c ln p - (1-c) ln (1-p) with p = 1/(1+exp(-y)), written so that exp cannot overflow.
            loss.value += (std::max(y, 0.0) - c * y + std::log1p(std::exp(-std::abs(y)))) / terms;
            const double p = y >= 0.0 ? 1.0 / (1.0 + std::exp(-y)) : std::exp(y) / (1.0 + std::exp(y));
            loss.gradient[j] = (p - c) / terms;
            loss.accuracy += ((y > 0.0) == (c > 0.5) ? 1.0 : 0.0) / terms;
        }
    }
    return loss;
}

Loss softmax_cross_entropy(const Sequences& seq, const std::vector<double>& readout) {
    const Index T = seq.steps, B = seq.batch, O = static_cast<Index>(readout.size()) / (T * B);
    if (static_cast<Index>(seq.label.size()) != B) throw std::invalid_argument("loss: label is not [B]");
    const double counted = static_cast<double>(masked_steps(seq)), sequences = static_cast<double>(B);
    Loss loss;
    loss.terms = B;
    loss.gradient.assign(readout.size(), 0.0);
    for (Index b = 0; b < B; ++b) {
        std::vector<double> logit(O, 0.0);
        for (Index t = 0; t < T; ++t)
            for (Index o = 0; o < O; ++o) logit[o] += seq.mask[t] * readout[(t * B + b) * O + o] / counted;
        Index largest = 0;
        for (Index o = 1; o < O; ++o)
            if (logit[o] > logit[largest]) largest = o;
        double total = 0.0;
        for (Index o = 0; o < O; ++o) total += std::exp(logit[o] - logit[largest]);
        const Index label = seq.label[b];
        if (label < 0 || label >= O) throw std::invalid_argument("loss: label out of range");
        loss.value += (std::log(total) + logit[largest] - logit[label]) / sequences;
        loss.accuracy += (largest == label ? 1.0 : 0.0) / sequences;
        for (Index t = 0; t < T; ++t)
            for (Index o = 0; o < O; ++o) {
                const double p = std::exp(logit[o] - logit[largest]) / total;
                loss.gradient[(t * B + b) * O + o] = (p - (o == label ? 1.0 : 0.0)) / sequences * seq.mask[t] / counted;
            }
    }
    return loss;
}

Loss task_loss(const Sequences& seq, const std::vector<double>& readout) {
    if (seq.target.empty() == seq.label.empty())
        throw std::invalid_argument("loss: the sequences need either a target or labels");
    return seq.label.empty() ? binary_cross_entropy(seq, readout) : softmax_cross_entropy(seq, readout);
}

}  // namespace spikefloss::reference
