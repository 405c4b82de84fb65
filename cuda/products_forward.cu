// The forward pass of networks whose W_rec does not fit into shared memory: one product on the tensor cores and one
// kernel per step, recorded as a graph. The factors are int8 digits (digits.hpp) or bfloat16 parts (bf16_parts.hpp).
#include "bf16_parts.hpp"
#include "digits.cuh"
#include "kernel.cuh"
#include "passes.hpp"

#include "backend/buffer.hpp"
#include "backend/recorded_calls.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

struct StepArrays {
    NeuronModel model;
    NeuronVectors neurons;
    Index b, N;
    bool first;                  // no step, only the spikes of u
    const float *input, *i, *u;  // of this step
    float *i_next, *u_next;
    std::uint32_t* bits;  // of the next step, [b, words]
};

// The neuron step, and the new spikes as bits and as factors of the next product. One warp per word.
template <class Factors>
__global__ void neuron_step_to_spikes_kernel(const StepArrays a, const Factors factors) {
    const Index words = (a.N + 31) / 32, lane = threadIdx.x % warp_size;
    for (Index at = first_element() / warp_size; at < a.b * words; at += element_stride() / warp_size) {
        const Index s = at / words, j = at % words * 32 + lane, here = s * a.N + j;
        float u = 0.0f;
        if (j < a.N && !a.first) {
            const float total = (a.input[here] + factors.product(s, j)) + a.neurons.bias[j];
            const float current = next_current(a.neurons.alpha[j], a.i[here], total);
            u = next_membrane(a.model, a.neurons.beta[j], a.u[here], current);
            a.i_next[here] = current;
            a.u_next[here] = u;
        } else if (j < a.N) {
            u = a.u[here];
        }
        const bool fires = j < a.N && u > a.model.threshold;
        const std::uint32_t word = __ballot_sync(all_lanes, fires);
        if (lane == 0) a.bits[at] = word;
        if (j < a.N) factors.set_spike(s, j, fires);
    }
}

// The factors of W s, its product, and what the kernel does with them.
class Bf16Factors {
public:
    Bf16Factors(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          b_(plan.b),
          N_(plan.N),
          parts_(parts_of(backend.precision())),
          w_(memory, N_ * parts_ * N_),
          spikes_(memory, b_ * parts_ * N_),
          product_(memory, b_ * N_) {}

    struct InKernel {
        const float* w_s;       // [b, N]
        __nv_bfloat16* spikes;  // of the next step, [b, parts, N]
        Index N;
        int parts;
        __device__ float product(Index s, Index j) const { return w_s[s * N + j]; }
        __device__ void set_spike(Index s, Index j, bool fires) const {
            for (int part = 0; part < parts; ++part)
                spikes[(s * parts + part) * N + j] = __float2bfloat16_rn(fires ? 1.0f : 0.0f);
        }
    };
    InKernel in_kernel() { return {product_.data(), spikes_.data(), N_, parts_}; }

    void split(const float* w) {
        spikefloss::split(backend_.stream(), {w, N_, N_}, parts_, parts_ * N_, N_, w_.data());
    }
    // product [b, N] = spikes [b, parts N] w' [parts N, N]; row-major is column-major transposed.
    void multiply() {
        const Index wide = parts_ * N_;
        bf16_product(backend_.blas(), CUBLAS_OP_T, CUBLAS_OP_N, N_, b_, wide, w_.data(), wide, spikes_.data(), wide,
                     false, product_.data(), N_);
    }

private:
    CudaBackend& backend_;
    Index b_, N_;
    int parts_;
    Buffer<__nv_bfloat16> w_;       // [N, parts, N]
    Buffer<__nv_bfloat16> spikes_;  // [b, parts, N]
    Buffer<float> product_;         // [b, N]
};

class DigitFactors {
public:
    DigitFactors(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          b_(plan.b),
          N_(plan.N),
          side_(digit_stride(plan.N)),
          count_(digits_of(backend.precision())),
          magnitudes_(memory, N_),
          w_(memory, count_ * side_ * side_, Unset()),
          spikes_(memory, b_ * side_),
          sums_(memory, b_ * count_ * side_, Unset()) {}

    struct InKernel {
        const std::uint32_t* magnitudes;  // of the rows of W
        const std::int32_t* sums;         // [b, count, side]
        std::int8_t* spikes;              // of the next step, [b, side]
        Index side;
        int count;
        __device__ float product(Index s, Index j) const {
            long long sum = 0;
            for (int digit = 0; digit < count; ++digit) sum = 256 * sum + sums[(s * count + digit) * side + j];
            return scaled(static_cast<float>(sum), magnitudes[j], exponent_of(magnitudes[j]) - bits_of(count));
        }
        __device__ void set_spike(Index s, Index j, bool fires) const { spikes[s * side + j] = fires ? 1 : 0; }
    };
    InKernel in_kernel() { return {magnitudes_.data(), sums_.data(), spikes_.data(), side_, count_}; }

    void split(const float* w) {
        row_magnitudes(backend_.stream(), {w, N_, N_}, nullptr, magnitudes_.data());
        split_digits(backend_.stream(), {w, N_, N_}, {magnitudes_.data(), nullptr}, false, count_, w_.data());
    }
    void multiply() {
        digit_product(backend_.blas(), count_ * side_, b_, side_, w_.data(), spikes_.data(), sums_.data());
    }

private:
    CudaBackend& backend_;
    Index b_, N_, side_;
    int count_;
    Buffer<std::uint32_t> magnitudes_;
    Buffer<std::int8_t> w_;       // [count, side, side]
    Buffer<std::int8_t> spikes_;  // [b, side], 0 beyond N
    Buffer<std::int32_t> sums_;   // [b, count, side]
};

template <class Factors>
class ProductsForward final : public StateForward {
public:
    ProductsForward(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          input_(memory, plan.steps * plan.b * plan.N),
          factors_(backend, plan, memory),
          calls_(backend) {}

    void run(const StateForwardCall& call) override {
        project_inputs(backend_, plan_, call, input_.data());
        if (!backend_.counting()) calls_.run(call, [&] { take_steps(call); });
        project_readout(backend_, plan_, call, spikes_from(plan_, call.bits, 1));
    }

private:
    void take_steps(const StateForwardCall& call) {
        factors_.split(call.w_rec);
        take_step(call, 0);
        for (Index t = 1; t <= call.steps; ++t) {
            factors_.multiply();
            take_step(call, t);
        }
    }
    // The step to t, from the product; at t = 0 only the spikes of u[0].
    void take_step(const StateForwardCall& call, Index t) {
        const Index row = plan_.b * plan_.N, words = spike_words(plan_.N), before = t == 0 ? 0 : t - 1;
        const StepArrays arrays{call.model,
                                call.neurons,
                                plan_.b,
                                plan_.N,
                                t == 0,
                                input_.data() + before * row,
                                call.i + before * call.i_stride,
                                call.u + before * row,
                                call.i + t * call.i_stride,
                                call.u + t * row,
                                call.bits + t * plan_.b * words};
        launch({.grid = grid_for(plan_.b * words * warp_size, 256), .block = dim3(256), .stream = backend_.stream()},
               neuron_step_to_spikes_kernel<typename Factors::InKernel>, arrays, factors_.in_kernel());
    }

    CudaBackend& backend_;
    StatePlan plan_;
    Buffer<float> input_;  // [steps, b, N]
    Factors factors_;
    RecordedCalls<StateForwardCall> calls_;
};

}  // namespace

std::unique_ptr<StateForward> digits_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<ProductsForward<DigitFactors>>(backend, plan, memory);
}
std::unique_ptr<StateForward> products_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<ProductsForward<Bf16Factors>>(backend, plan, memory);
}

}  // namespace spikefloss
