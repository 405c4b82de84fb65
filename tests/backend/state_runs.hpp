// One chunk of the state on one rank, forwards and backwards: by the whole passes of a backend, or by StateLoop, the
// reference of all of them.
#pragma once

#include "backend/operation_test.hpp"
#include "network/state_loop.hpp"

#include <algorithm>
#include <optional>

namespace spikefloss::testing_support {

inline const ProcessGrid& one_rank() {
    static const ProcessGrid grid(MPI_COMM_SELF, {1, 1});
    return grid;
}

// The inputs of both directions.
struct StateCase {
    StatePlan plan;
    Neurons net;  // with u[0]
    Readout readout = Readout::membrane;
    bool has_dz = true, has_extra = false, squares = true;
    float adjoint_limit = 0.0f;  // 0: off
    Floats w_rec, w_in, w_out, x, i0, di, du, dw, dz, extra;
    Floats sums;  // what the sums of the gradients start with, all alike

    // Recurrent sums, and those of the inputs, are exact in any order: spikes and states must agree in every bit.
    StateCase(StatePlan plan_, NeuronModel model, const Extras& extras = {})
        : plan(plan_),
          net(model, plan.b, plan.N, 1, extras),
          w_rec(dyadic_floats(plan.N * plan.N, 1)),
          w_in(dyadic_floats(plan.N * plan.M, 2)),
          w_out(random_floats(plan.O * plan.N, 3)),
          x(dyadic_floats(plan.steps * plan.b * plan.M, 4)),
          i0(random_floats(plan.b * plan.N, 5)),
          di(random_floats(plan.b * plan.N, 6)),
          du(random_floats(plan.b * plan.N, 7)),
          dw(random_floats(static_cast<Index>(net.w.size()), 11)),
          dz(random_floats(plan.steps * plan.b * plan.O, 8)),
          extra(random_floats((plan.steps + 1) * plan.b * plan.N, 9)),
          sums(random_floats(plan.N * std::max({plan.N, plan.M, plan.O, Index{1}}), 10)) {
        plan.adapted = net.adapts() || extras.own_thresholds;
        for (float& w : w_rec) w *= 0.25f;
        for (Floats* values : {&w_in, &x})
            for (float& value : *values) value = std::round(value * 32.0f) / 32.0f;
    }
};

struct StateResults {
    Floats i, u, w, y, di, du, dw;
    std::vector<std::uint32_t> bits;
    Doubles squares, d_w_rec, d_w_in, d_w_out, d_bias;
};

// The arrays of a case on a backend, with calls on them. `run` may be called again, after changes of the arrays.
class StateRun {
public:
    enum class How { loop, whole_passes };

    StateRun(Backend& backend, const StateCase& c, How how, bool keep_currents = true)
        : i(backend, (keep_currents ? c.plan.steps + 1 : 1) * c.plan.b * c.plan.N),
          u(backend, (c.plan.steps + 1) * c.plan.b * c.plan.N),
          w(backend, c.net.adapts() ? u.size() : 0),
          y(backend, c.plan.steps * c.plan.b * c.plan.O),
          di(backend, c.di),
          du(backend, c.du),
          dw(backend, c.dw),
          x(backend, c.x),
          dz(backend, c.dz),
          extra(backend, c.extra),
          limit(backend, Floats{c.adjoint_limit}),
          squares(backend, Doubles((c.plan.steps + 1) * c.plan.b, -1.0)),
          d_w_rec(backend, c.plan.N * c.plan.N),
          d_w_in(backend, c.plan.N * c.plan.M),
          d_w_out(backend, c.plan.O * c.plan.N),
          d_bias(backend, c.plan.N),
          spikes(backend, one_rank(), c.plan.N, c.plan.steps, c.plan.b),
          backend_(backend),
          case_(c),
          w_rec_(backend, c.w_rec),
          w_in_(backend, c.w_in),
          w_out_(backend, c.w_out),
          constants_(backend, c.net) {
        if (how == How::whole_passes) passes = backend.state_passes(c.plan, backend);
        if (!passes.forward.pass || !passes.backward.pass)
            loop_.emplace(backend, one_rank(), c.plan, c.plan.N, plain_terms(c.plan.N, c.plan.N, c.plan.M),
                          c.net.adapts());
        start();
    }

    // The state before the first step, the adjoints after the last one, and the sums.
    void start() {
        const auto copy = [&](void* to, const auto& from) {
            if (!from.empty()) backend_.copy_in(to, from.data(), from.size() * sizeof(from[0]));
        };
        copy(u.data(), case_.net.u);
        copy(i.data(), case_.i0);
        copy(w.data(), case_.net.w);
        copy(di.data(), case_.di);
        copy(du.data(), case_.du);
        copy(dw.data(), case_.dw);
        spikes.write(case_.net.model, constants_, 0, {nullptr, u.data(), adaptation(w)});
        for (SumBuffer* sum : {&d_w_rec, &d_w_in, &d_w_out, &d_bias}) {
            const Floats first(case_.sums.begin(), case_.sums.begin() + sum->size());
            if (sum->type() == Scalar::float32)
                copy(sum->data(), first);
            else
                copy(sum->data(), widened(first));
        }
    }

    void forward() {
        const StatePlan& p = case_.plan;
        const StateForwardCall call{.steps = p.steps,
                                    .model = case_.net.model,
                                    .neurons = constants_,
                                    .readout = case_.readout,
                                    .w_in = w_in_.data(),
                                    .w_rec = w_rec_.data(),
                                    .w_out = w_out_.data(),
                                    .x = x.data(),
                                    .i = i.data(),
                                    .i_stride = i.size() > p.b * p.N ? p.b * p.N : 0,
                                    .u = u.data(),
                                    .w = adaptation(w),
                                    .bits = spikes.bits(0),
                                    .y = Matrix<float>(y.data(), p.steps * p.b, p.O),
                                    .again = false};
        passes.forward.pass ? passes.forward.pass->run(call) : loop_->forward(call, spikes, 0);
    }

    void backward() {
        const StatePlan& p = case_.plan;
        const StateBackwardCall call{.steps = p.steps,
                                     .model = case_.net.model,
                                     .neurons = constants_,
                                     .readout = case_.readout,
                                     .w_rec = w_rec_.data(),
                                     .w_out = w_out_.data(),
                                     .x = x.data(),
                                     .u = u.data(),
                                     .bits = spikes.bits(0),
                                     .dz = case_.has_dz ? dz.data() : nullptr,
                                     .extra = case_.has_extra ? extra.data() : nullptr,
                                     .squares = case_.squares ? squares.data() : nullptr,
                                     .adjoint_limit = case_.adjoint_limit > 0.0f ? limit.data() : nullptr,
                                     .di = di.data(),
                                     .du = du.data(),
                                     .d_w_in = d_w_in.matrix(p.N, p.M),
                                     .d_w_rec = d_w_rec.matrix(p.N, p.N),
                                     .d_w_out = d_w_out.matrix(p.O, p.N),
                                     .d_bias = d_bias.matrix(1, p.N),
                                     .i = nullptr,
                                     .w = adaptation(w),
                                     .dw = adaptation(dw)};
        passes.backward.pass ? passes.backward.pass->run(call, nullptr) : loop_->backward(call, spikes, 0, nullptr);
    }

    StateResults results() {
        std::vector<std::uint32_t> bits(spikes.bytes() / sizeof(std::uint32_t));
        if (!bits.empty()) backend_.copy_out(bits.data(), spikes.bits(0), spikes.bytes());
        return {i.to_host(), u.to_host(),       w.to_host(),   y.to_host(),  di.to_host(),  du.to_host(), dw.to_host(),
                bits,        squares.to_host(), host(d_w_rec), host(d_w_in), host(d_w_out), host(d_bias)};
    }

    StatePasses passes;
    Buffer<float> i, u, w, y, di, du, dw, x, dz, extra, limit;
    Buffer<double> squares;
    SumBuffer d_w_rec, d_w_in, d_w_out, d_bias;
    SpikeTape spikes;

private:
    float* adaptation(Buffer<float>& buffer) { return case_.net.adapts() ? buffer.data() : nullptr; }
    Doubles host(SumBuffer& sums) {
        Buffer<float> rounded(backend_, sums.size());
        backend_.round_sums(sums.data(), rounded.data(), sums.size());
        return widened(rounded.to_host());
    }

    Backend& backend_;
    StateCase case_;
    Buffer<float> w_rec_, w_in_, w_out_;
    Constants constants_;
    std::optional<StateLoop> loop_;
};

inline StateResults run_state(Backend& backend, const StateCase& c, StateRun::How how) {
    StateRun run(backend, c, how);
    run.forward();
    run.backward();
    return run.results();
}

inline void expect_same_states(const StateResults& results, const StateResults& expected) {
    EXPECT_TRUE(all_equal(results.bits, expected.bits)) << "spikes";
    EXPECT_TRUE(all_equal(results.u, expected.u)) << "u";
    EXPECT_TRUE(all_equal(results.i, expected.i)) << "i";
    EXPECT_TRUE(all_equal(results.w, expected.w)) << "w";
}

inline void expect_near_adjoints(const StateResults& results, const StateResults& expected, double tolerance) {
    EXPECT_TRUE(near_in_norm(results.di, expected.di, tolerance)) << "di";
    EXPECT_TRUE(near_in_norm(results.du, expected.du, tolerance)) << "du";
    EXPECT_TRUE(near_in_norm(results.dw, expected.dw, tolerance)) << "dw";
    EXPECT_TRUE(near_in_norm(results.squares, expected.squares, 4e-6)) << "squares";
    if (expected.d_bias.size() == 1) {  // sums of one number, which can cancel: all together
        const auto joined = [](const StateResults& r) {
            Doubles all = r.d_w_rec;
            for (const Doubles* sums : {&r.d_w_in, &r.d_w_out, &r.d_bias})
                all.insert(all.end(), sums->begin(), sums->end());
            return all;
        };
        EXPECT_TRUE(near_in_norm(joined(results), joined(expected), tolerance)) << "dW and db of one neuron";
        return;
    }
    EXPECT_TRUE(near_in_norm(results.d_w_rec, expected.d_w_rec, tolerance)) << "dW_rec";
    EXPECT_TRUE(near_in_norm(results.d_w_in, expected.d_w_in, tolerance)) << "dW_in";
    EXPECT_TRUE(near_in_norm(results.d_w_out, expected.d_w_out, tolerance)) << "dW_out";
    EXPECT_TRUE(near_in_norm(results.d_bias, expected.d_bias, tolerance)) << "db";
}

}  // namespace spikefloss::testing_support
