#include "lyapunov/tangent_pass.hpp"

#include "core/error.hpp"
#include "core/random.hpp"

#include <algorithm>
#include <cmath>
#include <optional>

namespace spikefloss {

Index TangentPass::counted_qrs(const TangentOptions& options, Index T) {
    Index counted = 0;
    for (Index end = options.qr_interval; end <= T; end += options.qr_interval)
        counted += end - options.qr_interval >= options.warmup;
    return counted;
}

const TangentOptions& TangentPass::checked(const TangentOptions& options, Index state_size, Index T) {
    require(options.exponents >= 1 && options.exponents <= state_size, Exit::usage,
            fmt::format("{} exponents were asked for, but the state has {} dimensions", options.exponents, state_size),
            fmt::format("choose between 1 and {}", state_size));
    require(options.qr_interval >= 1 && counted_qrs(options, T) > 0, Exit::usage,
            fmt::format("no QR counts: {} steps have no QR after a warm-up of {} with one every {} steps", T,
                        options.warmup, options.qr_interval),
            "use a shorter warm-up or QR interval, or longer sequences");
    return options;
}

TangentPass::TangentPass(Backend& backend, const ProcessGrid& grid, const Network& network, TangentOptions options,
                         Index T, Index b, bool keep)
    : backend_(backend),
      grid_(grid),
      options_(checked(options, network.state_size(), T)),
      shape_{b, options.exponents, network.n(), network.has_current()},
      b_(b),
      k_(shape_.k),
      n_(shape_.n),
      rows_(shape_.rows()),
      last_(T / options.qr_interval * options.qr_interval),
      counted_(counted_qrs(options, T)),
      keep_(keep),
      recurrence_(backend, grid, network.layout.shape().neurons, rows_),
      qr_(backend, grid, shape_),
      q_(backend, (keep ? last_ + 1 : 2) * shape_.size()),
      r_(backend, (keep ? last_ / options.qr_interval : 1) * b * k_ * k_),
      x_(backend, rows_ * n_),
      product_(backend, rows_ * n_),
      adjoint_(backend, keep ? shape_.size() : 0),
      g_(backend, keep ? rows_ * n_ : 0),
      weight_(backend, keep ? rows_ : 0),
      all_log_r_(backend, last_ / options.qr_interval * rows_),
      failure_(backend, 2 * b) {}

// psi(u[t] - theta) * Q_u before step t, gathered over the neuron shards.
const float* TangentPass::tangent_input(const Network& network, StatePass& state, Index t) {
    backend_.tangent_input(network.model.neuron, shape_, state.membrane(t), basis(t), x_.data());
    return recurrence_.gather(rows_, x_.data());
}

void TangentPass::start(const std::vector<float>& q0) {
    SPIKEFLOSS_ASSERT(static_cast<Index>(q0.size()) == shape_.size());
    if (!q0.empty()) backend_.copy_in(q_.data(), q0.data(), q0.size() * sizeof(float));
    independent_.assign(static_cast<std::size_t>(b_), k_);
    log_r_.clear();
    log_r_.reserve(static_cast<std::size_t>(counted_ * rows_));
}

void TangentPass::forward(const Network& network, StatePass& state, const std::vector<float>& q0,
                          Index first_sequence) {
    std::optional<Error> fault;
    try {
        if (!whole_forward(network, state, q0)) {
            start(q0);
            loop_forward(network, state, first_sequence);
        }
    } catch (const Error& error) {
        // All shards of a sequence fail together, but ranks with other sequences do not fail.
        if (error.code() != Exit::numerics) throw;
        fault = error;
    }
    grid_.agree([&] {
        if (fault) throw Error(*fault);
    });
}

// The readable form of all steps, for any grid. Only this form handles a Cholesky factorisation that fails.
void TangentPass::loop_forward(const Network& network, StatePass& state, Index first_sequence) {
    std::vector<double> logs(static_cast<std::size_t>(rows_));
    for (Index t = 0; t < last_; ++t) {
        recurrence_.apply(network[Parameter::w_rec], rows_, tangent_input(network, state, t), product_.data());
        backend_.tangent_step(network.model.neuron, options_.reset, network.neurons(), shape_, state.membrane(t),
                              product_.data(), basis(t), basis(t + 1));
        if (!is_qr(t + 1)) continue;
        const Index qr = (t + 1) / options_.qr_interval - 1;
        qr_.factorise(t + 1, first_sequence, basis(t + 1), r_.data() + (keep_ ? qr : 0) * rows_ * k_, logs.data(),
                      keep_ ? nullptr : &independent_);
        if (counts(t + 1)) log_r_.insert(log_r_.end(), logs.begin(), logs.end());
    }
}

// The same as one operation of the backend, if this rank holds all neurons, the backend takes the shape and no QR
// fails.
bool TangentPass::whole_forward(const Network& network, StatePass& state, const std::vector<float>& q0) {
    if (forward_choice().form == PassForm::loop) return false;
    for (;; rounds_ = 2) {
        start(q0);
        const TangentSteps pass{.steps = last_,
                                .qr_interval = options_.qr_interval,
                                .rounds = rounds_,
                                .reset = options_.reset,
                                .u = state.membrane(0),
                                .q = basis(0),
                                .q_stride = keep_ ? shape_.size() : 0,
                                .r = r_.data(),
                                .r_stride = keep_ ? rows_ * k_ : 0,
                                .log_r = all_log_r_.data(),
                                .failure = failure_.data()};
        require(
            backend_.tangent_steps(network.model.neuron, network.neurons(), shape_, network[Parameter::w_rec], pass),
            Exit::internal, "the backend did not take tangents that its limits allow");
        bool failed = false, doubt = false;
        const std::vector<std::int32_t> failure = failure_.to_host();
        for (std::size_t s = 0; s < failure.size(); s += 2) {
            failed = failed || failure[s + 1] != 0;
            doubt = doubt || (failure[s] != 0 && failure[s + 1] == 0);
        }
        if (failed || (doubt && rounds_ == 2)) return false;
        if (!doubt) break;
    }
    const std::vector<double> logs = all_log_r_.to_host();
    log_r_.assign(logs.end() - counted_ * rows_, logs.end());  // the earlier ones are warm-up
    return true;
}

std::vector<double> TangentPass::exponents() const {
    std::vector<double> lambda(static_cast<std::size_t>(rows_), 0.0);
    for (Index qr = 0; qr < counted_; ++qr)
        for (Index i = 0; i < rows_; ++i)
            lambda[static_cast<std::size_t>(i)] += log_r_[static_cast<std::size_t>(qr * rows_ + i)];
    for (double& value : lambda) value /= static_cast<double>(counted_ * options_.qr_interval);
    return lambda;
}

void TangentPass::backward(const Network& network, StatePass& state, const std::vector<double>& d_exponents,
                           bool time_constants, SumBuffer& gradient, float* extra) {
    std::vector<double> weights(d_exponents);  // dL/d(ln R_jj) of every counted QR
    for (double& w : weights) w /= static_cast<double>(counted_ * options_.qr_interval);
    adjoint_.zero();
    if (backward_choice(time_constants).form == PassForm::loop)
        loop_backward(network, state, weights, time_constants, gradient, extra);
    else
        whole_backward(network, state, weights, gradient, extra);
}

void TangentPass::loop_backward(const Network& network, StatePass& state, const std::vector<double>& weights,
                                bool time_constants, SumBuffer& gradient, float* extra) {
    const NeuronModel& model = network.model.neuron;
    const auto at = [&](Parameter p) { return network.layout.extent(p).offset; };
    float* const a = adjoint_.data();  // in turn the adjoint of the basis, of its QR and of the step
    weight_.zero();
    bool counting = false;
    for (Index t = last_; t-- > 0;) {
        if (is_qr(t + 1)) {
            if (counts(t + 1) != counting) {
                counting = counts(t + 1);
                if (counting && rows_) weight_.copy_in(weights.data());
                if (!counting) weight_.zero();
            }
            const Index qr = (t + 1) / options_.qr_interval - 1;
            qr_.backward(basis(t + 1), r_.data() + qr * rows_ * k_, weight_.data(), a);
        }
        const float* x = tangent_input(network, state, t);
        if (time_constants) recurrence_.apply(network[Parameter::w_rec], rows_, x, product_.data());
        const TangentTimeConstants also{basis(t), product_.data(), gradient.matrix(1, n_, at(Parameter::alpha)),
                                        gradient.matrix(1, n_, at(Parameter::beta))};
        backend_.tangent_step_backward(model, options_.reset, network.neurons(), shape_, state.membrane(t), a,
                                       g_.data(), time_constants ? &also : nullptr);
        recurrence_.add_outer(rows_, g_.data(), x,
                              gradient.matrix(n_, network.layout.shape().neurons, at(Parameter::w_rec)));
        recurrence_.apply_transposed(network[Parameter::w_rec], rows_, g_.data(), product_.data());
        backend_.tangent_input_backward(model, network.neurons(), shape_, state.membrane(t), basis(t), product_.data(),
                                        g_.data(), a, extra + t * b_ * n_);
    }
}

void TangentPass::whole_backward(const Network& network, StatePass& state, const std::vector<double>& weights,
                                 SumBuffer& gradient, float* extra) {
    if (rows_) weight_.copy_in(weights.data());
    const TangentStepsBackward pass{.steps = last_,
                                    .qr_interval = options_.qr_interval,
                                    .reset = options_.reset,
                                    .u = state.membrane(0),
                                    .q = basis(0),
                                    .q_stride = shape_.size(),
                                    .r = r_.data(),
                                    .weight = weight_.data(),
                                    .first_counted = last_ / options_.qr_interval - counted_,
                                    .a = adjoint_.data(),
                                    .d_w_rec = gradient.matrix(n_, n_, network.layout.extent(Parameter::w_rec).offset),
                                    .e = extra};
    require(backend_.tangent_steps_backward(network.model.neuron, network.neurons(), shape_, network[Parameter::w_rec],
                                            pass),
            Exit::internal, "the backend did not take tangents that its limits allow");
}

std::vector<float> random_bases(std::uint64_t seed, Index k, Index neurons_total, bool has_current, BlockRange neurons,
                                BlockRange sequences) {
    const Index parts = has_current ? 2 : 1, D = parts * neurons_total, n = neurons.size();
    std::vector<double> full(static_cast<std::size_t>(k * D));
    std::vector<float> bases(static_cast<std::size_t>(sequences.size() * k * parts * n));
    for (Index s = 0; s < sequences.size(); ++s) {
        // Gaussian vectors, orthonormalised twice by modified Gram-Schmidt: every rank does the same in double.
        for (Index j = 0; j < k; ++j) {
            double* v = full.data() + j * D;
            for (Index i = 0; i < D; ++i)
                v[i] = normal(seed, Stream::tangent_bases, static_cast<std::uint32_t>(sequences.begin + s),
                              static_cast<std::uint32_t>(j), static_cast<std::uint32_t>(i));
            for (int pass = 0; pass < 2; ++pass)
                for (Index before = 0; before < j; ++before) {
                    const double* q = full.data() + before * D;
                    double dot = 0.0;
                    for (Index i = 0; i < D; ++i) dot += q[i] * v[i];
                    for (Index i = 0; i < D; ++i) v[i] -= dot * q[i];
                }
            double norm = 0.0;
            for (Index i = 0; i < D; ++i) norm += v[i] * v[i];
            for (Index i = 0; i < D; ++i) v[i] /= std::sqrt(norm);
            for (Index part = 0; part < parts; ++part)
                for (Index i = 0; i < n; ++i)
                    bases[static_cast<std::size_t>(((s * k + j) * parts + part) * n + i)] =
                        static_cast<float>(v[part * neurons_total + neurons.begin + i]);
        }
    }
    return bases;
}

}  // namespace spikefloss
