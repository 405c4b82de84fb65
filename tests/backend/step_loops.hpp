// The passes of the state over time as loops over the step operations, as src/network does on any grid. Whole passes
// are compared with them.
#pragma once

#include "backend/operation_test.hpp"

namespace spikefloss::testing_support {

struct PassShape {
    Index steps, b, N;
};

struct Trajectory {
    Buffer<float> u, i;          // [steps+1, b, N]
    Buffer<std::uint32_t> bits;  // [steps+1, b, words]
};

inline Trajectory start(Backend& backend, const PassShape& shape, const Neurons& net, const Floats& i0) {
    const Index row = shape.b * shape.N;
    Trajectory at{
        {backend, (shape.steps + 1) * row},
        {backend, (shape.steps + 1) * row},
        {backend, std::vector<std::uint32_t>((shape.steps + 1) * shape.b * spike_words(shape.N), 0xFFFFFFFFu)}};
    if (row) backend.copy_in(at.u.data(), net.u.data(), row * sizeof(float));
    if (row) backend.copy_in(at.i.data(), i0.data(), row * sizeof(float));
    return at;
}

inline Trajectory loop_forward(Backend& backend, const PassShape& shape, const Neurons& net, const Buffer<float>& w,
                               const Buffer<float>& input, const Floats& i0) {
    const auto [steps, b, N] = shape;
    const Index row = b * N, words = b * spike_words(N);
    const Constants constants(backend, net);
    Trajectory at = start(backend, shape, net, i0);
    Buffer<float> recurrent(backend, row);
    for (Index t = 0; t <= steps; ++t) {
        backend.pack_spikes(net.model, b, N, at.u.data() + t * row, at.bits.data() + t * words);
        if (t == steps) break;
        backend.project({N, N, w.data(), N}, {.bits = at.bits.data() + t * words, .stride = spike_words(N)},
                        Matrix<float>(recurrent.data(), b, N), false);
        backend.neuron_step(net.model, constants, b, N, input.data() + t * row, recurrent.data(), at.i.data() + t * row,
                            at.u.data() + t * row, at.i.data() + (t + 1) * row, at.u.data() + (t + 1) * row);
    }
    return at;
}

// As Backend::backward_steps.
inline void loop_backward(Backend& backend, const PassShape& shape, const Neurons& net, const Buffer<float>& w,
                          const StepsBackward& pass) {
    const auto [steps, b, N] = shape;
    const Index row = b * N, words = b * spike_words(N);
    const Constants constants(backend, net);
    Buffer<float> back(backend, row);
    Buffer<double> row_squares(backend, b);
    for (Index t = steps; t >= 1; --t) {
        const float *u = pass.u + t * row, *u_before = u - row;
        float* g = pass.g + (t - 1) * row;
        if (pass.from_readout && pass.readout == Readout::membrane)
            backend.add(pass.du, pass.from_readout + (t - 1) * row, row);
        if (pass.from_readout && pass.readout == Readout::spikes)
            backend.add_through_spikes(net.model, b, N, u, pass.from_readout + (t - 1) * row, pass.du);
        if (pass.extra) backend.add(pass.du, pass.extra + t * row, row);
        backend.row_sum_squares(b, N, pass.di, pass.du, row_squares.data());
        if (pass.squares) backend.copy(pass.squares + t * b, row_squares.data(), row_squares.bytes());
        if (pass.adjoint_limit) backend.cap_rows(b, N, row_squares.data(), pass.adjoint_limit, pass.di, pass.du);
        backend.neuron_step_backward(net.model, constants, b, N, u_before, pass.di, pass.du, g);
        backend.add_outer({g, b, N}, {.bits = pass.bits + (t - 1) * words, .stride = spike_words(N)}, pass.d_w_rec);
        backend.project_transposed({N, N, w.data(), N}, {g, b, N}, Matrix<float>(back.data(), b, N), false);
        backend.add_through_spikes(net.model, b, N, u_before, back.data(), pass.du);
    }
}

}  // namespace spikefloss::testing_support
