// Random examples from a generator whose output the language standard fixes.
#include "reference/examples.hpp"

#include "reference/lyapunov.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

namespace spikefloss::reference {

namespace {

// std::mt19937_64 is fixed by the standard. Its distributions are not, so they are written out here.
class Draw {
public:
    explicit Draw(std::uint64_t seed) : engine_(seed) {}
    // Uniform in (low, high).
    double uniform(double low, double high) {
        return low + (high - low) * (static_cast<double>(engine_() >> 11) + 0.5) * 0x1p-53;
    }
    double gaussian() {
        const double radius = std::sqrt(-2.0 * std::log(uniform(0.0, 1.0)));
        return radius * std::cos(2.0 * std::numbers::pi * uniform(0.0, 1.0));
    }
    std::vector<double> gaussians(Index count, double scale) {
        std::vector<double> values(count);
        for (double& value : values) value = scale * gaussian();
        return values;
    }
    std::vector<double> uniforms(Index count, double low, double high) {
        std::vector<double> values(count);
        for (double& value : values) value = uniform(low, high);
        return values;
    }

private:
    std::mt19937_64 engine_;
};

}  // namespace

Network random_network(const Example& example) {
    Draw draw(2 * example.seed);
    const Index N = example.neurons, M = example.inputs, O = example.outputs;
    Network net;
    net.neurons = N;
    net.inputs = M;
    net.outputs = O;
    net.reset = example.reset;
    net.reset_delay = example.reset_delay;
    net.surrogate = example.surrogate;
    net.readout = example.readout;
    net.sharpness = example.sharpness;
    net.w_in = draw.gaussians(N * M, 1.0 / std::sqrt(static_cast<double>(M)));
    net.w_rec = draw.gaussians(N * N, example.gain / std::sqrt(static_cast<double>(N)));
    net.bias = draw.uniforms(N, 0.2, 1.2);
    net.w_out = draw.gaussians(O * N, 1.0 / std::sqrt(static_cast<double>(N)));
    net.bias_out = draw.gaussians(O, 0.1);
    net.alpha = example.has_current ? draw.uniforms(N, 0.3, 0.9) : std::vector<double>(N, 0.0);
    net.beta = draw.uniforms(N, 0.4, 0.95);
    net.kappa = draw.uniforms(O, 0.2, 0.9);
    net.adaptation = example.adaptation;
    net.refractory = example.refractory;
    if (example.initial_state) {
        net.initial_current = draw.gaussians(N, 0.5);
        net.initial_membrane = draw.gaussians(N, 1.0);
    }
    if (example.own_thresholds) net.thresholds = draw.uniforms(N, 0.5, 1.5);
    if (net.adapts()) {
        net.rho = draw.uniforms(N, 0.5, 0.95);
        net.adapt_membrane = draw.uniforms(N, -0.1, 0.3);
        net.adapt_spike = draw.uniforms(N, 0.1, 0.5);
        if (example.initial_state) net.initial_adaptation = draw.gaussians(N, 0.2);
    }
    return net;
}

Sequences random_sequences(const Example& example) {
    Draw draw(2 * example.seed + 1);
    const Index k = example.exponents;
    const Index D = example.neurons * (1 + example.has_current + (example.adaptation != Adaptation::none));
    Sequences seq;
    seq.steps = example.steps;
    seq.batch = example.batch;
    seq.x = draw.gaussians(seq.steps * seq.batch * example.inputs, 1.0);
    seq.mask.assign(seq.steps * seq.batch, 1.0);
    std::fill_n(seq.mask.begin(), seq.steps / 4 * seq.batch, 0.0);
    seq.loss = example.loss;
    if (!takes_labels(example.loss)) {
        seq.target = draw.uniforms(seq.steps * seq.batch * example.outputs, 0.0, 1.0);
        for (double& value : seq.target)
            value = example.loss == LossKind::mean_squared_error ? 3.0 * value - 1.0 : value < 0.5 ? 0.0 : 1.0;
    } else {
        for (Index b = 0; b < seq.batch; ++b)
            seq.label.push_back(static_cast<int>(draw.uniform(0.0, static_cast<double>(example.outputs))));
    }
    for (Index b = 0; b < seq.batch && example.own_lengths; ++b) {
        const Index first = seq.steps / 4, length = static_cast<Index>(draw.uniform(1.0, seq.steps - first + 1.0));
        for (Index t = first + length; t < seq.steps; ++t) seq.mask[t * seq.batch + b] = 0.0;
    }
    seq.exponents = k;
    for (Index b = 0; b < seq.batch && k > 0; ++b) {
        const QR factors = qr(D, k, draw.gaussians(D * k, 1.0));
        seq.q0.insert(seq.q0.end(), factors.q.begin(), factors.q.end());
    }
    return seq;
}

}  // namespace spikefloss::reference
