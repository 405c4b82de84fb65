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
      no_weight_(backend, keeps_adjoint ? basis.rows() : 0) {}

void TangentLoop::steps_forward(const TangentForwardCall& call, const Factorise& factorise) {
    const Index rows = shape_.rows(), bn = shape_.b * shape_.n;
    for (Index t = 0; t < call.steps; ++t) {
        const float* u = call.u + t * bn;
        float *q = call.q + t * call.q_stride, *p = q + call.q_stride;
        backend_.tangent_input(call.model, shape_, u, q, x_.data());
        recurrence_.apply(call.w_rec, rows, recurrence_.gather(rows, x_.data()), product_.data());
        backend_.tangent_step(call.model, call.reset, call.neurons, shape_, u, product_.data(), q, p);
        if ((t + 1) % call.qr_interval != 0) continue;
        const Index qr = (t + 1) / call.qr_interval - 1;
        factorise(call.first + t + 1, p, call.r + qr * call.r_stride, qr);
    }
}

void TangentLoop::forward(const TangentForwardCall& call) {
    record({call.steps, call.qr_interval, call.first, {call.u, call.q, call.r, call.log_r, call.w_rec}}, [&] {
        steps_forward(call, [&](Index step, float* a, double* r, Index qr) {
            qr_.factorise(step, a, r, call.log_r + qr * shape_.rows(), call.findings);
        });
    });
}

std::vector<double> TangentLoop::forward_carefully(const TangentForwardCall& call, Index first_sequence,
                                                   std::vector<Index>* independent) {
    std::vector<double> logs(static_cast<std::size_t>(call.steps / call.qr_interval * shape_.rows()));
    steps_forward(call, [&](Index step, float* a, double* r, Index qr) {
        qr_.factorise_carefully(step, first_sequence, a, r, logs.data() + qr * shape_.rows(), call.findings,
                                independent);
    });
    return logs;
}

void TangentLoop::backward(const TangentBackwardCall& call) {
    if (call.d_alpha.data) return steps_backward(call);  // its sums need memory of their own
    record({call.steps,
            call.qr_interval,
            -1 - call.first_counted,
            {call.u, call.q, call.r, call.weight, call.a, call.e, call.d_w_rec.data, call.w_rec}},
           [&] { steps_backward(call); });
}

void TangentLoop::steps_backward(const TangentBackwardCall& call) {
    const Index rows = shape_.rows(), bn = shape_.b * shape_.n;
    for (Index t = call.steps; t-- > 0;) {
        const float *u = call.u + t * bn, *q = call.q + t * call.q_stride;
        if ((t + 1) % call.qr_interval == 0) {
            const Index qr = (t + 1) / call.qr_interval - 1;
            qr_.backward(q + call.q_stride, call.r + qr * rows * shape_.k,
                         qr >= call.first_counted ? call.weight : no_weight_.data(), call.a);
        }
        backend_.tangent_input(call.model, shape_, u, q, x_.data());
        const float* x = recurrence_.gather(rows, x_.data());
        if (call.d_alpha.data) recurrence_.apply(call.w_rec, rows, x, product_.data());
        const TangentTimeConstants also{q, product_.data(), call.d_alpha, call.d_beta};
        backend_.tangent_step_backward(call.model, call.reset, call.neurons, shape_, u, call.a, g_.data(),
                                       call.d_alpha.data ? &also : nullptr);
        recurrence_.add_outer(rows, g_.data(), x, call.d_w_rec);
        recurrence_.apply_transposed(call.w_rec, rows, g_.data(), product_.data());
        backend_.tangent_input_backward(call.model, call.neurons, shape_, u, q, product_.data(), g_.data(), call.a,
                                        call.e + t * bn);
    }
}

// Runs `work`, thousands of small operations, as a recording if that is possible. Calls with the same key must make the
// same operations and collectives. Sums in double are not recorded, because they need memory of their own.
void TangentLoop::record(const std::tuple<Index, Index, Index, std::vector<const void*>>& key,
                         const std::function<void()>& work) {
    constexpr std::size_t most_recordings = 256;  // intervals that are chosen give many different calls
    const bool alone = grid_.shape().neuron_shards == 1;
    if (backend_.sums() != Sums::float32 || !(alone || grid_.neurons().recorded())) return work();
    if (recordings_.size() > most_recordings) recordings_.clear();
    std::unique_ptr<Recording>& recording = recordings_[key];
    if (!recording) recording = backend_.recording();
    if (!recording) return work();
    recording->run(work);
}

}  // namespace spikefloss
