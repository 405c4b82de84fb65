// The whole tangent passes of every backend that has them, forwards and backwards, against the loop over its step
// operations with the QR of lyapunov/qr.cpp.
#include "backend/operation_test.hpp"
#include "core/error.hpp"
#include "lyapunov/qr.hpp"

#include <optional>

namespace spikefloss::testing_support {
namespace {

struct PassCase {
    Index steps, qr_interval, b, k, N;
    bool has_current;
    Surrogate surrogate = Surrogate::fast_sigmoid;
    Reset reset = Reset::zero;
    JacobianReset jacobian = JacobianReset::detached;
};

std::ostream& operator<<(std::ostream& out, const PassCase& c) {
    return out << "steps " << c.steps << ", QR every " << c.qr_interval << ", b " << c.b << ", k " << c.k << ", N "
               << c.N << ", current " << c.has_current << ", surrogate " << int(c.surrogate) << ", reset "
               << int(c.reset) << ", Jacobian " << int(c.jacobian);
}

// Neurons and vectors around the tiles of 8, from one vector to as many as there are states, every surrogate and reset.
std::vector<PassCase> pass_cases() {
    using S = Surrogate;
    using J = JacobianReset;
    return {{4, 1, 1, 1, 1, true, S::fast_sigmoid, Reset::none, J::ignored},
            {6, 2, 3, 2, 5, true, S::arctan, Reset::zero, J::detached},
            {4, 1, 2, 7, 8, true, S::sigmoid, Reset::subtract, J::detached},
            {3, 1, 2, 8, 9, true, S::gaussian, Reset::zero, J::ignored},
            {5, 5, 1, 9, 31, true, S::triangle, Reset::none, J::detached},
            {4, 2, 2, 17, 33, true, S::fast_sigmoid, Reset::zero, J::detached},
            {3, 1, 2, 5, 5, false, S::sigmoid, Reset::none, J::ignored},
            {5, 5, 2, 3, 16, false, S::arctan, Reset::subtract, J::detached},
            {4, 2, 1, 14, 7, true, S::fast_sigmoid, Reset::zero, J::ignored},
            {2, 1, 1, 33, 33, false, S::gaussian, Reset::none, J::detached},
            {2, 1, 1, 64, 40, true, S::fast_sigmoid, Reset::zero, J::ignored}};
}

// A network and bases of one case. The beta of every neuron is well above 0, so that no direction is lost.
struct Problem {
    PassCase c;
    Neurons net;
    Floats w, q;  // [N, N]; [b, k, D]

    explicit Problem(const PassCase& c_, std::uint64_t seed = 1)
        : c(c_),
          net({.threshold = 1.0f, .reset = c.reset, .surrogate = c.surrogate, .sharpness = 0.3f}, c.steps * c.b, c.N,
              seed),
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
    const Problem& problem;

    Tape(Backend& backend, const Problem& p, bool keep = true)
        : q(backend, (keep ? p.c.steps + 1 : 1) * p.basis_size()),
          r(backend, Doubles((keep ? p.qrs() : 1) * p.c.b * p.c.k * p.c.k, -1.0)),
          log_r(backend, Doubles(p.qrs() * p.c.b * p.c.k, -1.0)),
          failure(backend, std::vector<std::int32_t>(2 * p.c.b, -1)),
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

// Throws if a QR fails, as lyapunov/qr.cpp does.
Tape loop_forward(Backend& backend, const ProcessGrid& grid, const Problem& p, const OnBackend& on) {
    const PassCase& c = p.c;
    Tape tape(backend, p);
    Buffer<float> x(backend, p.part()), product(backend, p.part());
    TangentQr qr(backend, grid, p.shape());
    Doubles all_logs;
    for (Index t = 0; t < c.steps; ++t) {
        const float* u = on.u.data() + t * c.b * c.N;
        backend.tangent_input(p.net.model, p.shape(), u, tape.basis(t), x.data());
        backend.project({c.N, c.N, on.w.data(), c.N}, {.values = x.data(), .stride = c.N},
                        Matrix<float>(product.data(), c.b * c.k, c.N), false);
        backend.tangent_step(p.net.model, c.jacobian, on.constants, p.shape(), u, product.data(), tape.basis(t),
                             tape.basis(t + 1));
        if ((t + 1) % c.qr_interval != 0) continue;
        Doubles logs(c.b * c.k);
        qr.factorise(t + 1, 0, tape.basis(t + 1), tape.r.data() + ((t + 1) / c.qr_interval - 1) * c.b * c.k * c.k,
                     logs.data());
        all_logs.insert(all_logs.end(), logs.begin(), logs.end());
    }
    tape.log_r.copy_in(all_logs.data());
    return tape;
}

bool whole_forward(Backend& backend, const Problem& p, const OnBackend& on, Tape& tape, bool keep, Index rounds) {
    const PassCase& c = p.c;
    const TangentSteps pass{c.steps,
                            c.qr_interval,
                            rounds,
                            c.jacobian,
                            on.u.data(),
                            tape.basis(0),
                            keep ? p.basis_size() : 0,
                            tape.r.data(),
                            keep ? c.b * c.k * c.k : 0,
                            tape.log_r.data(),
                            tape.failure.data()};
    return backend.tangent_steps(p.net.model, on.constants, p.shape(), on.w.data(), pass);
}

class TangentPasses : public OperationTest {
protected:
    // Whether this backend must have whole tangent passes. If another backend has them, they are compared, too.
    bool must_take() const { return backend.sums() == Sums::float32; }
    // Whether the backend has whole tangent passes. It is a failure if it must have them and does not.
    bool takes_passes() {
        const Problem p(pass_cases().front());
        const OnBackend on(backend, p);
        Tape tape(backend, p);
        const bool taken = whole_forward(backend, p, on, tape, true, 2);
        EXPECT_TRUE(taken || !must_take());
        return taken;
    }
    const ProcessGrid grid{MPI_COMM_WORLD, {1, 1}};
};
INSTANTIATE_TEST_SUITE_P(Backends, TangentPasses, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(TangentPasses, Forward) {
    for (const PassCase& c : pass_cases()) {
        SCOPED_TRACE(testing::Message() << c);
        const Problem p(c);
        const OnBackend on(backend, p);
        std::optional<Tape> expected;
        for (bool keep : {true, false}) {
            Tape tape(backend, p, keep);
            const bool taken = whole_forward(backend, p, on, tape, keep, 2);
            EXPECT_TRUE(taken || !must_take());
            if (!taken) continue;
            if (!expected) expected.emplace(loop_forward(backend, grid, p, on));
            EXPECT_TRUE(all_equal(tape.failure.to_host(), std::vector<std::int32_t>(2 * c.b, 0)));
            EXPECT_TRUE(close_to(tape.log_r.to_host(), expected->log_r.to_host(), 2e-5)) << "ln R";
            const Floats q = expected->q.to_host();
            const Doubles r = expected->r.to_host();
            if (keep) {
                EXPECT_TRUE(near_in_norm(tape.q.to_host(), q, 1e-5)) << "Q";
                EXPECT_TRUE(near_in_norm(tape.r.to_host(), r, 1e-5)) << "R";
            } else {
                EXPECT_TRUE(near_in_norm(tape.q.to_host(), Floats(q.end() - p.basis_size(), q.end()), 1e-5))
                    << "last Q";
                EXPECT_TRUE(near_in_norm(tape.r.to_host(), Doubles(r.end() - c.b * c.k * c.k, r.end()), 1e-5))
                    << "last R";
            }
        }
        if (HasFailure()) return;
    }
}

struct Adjoint {
    Floats a;  // of the first basis
    Doubles d_w_rec;
    Floats e;
};

// The adjoint by the loop or by the whole pass. Nothing if the backend has no such whole pass.
std::optional<Adjoint> backward(Backend& backend, const ProcessGrid& grid, const Problem& p, const OnBackend& on,
                                Tape& tape, Index first_counted, SumBuffer d_w_rec, bool whole) {
    const PassCase& c = p.c;
    Buffer<float> a(backend, random_floats(p.basis_size(), 31)), e(backend, random_floats(c.steps * c.b * c.N, 33));
    const Buffer<double> weight(backend, widened(random_floats(c.b * c.k, 34))), none(backend, c.b * c.k);
    const SumMatrix dw = d_w_rec.matrix(c.N, c.N);
    if (whole) {
        const TangentStepsBackward pass{
            c.steps,       c.qr_interval, c.jacobian, on.u.data(), tape.basis(0), p.basis_size(), tape.r.data(),
            weight.data(), first_counted, a.data(),   dw,          e.data()};
        if (!backend.tangent_steps_backward(p.net.model, on.constants, p.shape(), on.w.data(), pass))
            return std::nullopt;
    } else {
        Buffer<float> x(backend, p.part()), g(backend, p.part()), back(backend, p.part());
        TangentQr qr(backend, grid, p.shape());
        for (Index t = c.steps; t-- > 0;) {
            const float* u = on.u.data() + t * c.b * c.N;
            const Index index = (t + 1) / c.qr_interval - 1, rows = c.b * c.k;
            if ((t + 1) % c.qr_interval == 0)
                qr.backward(tape.basis(t + 1), tape.r.data() + index * rows * c.k,
                            index >= first_counted ? weight.data() : none.data(), a.data());
            backend.tangent_step_backward(p.net.model, c.jacobian, on.constants, p.shape(), u, a.data(), g.data(),
                                          nullptr);
            backend.tangent_input(p.net.model, p.shape(), u, tape.basis(t), x.data());
            backend.add_outer({g.data(), rows, c.N}, {.values = x.data(), .stride = c.N}, dw);
            backend.project_transposed({c.N, c.N, on.w.data(), c.N}, {g.data(), rows, c.N},
                                       Matrix<float>(back.data(), rows, c.N), false);
            backend.tangent_input_backward(p.net.model, on.constants, p.shape(), u, tape.basis(t), back.data(),
                                           g.data(), a.data(), e.data() + t * c.b * c.N);
        }
    }
    Doubles dw_host(c.N * c.N);
    Floats narrow(c.N * c.N);
    if (dw.type == Scalar::float64) {
        backend.copy_out(dw_host.data(), dw.data, dw_host.size() * sizeof(double));
    } else {
        backend.copy_out(narrow.data(), dw.data, narrow.size() * sizeof(float));
        dw_host = widened(narrow);
    }
    return Adjoint{a.to_host(), dw_host, e.to_host()};
}

TEST_P(TangentPasses, Backward) {
    for (const PassCase& c : pass_cases()) {
        SCOPED_TRACE(testing::Message() << c);
        if (!takes_passes()) return;
        const Problem p(c);
        const OnBackend on(backend, p);
        Tape tape = loop_forward(backend, grid, p, on);
        for (Index first_counted : {Index{0}, (p.qrs() + 1) / 2}) {
            const Floats dw = random_floats(c.N * c.N, 35);
            const auto expected = backward(backend, grid, p, on, tape, first_counted, sums_on_backend(dw), false);
            const auto actual = backward(backend, grid, p, on, tape, first_counted, sums_on_backend(dw), true);
            ASSERT_TRUE(actual && expected);
            EXPECT_TRUE(near_in_norm(actual->a, expected->a, 2e-5)) << "adjoint of the first basis";
            EXPECT_TRUE(near_in_norm(actual->d_w_rec, expected->d_w_rec, 2e-5)) << "dW_rec";
            EXPECT_TRUE(near_in_norm(actual->e, expected->e, 2e-5)) << "e";
        }
        if (HasFailure()) return;
    }
}

// Bases whose R spans many orders of magnitude: there is a second round if the ratio is too large. If the backend does
// not decide this itself, a pass with one round reports it.
TEST_P(TangentPasses, SecondRoundWhereTheFirstLeavesDoubt) {
    if (!takes_passes()) return;
    for (bool has_current : {true, false}) {
        const PassCase c{2, 1, 2, 5, 12, has_current, Surrogate::fast_sigmoid, Reset::none};
        Problem p(c);
        for (Index j = 1; j < c.k; ++j)  // sequence 1: vectors closer and closer to the first
            for (Index i = 0; i < p.shape().D(); ++i)
                p.vector(1, j)[i] = p.vector(1, 0)[i] + std::pow(10.0f, -static_cast<float>(j)) * p.vector(1, j)[i];
        const OnBackend on(backend, p);
        Tape expected = loop_forward(backend, grid, p, on), tape(backend, p);
        ASSERT_TRUE(whole_forward(backend, p, on, tape, true, 2));
        EXPECT_TRUE(all_equal(tape.failure.to_host(), std::vector<std::int32_t>(4, 0)));
        EXPECT_TRUE(close_to(tape.log_r.to_host(), expected.log_r.to_host(), 2e-2));
        // R of step and sequence. In the first step only 1e-4 was left of the vectors of sequence 1. In its second step
        // a float therefore has their directions with an error of 6e-4 (6e-8 / 1e-4), and other orders of summation,
        // also of BLAS on other processors, give other directions.
        const Doubles r = tape.r.to_host(), r_expected = expected.r.to_host();
        for (Index qr = 0; qr < c.steps * c.b; ++qr) {
            const auto part = [&](const Doubles& all) {
                return Doubles(all.begin() + qr * c.k * c.k, all.begin() + (qr + 1) * c.k * c.k);
            };
            const bool uncertain = qr == c.b + 1;
            EXPECT_TRUE(near_in_norm(part(r), part(r_expected), uncertain ? 1e-3 : 1e-6))
                << "step " << qr / c.b << ", sequence " << qr % c.b;
        }
        Buffer<double> gram(backend, c.b * c.k * c.k);
        backend.gram(p.shape(), tape.basis(1), tape.basis(1), gram.data());
        Doubles identity(c.b * c.k * c.k);
        for (Index i = 0; i < c.b * c.k; ++i) identity[i * c.k + i % c.k] = 1.0;
        EXPECT_TRUE(close_to(gram.to_host(), identity, 1e-6)) << "Q'Q";
    }
}

// The failure of sequence `s` as reported by the whole pass and by the error of the loop. The others continue.
void expect_failure(Backend& backend, const ProcessGrid& grid, const Problem& p, Index s, Index step, Index column) {
    const OnBackend on(backend, p);
    Tape tape(backend, p);
    ASSERT_TRUE(whole_forward(backend, p, on, tape, true, 2));
    std::vector<std::int32_t> expected(2 * p.c.b, 0);
    expected[2 * s] = static_cast<std::int32_t>(step);
    expected[2 * s + 1] = static_cast<std::int32_t>(column);
    EXPECT_TRUE(all_equal(tape.failure.to_host(), expected));
    std::string text;
    try {
        loop_forward(backend, grid, p, on);
    } catch (const Error& error) {
        text = error.what();
    }
    EXPECT_NE(text.find("failed at step " + std::to_string(step) + ", sequence " + std::to_string(s) + ": vector " +
                        std::to_string(column) + " of"),
              std::string::npos)
        << text;
}

TEST_P(TangentPasses, FailuresNameStepAndColumn) {
    if (!takes_passes()) return;
    for (bool has_current : {true, false})
        for (Index interval : {1, 3}) {
            SCOPED_TRACE(testing::Message() << "current " << has_current << ", QR every " << interval);
            const PassCase c{6, interval, 3, 4, 10, has_current, Surrogate::triangle, Reset::none};
            {
                Problem p(c);  // a zero vector
                std::fill_n(p.vector(1, 2), p.shape().D(), 0.0f);
                expect_failure(backend, grid, p, 1, interval, 3);
            }
            {
                Problem p(c);  // equal vectors
                std::copy_n(p.vector(2, 0), p.shape().D(), p.vector(2, 3));
                expect_failure(backend, grid, p, 2, interval, 4);
            }
            {
                Problem p(c);  // NaN
                p.vector(0, 1)[7] = nan_value;
                expect_failure(backend, grid, p, 0, interval, 2);
            }
        }
    // Far above threshold at step 3 (of 0..5), the triangle is 0 and every membrane is reset, so all tangents
    // vanish.
    PassCase c{6, 2, 2, 3, 9, false, Surrogate::triangle, Reset::zero};
    Problem p(c);
    for (float& u : p.net.u) u = std::min(u, 0.9f);
    std::fill_n(p.net.u.begin() + (3 * c.b + 1) * c.N, c.N, 40.0f);
    expect_failure(backend, grid, p, 1, 4, 1);
}

// Networks too large for a block: step by step, where a second round must be requested; repeated, as a recorded graph.
TEST_P(TangentPasses, NetworksLargerThanABlock) {
    if (!takes_passes()) return;
    const PassCase c{2, 1, 2, 3, 300, true, Surrogate::fast_sigmoid, Reset::none};
    Problem p(c);
    const OnBackend on(backend, p);
    Tape expected = loop_forward(backend, grid, p, on), tape(backend, p);
    const Floats dw = random_floats(c.N * c.N, 35);
    const auto adjoint = backward(backend, grid, p, on, expected, 1, sums_on_backend(dw), false);
    for (int repeat = 0; repeat < 3; ++repeat) {
        ASSERT_TRUE(whole_forward(backend, p, on, tape, true, 1));
        EXPECT_TRUE(all_equal(tape.failure.to_host(), std::vector<std::int32_t>(4, 0)));
        EXPECT_TRUE(close_to(tape.log_r.to_host(), expected.log_r.to_host(), 1e-5));
        EXPECT_TRUE(near_in_norm(tape.q.to_host(), expected.q.to_host(), 1e-5));
        const auto actual = backward(backend, grid, p, on, expected, 1, sums_on_backend(dw), true);
        ASSERT_TRUE(actual && adjoint);
        EXPECT_TRUE(near_in_norm(actual->a, adjoint->a, 1e-5));
        EXPECT_TRUE(near_in_norm(actual->d_w_rec, adjoint->d_w_rec, 1e-5));
        EXPECT_TRUE(near_in_norm(actual->e, adjoint->e, 1e-5));
    }
    // Nearly parallel vectors in sequence 1.
    for (Index i = 0; i < p.shape().D(); ++i) p.vector(1, 2)[i] = p.vector(1, 0)[i] + 1e-4f * p.vector(1, 2)[i];
    Tape once(backend, p), twice(backend, p), reference = loop_forward(backend, grid, p, on);
    ASSERT_TRUE(whole_forward(backend, p, on, once, true, 1));
    if (backend.name() == "cuda") {  // a backend that chooses the rounds itself does not report this
        EXPECT_TRUE(all_equal(once.failure.to_host(), std::vector<std::int32_t>{0, 0, 1, 0}));
    }
    ASSERT_TRUE(whole_forward(backend, p, on, twice, true, 2));
    EXPECT_TRUE(all_equal(twice.failure.to_host(), std::vector<std::int32_t>(4, 0)));
    EXPECT_TRUE(close_to(twice.log_r.to_host(), reference.log_r.to_host(), 1e-4));
    EXPECT_TRUE(near_in_norm(twice.r.to_host(), reference.r.to_host(), 1e-5));
    // A lost vector.
    std::fill_n(p.vector(0, 1), p.shape().D(), 0.0f);
    expect_failure(backend, grid, p, 0, 1, 2);
}

// The setting of the authors' script: one sequence, 64 neurons, 50 exponents.
TEST_P(TangentPasses, TakeTheAuthorsSetting) {
    for (bool has_current : {true, false}) {
        const PassCase c{
            2, 1, 1, 50, 64, has_current, Surrogate::fast_sigmoid, Reset::subtract, JacobianReset::ignored};
        const Problem p(c);
        const OnBackend on(backend, p);
        Tape tape(backend, p);
        const bool taken = whole_forward(backend, p, on, tape, true, 2);
        ASSERT_TRUE(taken || !must_take());
        if (!taken) return;
        Tape expected = loop_forward(backend, grid, p, on);
        EXPECT_TRUE(close_to(tape.log_r.to_host(), expected.log_r.to_host(), 5e-5));
        const Floats dw = random_floats(c.N * c.N, 35);
        const auto loop = backward(backend, grid, p, on, expected, 0, sums_on_backend(dw), false),
                   whole = backward(backend, grid, p, on, expected, 0, sums_on_backend(dw), true);
        ASSERT_TRUE(loop && whole);
        EXPECT_TRUE(near_in_norm(whole->d_w_rec, loop->d_w_rec, 5e-5));
        EXPECT_TRUE(near_in_norm(whole->e, loop->e, 5e-5));
    }
}

}  // namespace
}  // namespace spikefloss::testing_support
