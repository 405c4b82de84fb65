// The losses of dynamics.hpp with their gradients, written so that large logits do not overflow.
#include "reference/dynamics.hpp"

#include "reference/surrogate.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace spikefloss::reference {

namespace {

// The number of steps that count, of each sequence.
std::vector<double> masked_steps(const Sequences& seq) {
    if (static_cast<Index>(seq.mask.size()) != seq.steps * seq.batch)
        throw std::invalid_argument("loss: mask is not [T, B]");
    std::vector<double> count(seq.batch, 0.0);
    for (Index t = 0; t < seq.steps; ++t)
        for (Index b = 0; b < seq.batch; ++b) {
            const double value = seq.mask[t * seq.batch + b];
            if (value != 0.0 && value != 1.0) throw std::invalid_argument("loss: mask is neither 0 nor 1");
            count[b] += value;
        }
    return count;
}

Loss element_loss(const Sequences& seq, const std::vector<double>& readout) {
    const Index rows = seq.steps * seq.batch, O = static_cast<Index>(readout.size()) / rows;
    if (seq.target.size() != readout.size()) throw std::invalid_argument("loss: target is not [T, B, O]");
    Loss loss;
    for (double steps : masked_steps(seq)) loss.terms += static_cast<Index>(steps) * O;
    if (loss.terms == 0) throw std::invalid_argument("loss: no step has mask 1");
    loss.gradient.assign(readout.size(), 0.0);
    const double terms = static_cast<double>(loss.terms);
    for (Index row = 0; row < rows; ++row) {
        if (seq.mask[row] == 0.0) continue;
        for (Index j = row * O; j < (row + 1) * O; ++j) {
            const double y = readout[j], c = seq.target[j];
            if (seq.loss == LossKind::mean_squared_error) {
                loss.value += (y - c) * (y - c) / terms;
                loss.gradient[j] = 2.0 * (y - c) / terms;
                continue;
            }
            // -c ln p - (1-c) ln (1-p) with p = 1/(1+exp(-y)), written so that exp cannot overflow.
            loss.value += (std::max(y, 0.0) - c * y + std::log1p(std::exp(-std::abs(y)))) / terms;
            const double p = y >= 0.0 ? 1.0 / (1.0 + std::exp(-y)) : std::exp(y) / (1.0 + std::exp(y));
            loss.gradient[j] = (p - c) / terms;
            loss.accuracy += ((y > 0.0) == (c > 0.5) ? 1.0 : 0.0) / terms;
        }
    }
    return loss;
}

// share[t] = d(logit)/d(y[t]) for y[t] [T] of one sequence and output, of the logit of this kind.
std::vector<double> logit_shares(LossKind kind, const std::vector<double>& y, const std::vector<double>& mask) {
    std::vector<double> share(y.size(), 0.0);
    double steps = 0.0;
    for (double m : mask) steps += m;
    Index best = -1;
    for (Index t = 0; t < static_cast<Index>(y.size()); ++t) {
        if (mask[t] == 0.0) continue;
        if (kind == LossKind::cross_entropy_mean) share[t] = 1.0 / steps;
        if (kind == LossKind::cross_entropy_sum) share[t] = 1.0;
        if (best < 0 || kind == LossKind::cross_entropy_last || y[t] > y[best]) best = t;
    }
    if (kind == LossKind::cross_entropy_max || kind == LossKind::cross_entropy_last) share[best] = 1.0;
    return share;
}

Loss softmax_cross_entropy(const Sequences& seq, const std::vector<double>& readout) {
    const Index T = seq.steps, B = seq.batch, O = static_cast<Index>(readout.size()) / (T * B);
    if (static_cast<Index>(seq.label.size()) != B) throw std::invalid_argument("loss: label is not [B]");
    const std::vector<double> steps = masked_steps(seq);
    const double sequences = static_cast<double>(B);
    Loss loss;
    loss.terms = B;
    loss.gradient.assign(readout.size(), 0.0);
    for (Index b = 0; b < B; ++b) {
        if (steps[b] == 0.0) throw std::invalid_argument("loss: no step of a sequence has mask 1");
        std::vector<double> logit(O, 0.0);
        std::vector<std::vector<double>> shares;  // [O][T]
        for (Index o = 0; o < O; ++o) {
            std::vector<double> y(T), mask(T);
            for (Index t = 0; t < T; ++t) y[t] = readout[(t * B + b) * O + o], mask[t] = seq.mask[t * B + b];
            shares.push_back(logit_shares(seq.loss, y, mask));
            for (Index t = 0; t < T; ++t) logit[o] += shares[o][t] * y[t];
        }
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
                loss.gradient[(t * B + b) * O + o] = (p - (o == label ? 1.0 : 0.0)) / sequences * shares[o][t];
            }
    }
    return loss;
}

}  // namespace

Loss task_loss(const Sequences& seq, const std::vector<double>& readout) {
    return takes_labels(seq.loss) ? softmax_cross_entropy(seq, readout) : element_loss(seq, readout);
}

RatePenalty rate_penalty(const Network& net, const Sequences& seq, const Trajectory& trajectory,
                         const RateWeights& weights) {
    const Index T = seq.steps, B = seq.batch, N = net.neurons;
    RatePenalty penalty;
    penalty.extra.assign((T + 1) * B * N, 0.0);
    for (Index j = 0; j < N; ++j) {
        double spikes = 0.0;
        for (Index t = 1; t <= T; ++t)
            for (Index b = 0; b < B; ++b) spikes += trajectory.spikes[trajectory.row(t, b) + j];
        const double count = spikes / static_cast<double>(B), rate = count / static_cast<double>(T);
        penalty.rate.push_back(rate);
        double value = weights.l1 * count + weights.l2 * count * count;
        double slope = weights.l1 + 2.0 * weights.l2 * count;  // d(value)/d(count)
        if (rate < weights.lower) value += weights.bound * (weights.lower - rate), slope -= weights.bound / T;
        if (rate > weights.upper) value += weights.bound * (rate - weights.upper), slope += weights.bound / T;
        penalty.value += value / static_cast<double>(N);
        for (Index t = 1; t <= T; ++t)
            for (Index b = 0; b < B; ++b) {
                const Index at = trajectory.row(t, b) + j;
                penalty.extra[at] = trajectory.m[at] * psi(net.surrogate, trajectory.v[at], net.sharpness) * slope /
                                    static_cast<double>(B * N);
            }
    }
    return penalty;
}

}  // namespace spikefloss::reference
