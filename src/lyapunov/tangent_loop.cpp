#include "lyapunov/tangent_loop.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

std::vector<Index> delays_above_1(const std::vector<Term>& terms) {
    std::vector<Index> delays;
    for (const Term& term : terms)
        if (term.delay > 1) delays.push_back(term.delay);
    std::sort(delays.begin(), delays.end());
    delays.erase(std::unique(delays.begin(), delays.end()), delays.end());
    return delays;
}

// Rows that a product of kept steps has at most. With sparse weights more of them would not stay in a cache. With dense
// ones, reading and writing the gradient then takes less time than the product.
constexpr Index kept_rows_sparse = 48, kept_rows_dense = 256;

Index steps_kept(const Recurrence& recurrence, const DelayLines& lines, Index rows) {
    if (lines.depth() > 0) return 1;
    const bool sparse = std::any_of(recurrence.terms().begin(), recurrence.terms().end(),
                                    [](const Term& term) { return term.synapses; });
    return std::max<Index>(1, (sparse ? kept_rows_sparse : kept_rows_dense) / std::max<Index>(1, rows));
}

}  // namespace

TangentLoop::TangentLoop(Backend& backend, const ProcessGrid& grid, const ParameterLayout& layout,
                         std::vector<Term> terms, const BasisShape& basis, bool keeps_adjoint)
    : backend_(backend),
      grid_(grid),
      shape_(basis),
      recurrence_(backend, grid, layout.shape().neurons, std::move(terms), basis.rows()),
      lines_(backend, layout, basis, basis.rows() * layout.shape().neurons, keeps_adjoint),
      delays_(delays_above_1(recurrence_.terms())),
      qr_(backend, grid, basis, &lines_),
      most_kept_(keeps_adjoint ? steps_kept(recurrence_, lines_, basis.rows()) : 1),
      x_(backend, most_kept_ * basis.rows() * basis.n),
      g_(backend, keeps_adjoint ? most_kept_ * basis.rows() * basis.n : 0),
      gathered_(backend,
                most_kept_ > 1 && recurrence_.shards() > 1 ? most_kept_ * basis.rows() * recurrence_.neurons() : 0),
      product_(backend, basis.rows() * basis.n),
      delayed_(backend, delays_.empty() ? 0 : basis.rows() * basis.n),
      back_(backend, delays_.empty() || !keeps_adjoint ? 0 : basis.rows() * basis.n),
      no_weight_(backend, keeps_adjoint ? basis.rows() : 0),
      forward_calls_(backend),
      backward_calls_(backend) {}

const float* TangentLoop::sigma(Index t) { return lines_.depth() > 0 ? own(t) : x(); }

const float* TangentLoop::own(Index t) {
    return lines_.place(t) + shape_.rows() * recurrence_.block(grid_.neuron_shard()).begin;
}

template <class Call>
NeuronState TangentLoop::state(const Call& call, Index t) const {
    const Index at = (t - call.first) * shape_.b * shape_.n;
    return {nullptr, call.u + at, call.w ? call.w + at : nullptr, spikes_ ? spikes_->refractory(t) : Refractory()};
}

template <class Call>
const float* TangentLoop::perturb(const Call& call, Index t, const float* q) {
    const Index rows = shape_.rows();
    const bool delays = lines_.depth() > 0;
    float* const place = delays ? lines_.place(t) : nullptr;
    float* const own = delays && recurrence_.shards() == 1 ? place : x();
    backend_.tangent_input(call.model, call.neurons, shape_, state(call, t), q, own);
    if (!delays) return recurrence_.gather(rows, own);
    if (own != place) recurrence_.gather(rows, own, place);
    return place;
}

void TangentLoop::drive(const float* w_rec, Index t, const float* x) {
    const Index rows = shape_.rows();
    const auto only = [&](Index delay, const float* operand) -> Recurrence::Operand {
        return [this, delay, operand, rows](Index of) {
            return of == delay ? recurrence_.blocks_of(rows, operand) : std::vector<Activity>();
        };
    };
    recurrence_.apply(w_rec, rows, only(1, x), product_.data());
    for (const Index delay : delays_) {
        const Index from = t + 1 - delay;
        if (from < 0) continue;
        recurrence_.apply(w_rec, rows, only(delay, lines_.place(from)), delayed_.data());
        lines_.add_times_c(from, delayed_.data(), product_.data());
    }
}

void TangentLoop::add_outer(const TangentBackwardCall& call, Index delay, Index steps, const float* y, const float* x) {
    const Index rows = steps * shape_.rows();
    for (const Term& term : recurrence_.terms())
        if (term.delay == delay) recurrence_.add_outer(term, rows, y, recurrence_.blocks_of(rows, x), call.d_w_rec);
}

void TangentLoop::add_kept(const TangentBackwardCall& call) {
    const float* x = x_.data();
    if (recurrence_.shards() > 1) {
        recurrence_.gather(kept_ * shape_.rows(), x, gathered_.data());
        x = gathered_.data();
    }
    add_outer(call, 1, kept_, g_.data(), x);
    kept_ = 0;
}

void TangentLoop::drive_backward(const TangentBackwardCall& call, Index t) {
    const Index rows = shape_.rows();
    const auto only = [](Index delay, const float* y) -> Recurrence::Adjoint {
        return [delay, y](Index of) { return of == delay ? y : nullptr; };
    };
    recurrence_.apply_transposed(call.w_rec, rows, only(1, g()), product_.data());
    for (const Index delay : delays_) {
        const Index from = t + 1 - delay;
        if (from < 0) continue;
        delayed_.zero();
        lines_.add_times_c_transposed(from, g(), delayed_.data());
        add_outer(call, delay, 1, delayed_.data(), lines_.place(from));
        recurrence_.apply_transposed(call.w_rec, rows, only(delay, delayed_.data()), back_.data());
        lines_.add_adjoint(from, back_.data(), own(from));
    }
    if (lines_.depth() == 0) return;
    lines_.add_whole_adjoint(t, own(t), product_.data());
    lines_.leave(t);
}

void TangentLoop::steps_forward(const TangentForwardCall& call, const Factorise& factorise) {
    for (Index step = 0; step < call.steps; ++step) {
        backend_.may_stop();
        const Index t = call.first + step;
        float *q = call.q + step * call.q_stride, *p = q + call.q_stride;
        const float* x = perturb(call, t, q);
        if (lines_.depth() > 0) lines_.enter(t, own(t));
        drive(call.w_rec, t, x);
        backend_.tangent_step(call.model, call.reset, call.neurons, shape_, state(call, t), sigma(t), product_.data(),
                              q, p);
        lines_.leave_before(t + 1 - lines_.depth());
        if ((step + 1) % call.qr_interval != 0) continue;
        const Index qr = (step + 1) / call.qr_interval - 1;
        factorise(t + 1, p, call.r + qr * call.r_stride, qr);
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
    recurrence_.begin();  // a whole pass may have taken the steps before
    steps_forward(call, [&](Index step, float* a, double* r, Index qr) {
        qr_.factorise_carefully(step, first_sequence, a, r, logs.data() + qr * shape_.rows(), call.findings,
                                independent, least);
    });
    return logs;
}

void TangentLoop::begin_backward(std::vector<const double*> r_after) {
    r_after_ = std::move(r_after);
    recurrence_.begin();
    kept_ = 0;
    lines_.clear();
}

void TangentLoop::backward(const TangentBackwardCall& call) {
    if (recordable())
        backward_calls_.run(call, [&] { steps_backward(call); });
    else
        steps_backward(call);
}

// C[t] is that of the step after it, times R^-1 of the QR between them.
void TangentLoop::enter_backwards(const TangentBackwardCall& call, Index t) {
    if (t < 0) return;
    perturb(call, t, call.q + (t - call.first) * call.q_stride);
    DelayLines::Matrices c = lines_.holds(t + 1) ? lines_.c(t + 1) : lines_.identity();
    if (const double* r = r_after_[static_cast<std::size_t>(t)]) {
        DelayLines::Matrices factor(c.size());
        backend_.copy_out(factor.data(), r, factor.size() * sizeof(double));
        c = lines_.divided_by(factor, std::move(c));
    }
    lines_.enter(t, own(t), std::move(c));
}

void TangentLoop::steps_backward(const TangentBackwardCall& call) {
    const Index rows = shape_.rows(), bn = shape_.b * shape_.n;
    const ConstantSums none{};
    for (Index step = call.steps; step-- > 0;) {
        backend_.may_stop();
        const Index t = call.first + step;
        const float* q = call.q + step * call.q_stride;
        if (!lines_.holds(t))  // the last step of the pass
            for (Index made = t; made > t - lines_.depth(); --made) enter_backwards(call, made);
        if ((step + 1) % call.qr_interval == 0) {
            const Index qr = (step + 1) / call.qr_interval - 1;
            qr_.backward(t + 1, q + call.q_stride, call.r + qr * rows * shape_.k,
                         qr >= call.first_counted ? call.weight : no_weight_.data(), call.a);
        }
        if (lines_.depth() > 0) enter_backwards(call, t - lines_.depth());
        const float* x = lines_.depth() > 0 ? lines_.place(t) : perturb(call, t, q);
        if (!(call.constants == none)) drive(call.w_rec, t, x);
        backend_.tangent_step_backward(call.model, call.reset, call.neurons, shape_, state(call, t), q, sigma(t),
                                       product_.data(), call.a, g(), call.constants);
        if (most_kept_ == 1) add_outer(call, 1, 1, g(), x);
        drive_backward(call, t);
        backend_.tangent_input_backward(call.model, call.reset, call.neurons, shape_, state(call, t), q,
                                        product_.data(), g(), call.a, call.e + step * bn);
        if (most_kept_ == 1 || (++kept_ < most_kept_ && step > 0)) continue;
        add_kept(call);
    }
}

}  // namespace spikefloss
