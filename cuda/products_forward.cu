// The forward pass of networks whose W_rec does not fit into shared memory: one bfloat16 product (bf16_parts.hpp) and
// one kernel per step, recorded as a graph.
#include "bf16_parts.hpp"
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
    const float *input, *product, *i, *u;  // of this step; product null: no step, only the spikes of u
    float *i_next, *u_next;
    std::uint32_t* bits;    // of the next step, [b, words]
    __nv_bfloat16* spikes;  // of the next step, [b, parts, N]
    int parts;
};

// The neuron step, and the new spikes as bits and as bfloat16. One warp per word.
__global__ void neuron_step_to_spikes_kernel(const StepArrays a) {
    const Index words = (a.N + 31) / 32, lane = threadIdx.x % warp_size;
    for (Index at = first_element() / warp_size; at < a.b * words; at += element_stride() / warp_size) {
        const Index s = at / words, j = at % words * 32 + lane, here = s * a.N + j;
        float u = 0.0f;
        if (j < a.N && a.product) {
            const float total = (a.input[here] + a.product[here]) + a.neurons.bias[j];
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
        if (j < a.N)
            for (int part = 0; part < a.parts; ++part)
                a.spikes[(s * a.parts + part) * a.N + j] = __float2bfloat16_rn(fires ? 1.0f : 0.0f);
    }
}

Launch elements(Index count, cudaStream_t stream) {
    return {.grid = grid_for(count, 256), .block = dim3(256), .stream = stream};
}

class ProductsForward final : public StateForward {
public:
    ProductsForward(CudaBackend& backend, const StatePlan& plan, Memory& memory)
        : backend_(backend),
          plan_(plan),
          parts_(parts_of(backend.precision())),
          input_(memory, plan.steps * plan.b * plan.N),
          w_(memory, plan.N * parts_ * plan.N),
          spikes_(memory, plan.b * parts_ * plan.N),
          product_(memory, plan.b * plan.N),
          calls_(backend) {}

    void run(const StateForwardCall& call) override {
        project_inputs(backend_, plan_, call, input_.data());
        if (!backend_.counting()) calls_.run(call, [&] { take_steps(call); });
        project_readout(backend_, plan_, call, spikes_from(plan_, call.bits, 1));
    }

private:
    void take_steps(const StateForwardCall& call) {
        const Index N = plan_.N, wide = parts_ * N;
        split(backend_.stream(), {call.w_rec, N, N}, parts_, wide, N, w_.data());
        take_step(call, 0);
        for (Index t = 1; t <= call.steps; ++t) {
            // product [b, N] = spikes [b, parts N] w' [parts N, N]; row-major is column-major transposed.
            bf16_product(backend_.blas(), CUBLAS_OP_T, CUBLAS_OP_N, N, plan_.b, wide, w_.data(), wide, spikes_.data(),
                         wide, false, product_.data(), N);
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
                                input_.data() + before * row,
                                t == 0 ? nullptr : product_.data(),
                                call.i + before * call.i_stride,
                                call.u + before * row,
                                call.i + t * call.i_stride,
                                call.u + t * row,
                                call.bits + t * plan_.b * words,
                                spikes_.data(),
                                parts_};
        launch(elements(plan_.b * words * warp_size, backend_.stream()), neuron_step_to_spikes_kernel, arrays);
    }

    CudaBackend& backend_;
    StatePlan plan_;
    int parts_;
    Buffer<float> input_;           // [steps, b, N]
    Buffer<__nv_bfloat16> w_;       // [N, parts, N]
    Buffer<__nv_bfloat16> spikes_;  // [b, parts, N]
    Buffer<float> product_;         // [b, N]
    RecordedCalls<StateForwardCall> calls_;
};

}  // namespace

std::unique_ptr<StateForward> products_forward(CudaBackend& backend, const StatePlan& plan, Memory& memory) {
    return std::make_unique<ProductsForward>(backend, plan, memory);
}

}  // namespace spikefloss
