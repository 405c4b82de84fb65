#include "lyapunov/tangent_loop.hpp"

namespace spikefloss {

TangentLoop::TangentLoop(Backend& backend, const ProcessGrid& grid, Index N, const BasisShape& basis,
                         bool keeps_adjoint)
    : backend_(backend),
      grid_(grid),
      shape_(basis),
      recurrence_(backend, grid, N, basis.rows()),
      qr_(backend, grid, basis),
      x_(backend, basis.rows() * basis.n),
      product_(backend, basis.rows() * basis.n),
      g_(backend, keeps_adjoint ? basis.rows() * basis.n : 0),
      no_weight_(backend, keeps_adjoint ? basis.rows() : 0),
      forward_calls_(backend),
      backward_calls_(backend) {}

void TangentLoop::steps_forward(const TangentForwardCall& call, const Factorise& factorise) {
    const Index rows = shape_.rows(), bn = shape_.b * shape_.n;
    for (Index t = 0; t < call.steps; ++t) {
        const NeuronState state{nullptr, call.u + t * bn};
        float *q = call.q + t * call.q_stride, *p = q + call.q_stride;
        backend_.tangent_input(call.model, call.neurons, shape_, state, q, x_.data());
        recurrence_.apply(call.w_rec, rows, recurrence_.gather(rows, x_.data()), product_.data());
        backend_.tangent_step(call.model, call.reset, call.neurons, shape_, state, x_.data(), product_.data(), q, p);
        if ((t + 1) % call.qr_interval != 0) continue;
        const Index qr = (t + 1) / call.qr_interval - 1;
        factorise(call.first + t + 1, p, call.r + qr * call.r_stride, qr);
    }
}

void TangentLoop::forward(const TangentForwardCall& call) {
    const auto work = [&] {
        steps_forward(call, [&](Index step, float* a, double* r, Index qr) {
            qr_.factorise(step, a, r, call.log_r + qr * shape_.rows(), call.findings);
        });
    };
    if (recordable())
        forward_calls_.run(call, work);
    else
        work();
}

std::vector<double> TangentLoop::forward_carefully(const TangentForwardCall& call, Index first_sequence,
                                                   std::vector<Index>* independent, double least) {
    std::vector<double> logs(static_cast<std::size_t>(call.steps / call.qr_interval * shape_.rows()));
    steps_forward(call, [&](Index step, float* a, double* r, Index qr) {
        qr_.factorise_carefully(step, first_sequence, a, r, logs.data() + qr * shape_.rows(), call.findings,
                                independent, least);
    });
    return logs;
}

void TangentLoop::backward(const TangentBackwardCall& call) {
    if (recordable())
        backward_calls_.run(call, [&] { steps_backward(call); });
    else
        steps_backward(call);
}

void TangentLoop::steps_backward(const TangentBackwardCall& call) {
    const Index rows = shape_.rows(), bn = shape_.b * shape_.n;
    for (Index t = call.steps; t-- > 0;) {
        const NeuronState state{nullptr, call.u + t * bn};
        const float* q = call.q + t * call.q_stride;
        if ((t + 1) % call.qr_interval == 0) {
            const Index qr = (t + 1) / call.qr_interval - 1;
            qr_.backward(q + call.q_stride, call.r + qr * rows * shape_.k,
                         qr >= call.first_counted ? call.weight : no_weight_.data(), call.a);
        }
        backend_.tangent_input(call.model, call.neurons, shape_, state, q, x_.data());
        const float* x = recurrence_.gather(rows, x_.data());
        if (call.d_alpha.data) recurrence_.apply(call.w_rec, rows, x, product_.data());
        backend_.tangent_step_backward(call.model, call.reset, call.neurons, shape_, state, q, x_.data(),
                                       product_.data(), call.a, g_.data(),
                                       {.alpha = call.d_alpha, .beta = call.d_beta});
        recurrence_.add_outer(rows, g_.data(), x, call.d_w_rec);
        recurrence_.apply_transposed(call.w_rec, rows, g_.data(), product_.data());
        backend_.tangent_input_backward(call.model, call.reset, call.neurons, shape_, state, q, product_.data(),
                                        g_.data(), call.a, call.e + t * bn);
    }
}

}  // namespace spikefloss
