// The backward pass of networks whose W_rec does not fit into shared memory: the operations of a step, and W' g by int8
// digits (digits.hpp), recorded as a graph.
//
//   W [post, pre] = 2^(e_post - bits) q,   g 2^e_post = 2^(e_s - bits) p [b, post]   (e_s: of a sequence and step)
//   W' g = 2^(e_s - 2 bits) sum over post of q p
#include "digits.cuh"
#include "passes.hpp"

#include "backend/buffer.hpp"
#include "backend/recorded_calls.hpp"

namespace spikefloss {
namespace {

// back [b, N] from the sums of products of digits: for each digit a of W in turn [count - a, rows, side], with the
// digits c < count - a of g.
__global__ void join_digits_kernel(const std::int32_t* sums, Index rows, Index b, Index N, Index side, int count,
                                   const std::uint32_t* magnitude, float* back) {
    for (Index at = first_element(); at < b * N; at += element_stride()) {
        const Index s = at / N, i = at % N;
        long long total = 0;
        const std::int32_t* of_digit = sums + s * side + i;
        for (int a = 0; a < count; ++a)
            for (int c = 0; c < count - a; ++c, of_digit += rows * side)
                total += static_cast<long long>(*of_digit) << (8 * (count - 1 - a - c));
        const int power = exponent_of(magnitude[s]) - 2 * bits_of(count) + 8 * (count - 1);
        back[at] = scaled(static_cast<float>(total), magnitude[s], power);
    }
}

class DigitsBackward final : public StateBackward {
public:
    DigitsBackward(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          side_(digit_stride(plan.N)),
          count_(digits_of(backend.precision())),
          w_magnitudes_(memory, plan.N),
          g_magnitudes_(memory, plan.b),
          w_(memory, count_ * side_ * side_, Unset()),
          g_(memory, count_ * digit_stride(plan.b) * side_, Unset()),
          sums_(memory, count_ * (count_ + 1) / 2 * digit_stride(plan.b) * side_, Unset()),
          adjoint_(memory, plan.steps * plan.b * plan.N),
          back_(memory, plan.b * plan.N),
          squares_(memory, plan.b),
          calls_(backend) {}

    void run(const StateBackwardCall& call, const std::function<void()>& recurrent_done) override {
        run_backward(
            backend_, plan_, call, adjoint_.data(), [&] { calls_.run(call, [&] { take_steps(call); }); },
            recurrent_done);
    }

private:
    void take_steps(const StateBackwardCall& call) {
        const Index b = plan_.b, N = plan_.N;
        row_magnitudes(backend_.stream(), {call.w_rec, N, N}, nullptr, w_magnitudes_.data());
        split_digits(backend_.stream(), {call.w_rec, N, N}, {w_magnitudes_.data(), nullptr}, true, count_, w_.data());
        const StateAdjoint d{call.di, call.du, nullptr};
        const auto state = [&](Index t) -> NeuronState { return {nullptr, call.u + t * b * N}; };
        const auto add = [&](Index t, const float* back, const float* from_readout, const float* extra) {
            if (back || from_readout || extra)
                backend_.add_adjoints(call.model, call.neurons, call.readout, b, N, state(t), back, nullptr,
                                      from_readout, extra, d, {});
        };
        for (Index t = call.steps; t >= 1; --t) {
            float* const g = adjoint_.data() + (t - 1) * b * N;
            add(t, t < call.steps ? back_.data() : nullptr, call.dz ? g : nullptr,
                call.extra ? call.extra + t * b * N : nullptr);
            if (call.squares || call.adjoint_limit) cap(call, t);
            backend_.neuron_step_backward(call.model, call.neurons, b, N, state(t - 1), state(t), d, g, nullptr, {});
            multiply(g);
        }
        add(0, back_.data(), nullptr, nullptr);
    }
    // |(di, du)|^2 of each sequence at step t, and the cap.
    void cap(const StateBackwardCall& call, Index t) {
        double* const squares = call.squares ? call.squares + t * plan_.b : squares_.data();
        backend_.row_sum_squares(plan_.b, plan_.N, call.di, call.du, nullptr, squares);
        if (call.adjoint_limit)
            backend_.cap_rows(plan_.b, plan_.N, squares, call.adjoint_limit, call.di, call.du, nullptr);
    }
    // back = W' g.
    void multiply(const float* g) {
        const Index b = plan_.b, N = plan_.N;
        row_magnitudes(backend_.stream(), {g, b, N}, w_magnitudes_.data(), g_magnitudes_.data());
        split_digits(backend_.stream(), {g, b, N}, {g_magnitudes_.data(), w_magnitudes_.data()}, false, count_,
                     g_.data());
        const Index rows = digit_stride(b);  // of a digit of g
        std::int32_t* sums = sums_.data();
        for (int a = 0; a < count_; ++a) {
            const Index n = (count_ - a) * rows;
            digit_product(backend_.blas(), side_, n, side_, w_.data() + a * side_ * side_, g_.data(), sums);
            sums += n * side_;
        }
        launch({.grid = grid_for(b * N, 256), .block = dim3(256), .stream = backend_.stream()}, join_digits_kernel,
               static_cast<const std::int32_t*>(sums_.data()), rows, b, N, side_, count_,
               static_cast<const std::uint32_t*>(g_magnitudes_.data()), back_.data());
    }

    CudaBackend& backend_;
    StatePlan plan_;
    Index side_;
    int count_;
    Buffer<std::uint32_t> w_magnitudes_, g_magnitudes_;  // of the rows of W, and of the sequences
    Buffer<std::int8_t> w_;                              // turned: [count, pre, post]
    Buffer<std::int8_t> g_;                              // [count, b, side]; b is rounded up here and in sums_
    Buffer<std::int32_t> sums_;                          // for each digit a of W: [count - a, b, side]
    Buffer<float> adjoint_;                              // [steps, b, N]
    Buffer<float> back_;                                 // [b, N]
    Buffer<double> squares_;                             // [b] of a step
    RecordedCalls<StateBackwardCall> calls_;
};

}  // namespace

std::unique_ptr<StateBackward> digits_backward(CudaBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<DigitsBackward>(backend, plan, memory);
}

}  // namespace spikefloss
