// The whole tangent passes of every backend that has them, forwards and backwards, against the loop over its step
// operations; and the loop, which may be a recorded graph, against its careful form.
#include "backend/operation_test.hpp"
#include "backend/tangent_runs.hpp"
#include "core/error.hpp"
#include "lyapunov/tangent_loop.hpp"

namespace spikefloss::testing_support {
namespace {

// Neurons and vectors around the tiles of 8, from one vector to as many as there are states, every surrogate and reset.
std::vector<PassCase> pass_cases() {
    using S = Surrogate;
    using J = JacobianReset;
    return {{4, 1, 1, 1, 1, true, S::fast_sigmoid, {Reset::none, 1}, J::ignored},
            {6, 2, 3, 2, 5, true, S::arctan, {Reset::zero, 1}, J::detached},
            {4, 1, 2, 7, 8, true, S::sigmoid, {Reset::subtract, 0}, J::detached},
            {3, 1, 2, 8, 9, true, S::gaussian, {Reset::zero, 0}, J::ignored},
            {5, 5, 1, 9, 31, true, S::triangle, {Reset::none, 1}, J::detached},
            {4, 2, 2, 17, 33, true, S::fast_sigmoid, {Reset::zero, 1}, J::detached},
            {3, 1, 2, 12, 33, true, S::fast_sigmoid, {Reset::zero, 0}, J::detached},
            {4, 2, 2, 4, 16, false, S::arctan, {Reset::zero, 0}, J::detached},
            {3, 1, 2, 5, 5, false, S::sigmoid, {Reset::none, 1}, J::ignored},
            {5, 5, 2, 3, 16, false, S::arctan, {Reset::subtract, 1}, J::detached},
            {4, 2, 1, 14, 7, true, S::fast_sigmoid, {Reset::zero, 1}, J::ignored},
            {2, 1, 1, 33, 33, false, S::gaussian, {Reset::none, 1}, J::detached},
            {2, 1, 1, 64, 40, true, S::fast_sigmoid, {Reset::zero, 1}, J::ignored}};
}

// By the host's decisions. Throws if a QR fails.
Tape careful_forward(Backend& backend, const ProcessGrid& grid, const Problem& p, const OnBackend& on) {
    Tape tape(backend, p);
    const Doubles logs = TangentLoop(backend, grid, ParameterLayout({p.c.N, 1, 1}, 1, 0),
                                     plain_terms(p.c.N, p.c.N, 1).recurrent, p.shape(), false)
                             .forward_carefully(forward_call(p, on, tape), 0, nullptr);
    tape.log_r.copy_in(logs.data());
    return tape;
}

class TangentPasses : public OperationTest {
protected:
    // The whole passes for a problem. With float32 sums every backend has them, except devices on which a block has
    // less shared memory.
    spikefloss::TangentPasses whole(const Problem& p) {
        spikefloss::TangentPasses chosen = backend.tangent_passes({p.c.steps, p.shape()}, backend);
        const bool takes = backend.sums() == Sums::float32;
        const bool small = backend.name() == "cuda" && GetParam().name != "cuda_float32";
        for (const bool has : {chosen.forward.pass != nullptr, chosen.backward.pass != nullptr})
            EXPECT_TRUE(has == takes || (!has && small)) << chosen.forward.text();
        return chosen;
    }

    // The adjoint by `pass`, or by the loop.
    Adjoint backward(const Problem& p, const OnBackend& on, Tape& tape, Index first_counted, SumBuffer d_w_rec,
                     TangentBackward* pass) {
        const PassCase& c = p.c;
        BackwardCase problem(backend, p);
        const TangentBackwardCall call = problem.call(on, tape, first_counted, d_w_rec.matrix(c.N, c.N));
        if (pass)
            pass->run(call);
        else
            TangentLoop(backend, grid, ParameterLayout({c.N, 1, 1}, 1, 0), plain_terms(c.N, c.N, 1).recurrent,
                        p.shape(), true)
                .backward(call);
        return Adjoint{problem.a.to_host(), to_host(d_w_rec), problem.e.to_host()};
    }

    const ProcessGrid grid{MPI_COMM_WORLD, {1, 1}};
};
INSTANTIATE_TEST_SUITE_P(Backends, TangentPasses, testing::ValuesIn(available_pass_backends()),
                         [](const auto& instance) { return instance.param.name; });

void expect_same(const Tape& actual, const Tape& expected, const Problem& p, bool keep) {
    const PassCase& c = p.c;
    EXPECT_TRUE(all_equal(actual.failure.to_host(), std::vector<std::int32_t>(2 * c.b, 0)));
    EXPECT_TRUE(close_to(actual.log_r.to_host(), expected.log_r.to_host(), 2e-5)) << "ln R";
    const Floats q = expected.q.to_host();
    const Doubles r = expected.r.to_host();
    const Index kept_q = keep ? 0 : static_cast<Index>(q.size()) - p.basis_size();
    const Index kept_r = keep ? 0 : static_cast<Index>(r.size()) - c.b * c.k * c.k;
    EXPECT_TRUE(near_in_norm(actual.q.to_host(), Floats(q.begin() + kept_q, q.end()), 1e-5)) << "Q";
    EXPECT_TRUE(near_in_norm(actual.r.to_host(), Doubles(r.begin() + kept_r, r.end()), 1e-5)) << "R";
    // The strain from its definition and the R of all QRs.
    Doubles strain(c.b);
    for (Index at = 0; at < p.qrs() * c.b * c.k; ++at) {
        const Index j = at % c.k, s = at / c.k % c.b;
        const double* r_s = r.data() + at / c.k * c.k * c.k;
        double column = 0.0;
        for (Index i = 0; i <= j; ++i) column += r_s[i * c.k + j] * r_s[i * c.k + j];
        const double log_j = std::log(r_s[j * c.k + j]);
        strain[s] = std::max({strain[s], 0.5 * std::log(column) - log_j, std::abs(log_j) / 8.0});
    }
    EXPECT_TRUE(close_to(actual.strain.to_host(), strain, 5e-5)) << "strain";
}

TEST_P(TangentPasses, Forward) {
    for (const PassCase& c : pass_cases()) {
        SCOPED_TRACE(testing::Message() << c);
        const Problem p(c);
        const OnBackend on(backend, p);
        const Tape expected = careful_forward(backend, grid, p, on);
        const auto passes = whole(p);
        TangentLoop loop(backend, grid, ParameterLayout({c.N, 1, 1}, 1, 0), plain_terms(c.N, c.N, 1).recurrent,
                         p.shape(), false);
        for (bool keep : {true, false}) {
            if (passes.forward.pass) {
                Tape tape(backend, p, keep);
                passes.forward.pass->run(forward_call(p, on, tape, keep));
                expect_same(tape, expected, p, keep);
            }
            Tape tape(backend, p, keep);
            for (int repeat = 0; repeat < 3; ++repeat) {  // called, recorded, replayed
                tape.failure.zero(), tape.strain.zero();
                backend.copy_in(tape.q.data(), p.q.data(), p.q.size() * sizeof(float));
                loop.forward(forward_call(p, on, tape, keep));
                expect_same(tape, expected, p, keep);
            }
        }
        if (HasFailure()) return;
    }
}

// The numbers of steps before the call are in the findings, and in the names of recorded work.
TEST_P(TangentPasses, CallsAfterTheFirstSteps) {
    PassCase c{4, 2, 2, 3, 8, true, Surrogate::fast_sigmoid, {Reset::none, 1}};
    Problem p(c);
    std::fill_n(p.vector(1, 2), p.shape().D(), 0.0f);
    const OnBackend on(backend, p);
    const auto passes = whole(p);
    TangentLoop loop(backend, grid, ParameterLayout({c.N, 1, 1}, 1, 0), plain_terms(c.N, c.N, 1).recurrent, p.shape(),
                     false);
    for (Index first : {0, 7, 7, 7}) {
        for (bool use_loop : {false, true}) {
            Tape tape(backend, p);
            TangentForwardCall call = forward_call(p, on, tape);
            call.first = first;
            if (use_loop)
                loop.forward(call);
            else if (passes.forward.pass)
                passes.forward.pass->run(call);
            else
                continue;
            const auto step = static_cast<std::int32_t>(first + 2);
            EXPECT_TRUE(all_equal(tape.failure.to_host(), std::vector<std::int32_t>{0, 0, step, 3}));
        }
    }
}

TEST_P(TangentPasses, Backward) {
    for (const PassCase& c : pass_cases()) {
        SCOPED_TRACE(testing::Message() << c);
        const Problem p(c);
        const auto passes = whole(p);
        if (!passes.backward.pass) return;
        const OnBackend on(backend, p);
        Tape tape = careful_forward(backend, grid, p, on);
        for (Index first_counted : {Index{0}, (p.qrs() + 1) / 2}) {
            const Floats dw = random_floats(c.N * c.N, 35);
            const auto expected = backward(p, on, tape, first_counted, sums_on_backend(dw), nullptr),
                       actual = backward(p, on, tape, first_counted, sums_on_backend(dw), passes.backward.pass.get());
            EXPECT_TRUE(near_in_norm(actual.a, expected.a, 2e-5)) << "adjoint of the first basis";
            EXPECT_TRUE(near_in_norm(actual.d_w_rec, expected.d_w_rec, 2e-5)) << "dW_rec";
            EXPECT_TRUE(near_in_norm(actual.e, expected.e, 2e-5)) << "e";
        }
        if (HasFailure()) return;
    }
}

// Bases whose R spans many orders of magnitude: a whole pass makes a second round. The loop, which makes one round,
// reports the doubt.
TEST_P(TangentPasses, SecondRoundWhereTheFirstLeavesDoubt) {
    for (bool has_current : {true, false}) {
        const PassCase c{2, 1, 2, 5, 12, has_current, Surrogate::fast_sigmoid, {Reset::none, 1}};
        Problem p(c);
        for (Index j = 1; j < c.k; ++j)  // sequence 1: vectors closer and closer to the first
            for (Index i = 0; i < p.shape().D(); ++i)
                p.vector(1, j)[i] = p.vector(1, 0)[i] + std::pow(10.0f, -static_cast<float>(j)) * p.vector(1, j)[i];
        const OnBackend on(backend, p);
        Tape expected = careful_forward(backend, grid, p, on), once(backend, p), tape(backend, p);
        TangentLoop(backend, grid, ParameterLayout({c.N, 1, 1}, 1, 0), plain_terms(c.N, c.N, 1).recurrent, p.shape(),
                    false)
            .forward(forward_call(p, on, once));
        EXPECT_TRUE(all_equal(once.failure.to_host(), std::vector<std::int32_t>{0, 0, 1, 0}));
        const auto passes = whole(p);
        if (!passes.forward.pass) return;
        passes.forward.pass->run(forward_call(p, on, tape));
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

// The failure of sequence `s` as reported by the whole pass, by the loop and by the error of its careful form. The
// others continue.
void expect_failure(Backend& backend, const ProcessGrid& grid, const Problem& p, TangentForward* whole, Index s,
                    Index step, Index column) {
    const OnBackend on(backend, p);
    std::vector<std::int32_t> expected(2 * p.c.b, 0);
    expected[2 * s] = static_cast<std::int32_t>(step);
    expected[2 * s + 1] = static_cast<std::int32_t>(column);
    Tape by_whole(backend, p), by_loop(backend, p);
    if (whole) {
        whole->run(forward_call(p, on, by_whole));
        EXPECT_TRUE(all_equal(by_whole.failure.to_host(), expected));
    }
    TangentLoop(backend, grid, ParameterLayout({p.c.N, 1, 1}, 1, 0), plain_terms(p.c.N, p.c.N, 1).recurrent, p.shape(),
                false)
        .forward(forward_call(p, on, by_loop));
    std::vector<std::int32_t> found = by_loop.failure.to_host();
    if (found[2 * s + 1] == 0) found[2 * s + 1] = expected[2 * s + 1];  // rounding errors left a pivot > 0: doubt
    EXPECT_TRUE(all_equal(found, expected));
    std::string text;
    try {
        careful_forward(backend, grid, p, on);
    } catch (const Error& error) {
        text = error.what();
    }
    EXPECT_NE(text.find("failed at step " + std::to_string(step) + ", sequence " + std::to_string(s) + ": vector " +
                        std::to_string(column) + " of"),
              std::string::npos)
        << text;
}

TEST_P(TangentPasses, FailuresNameStepAndColumn) {
    for (bool has_current : {true, false})
        for (Index interval : {1, 3}) {
            SCOPED_TRACE(testing::Message() << "current " << has_current << ", QR every " << interval);
            const PassCase c{6, interval, 3, 4, 10, has_current, Surrogate::triangle, {Reset::none, 1}};
            {
                Problem p(c);  // a zero vector
                std::fill_n(p.vector(1, 2), p.shape().D(), 0.0f);
                expect_failure(backend, grid, p, whole(p).forward.pass.get(), 1, interval, 3);
            }
            {
                Problem p(c);  // equal vectors
                std::copy_n(p.vector(2, 0), p.shape().D(), p.vector(2, 3));
                expect_failure(backend, grid, p, whole(p).forward.pass.get(), 2, interval, 4);
            }
            {
                Problem p(c);  // NaN
                p.vector(0, 1)[7] = nan_value;
                expect_failure(backend, grid, p, whole(p).forward.pass.get(), 0, interval, 2);
            }
        }
    // Far above threshold at step 3 (of 0..5), the triangle is 0 and every membrane is reset, so all tangents
    // vanish.
    PassCase c{6, 2, 2, 3, 9, false, Surrogate::triangle, {Reset::zero, 1}};
    Problem p(c);
    for (float& u : p.net.u) u = std::min(u, 0.9f);
    std::fill_n(p.net.u.begin() + (3 * c.b + 1) * c.N, c.N, 40.0f);
    expect_failure(backend, grid, p, whole(p).forward.pass.get(), 1, 4, 1);
}

// The setting of the authors' script: one sequence, 64 neurons, 50 exponents.
TEST_P(TangentPasses, TakeTheAuthorsSetting) {
    for (bool has_current : {true, false}) {
        const PassCase c{
            2, 1, 1, 50, 64, has_current, Surrogate::fast_sigmoid, {Reset::subtract, 1}, JacobianReset::ignored};
        const Problem p(c);
        const OnBackend on(backend, p);
        const auto passes = whole(p);
        if (!passes.forward.pass || !passes.backward.pass) return;
        Tape tape(backend, p), expected = careful_forward(backend, grid, p, on);
        passes.forward.pass->run(forward_call(p, on, tape));
        EXPECT_TRUE(close_to(tape.log_r.to_host(), expected.log_r.to_host(), 5e-5));
        const Floats dw = random_floats(c.N * c.N, 35);
        const auto loop = backward(p, on, expected, 0, sums_on_backend(dw), nullptr),
                   block = backward(p, on, expected, 0, sums_on_backend(dw), passes.backward.pass.get());
        EXPECT_TRUE(near_in_norm(block.d_w_rec, loop.d_w_rec, 5e-5));
        EXPECT_TRUE(near_in_norm(block.e, loop.e, 5e-5));
    }
}

// The loop keeps steps for one product with many rows. What an interrupted pass has kept is not of the next one.
TEST_P(TangentPasses, BackwardAfterAnInterruption) {
    if (!backend.is_host() || backend.sums() == Sums::float32) return;  // sums in double show every addend
    const Problem p({.steps = 3000, .qr_interval = 100, .b = 1, .k = 1, .N = 400, .has_current = true});
    const OnBackend on(backend, p);
    Tape tape = careful_forward(backend, grid, p, on);
    const auto run = [&](bool interrupt) {
        BackwardCase problem(backend, p);
        SumBuffer d_w_rec(backend, p.c.N * p.c.N);
        const auto call = problem.call(on, tape, 0, d_w_rec.matrix(p.c.N, p.c.N));
        TangentLoop loop(backend, grid, ParameterLayout({p.c.N, 1, 1}, 1, 0), plain_terms(p.c.N, p.c.N, 1).recurrent,
                         p.shape(), true);
        loop.begin_backward({});
        if (interrupt) {
            struct Interrupted {};
            backend.set_check([] { throw Interrupted(); });  // after 40 ms
            EXPECT_THROW(loop.backward(call), Interrupted);
            backend.set_check(nullptr);
            problem.a.copy_in(random_floats(p.basis_size(), 31).data());
            d_w_rec.zero();
            loop.begin_backward({});
        }
        loop.backward(call);
        return to_host(d_w_rec);
    };
    EXPECT_TRUE(all_equal(run(true), run(false)));
}

// Networks and numbers of vectors that a whole pass does not take: the choice tells its limits, and the loop fits.
TEST_P(TangentPasses, NameTheirLimits) {
    const auto chosen = backend.tangent_passes({1, {1, 65, 8192, true}}, backend);
    EXPECT_FALSE(chosen.forward.pass);
    EXPECT_EQ(chosen.forward.text().find("loop over steps (whole recurrence is taken "), 0u) << chosen.forward.text();
}

}  // namespace
}  // namespace spikefloss::testing_support
