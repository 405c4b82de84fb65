// Problems and calls of whole tangent passes, forwards and backwards.
#pragma once

#include "backend/operation_test.hpp"
#include "backend/tangent_passes.hpp"

#include <algorithm>
#include <cmath>
#include <ostream>

namespace spikefloss::testing_support {

struct PassCase {
    Index steps, qr_interval, b, k, N;
    bool has_current;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    ResetRule rule{Reset::zero, 1};
    JacobianReset jacobian = JacobianReset::detached;
};

inline std::ostream& operator<<(std::ostream& out, const PassCase& c) {
    return out << "steps " << c.steps << ", QR every " << c.qr_interval << ", b " << c.b << ", k " << c.k << ", N "
               << c.N << ", current " << c.has_current << ", surrogate " << int(c.surrogate) << ", " << c.rule
               << ", Jacobian " << int(c.jacobian);
}

// A network and bases of one case. The beta of every neuron is well above 0, so that no direction is lost.
struct Problem {
    PassCase c;
    Neurons net;
    Floats w, q;  // [N, N]; [b, k, D]

    explicit Problem(const PassCase& c_, std::uint64_t seed = 1)
        : c(c_),
          net({.threshold = 1.0f,
               .reset = c.rule.reset,
               .reset_delay = c.rule.delay,
               .surrogate = c.surrogate,
               .sharpness = 0.3f},
              c.steps * c.b, c.N, seed),
          w(random_floats(c.N * c.N, seed + 10, 1.5 / std::sqrt(static_cast<double>(c.N)))),
          q(random_floats(shape().size(), seed + 11)) {
        net.beta = uniform_floats(c.N, seed + 2, 0.3, 0.9);
        net.alpha = uniform_floats(c.N, seed + 1, 0.3, 0.9);
        if (!c.has_current) net.alpha.assign(net.alpha.size(), 0.0f);
        for (float& u : net.u) u = std::min(std::max(u, -3.0f), 3.0f);
    }
    BasisShape shape() const { return {c.b, c.k, c.N, c.has_current}; }
    Index part() const { return c.b * c.k * c.N; }
    Index basis_size() const { return shape().size(); }
    // Vector j of sequence s, [D].
    float* vector(Index s, Index j) { return q.data() + (s * c.k + j) * shape().D(); }
    Index qrs() const { return c.steps / c.qr_interval; }
};

// The inputs and results of a pass, with all bases and R.
struct Tape {
    Buffer<float> q;       // [steps + 1][b, k, D]
    Buffer<double> r;      // [QRs, b, k, k]
    Buffer<double> log_r;  // [QRs, b, k]
    Buffer<std::int32_t> failure;
    Buffer<double> strain;
    const Problem& problem;

    Tape(Backend& backend, const Problem& p, bool keep = true)
        : q(backend, (keep ? p.c.steps + 1 : 1) * p.basis_size()),
          r(backend, Doubles((keep ? p.qrs() : 1) * p.c.b * p.c.k * p.c.k, -1.0)),
          log_r(backend, Doubles(p.qrs() * p.c.b * p.c.k, -1.0)),
          failure(backend, 2 * p.c.b),
          strain(backend, p.c.b),
          problem(p) {
        backend.copy_in(q.data(), p.q.data(), p.q.size() * sizeof(float));
    }
    float* basis(Index t) { return q.data() + t * problem.basis_size(); }
};

// The problem's constants in backend memory.
struct OnBackend {
    Constants constants;
    Buffer<float> u, w;
    OnBackend(Backend& backend, const Problem& p) : constants(backend, p.net), u(backend, p.net.u), w(backend, p.w) {}
};

inline TangentForwardCall forward_call(const Problem& p, const OnBackend& on, Tape& tape, bool keep = true) {
    const PassCase& c = p.c;
    return {.model = p.net.model,
            .reset = c.jacobian,
            .neurons = on.constants,
            .w_rec = on.w.data(),
            .first = 0,
            .steps = c.steps,
            .qr_interval = c.qr_interval,
            .u = on.u.data(),
            .q = tape.basis(0),
            .q_stride = keep ? p.basis_size() : 0,
            .r = tape.r.data(),
            .r_stride = keep ? c.b * c.k * c.k : 0,
            .log_r = tape.log_r.data(),
            .findings = {tape.failure.data(), tape.strain.data()}};
}

// The inputs and results of a backward pass.
struct BackwardCase {
    const Problem& problem;
    Buffer<float> a, e;  // [b, k, D], the adjoint of the last basis, then of the first; [steps, b, N]
    Buffer<double> weight;

    BackwardCase(Backend& backend, const Problem& p)
        : problem(p),
          a(backend, random_floats(p.basis_size(), 31)),
          e(backend, random_floats(p.c.steps * p.c.b * p.c.N, 33)),
          weight(backend, widened(random_floats(p.c.b * p.c.k, 34))) {}

    TangentBackwardCall call(const OnBackend& on, Tape& tape, Index first_counted, SumMatrix d_w_rec) {
        const PassCase& c = problem.c;
        return {.model = problem.net.model,
                .reset = c.jacobian,
                .neurons = on.constants,
                .w_rec = on.w.data(),
                .first = 0,
                .steps = c.steps,
                .qr_interval = c.qr_interval,
                .u = on.u.data(),
                .q = tape.basis(0),
                .q_stride = problem.basis_size(),
                .r = tape.r.data(),
                .weight = weight.data(),
                .first_counted = first_counted,
                .a = a.data(),
                .d_w_rec = d_w_rec,
                .e = e.data()};
    }
};

struct Adjoint {
    Floats a;  // of the first basis
    Doubles d_w_rec;
    Floats e;
};

}  // namespace spikefloss::testing_support
