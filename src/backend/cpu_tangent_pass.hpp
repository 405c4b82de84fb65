// For the whole tangent passes, forwards and backwards: scratch and the factors of one step. Bases are kept in
// scratch as k rows [current | membrane], each part padded to a multiple of 16 floats with zeros that stay zero.
#pragma once

#include "backend/arena.hpp"
#include "backend/buffer.hpp"
#include "backend/cpu_backend.hpp"
#include "backend/cpu_basis.hpp"
#include "backend/cpu_product.hpp"
#include "backend/cpu_team.hpp"
#include "backend/tangent_passes.hpp"

#include <algorithm>

namespace spikefloss {

struct PaddedBasis {
    Index k, N, width, D, stride;  // width: padded N; D: 2 width, or width without a current; stride of rows

    explicit PaddedBasis(const BasisShape& shape)
        : k(shape.k), N(shape.n), width(padded(N)), D(shape.current ? 2 * width : width), stride(D + tile) {}
    bool current() const { return D > width; }
    Index size() const { return padded_k(k) * stride; }
    Index membrane() const { return D - width; }            // where the membrane part of a row begins
    Index floats() const { return current() ? 2 * N : N; }  // of a row in backend memory
};

// Threads for b sequences, or parts of them, that take `steps` steps together. Several threads share a sequence only if
// its products are long enough. A thread then reads lines of the basis that others wrote; per float this costs about as
// much as 100 multiply-adds. On a busy machine threads that share little work wait for each other for most of the time.
inline int tangent_threads(const PaddedBasis& shape, int threads, Index b, Index steps) {
    constexpr Index least_products =
        600;  // multiply-adds with an element of the basis in a step, half of them by another thread
    constexpr Index least_work = 1 << 18;  // multiply-adds of a thread
    const bool shared = shape.N + 2 * shape.k > least_products;
    const Index work = steps * shape.k * shape.N * (shape.N + shape.k);
    const Index most = std::min<Index>(work / least_work, threads);
    return static_cast<int>(std::max<Index>(1, shared ? most : std::min(b, most)));
}

// The factors of the tangent map at one step, for the neurons of one sequence, padded with zeros.
struct StepFactors {
    float *psi, *reset, *alpha, *decay, *leak;  // [width]: f; beta q; 1 - beta
    const float* beta;

    StepFactors(Arena& arena, const PaddedBasis& shape, const NeuronVectors& neurons)
        : psi(arena.take<float>(shape.width)),
          reset(arena.take<float>(shape.width)),
          alpha(arena.take<float>(shape.width)),
          decay(arena.take<float>(shape.width)),
          leak(arena.take<float>(shape.width)),
          beta(neurons.beta) {
        for (float* factor : {psi, reset, alpha, decay, leak}) std::fill_n(factor, shape.width, 0.0f);
        std::copy_n(neurons.alpha, shape.N, alpha);
        std::copy_n(beta, shape.N, decay);
        for (Index j = 0; j < shape.N; ++j) leak[j] = 1.0f - beta[j];
    }
    static Index floats(const PaddedBasis& shape) { return 5 * (shape.width + tile); }

    void set(const NeuronModel& model, JacobianReset jacobian_reset, Index N, const float* u) {
        with_surrogate(model.surrogate, [&](auto surrogate) {
            using S = decltype(surrogate);
#pragma omp simd
            for (Index j = 0; j < N; ++j) psi[j] = S::psi(u[j] - model.threshold, model.sharpness);
        });
        const Reset kind = jacobian_reset == JacobianReset::detached ? model.reset : Reset::none;
        const auto c = [&](Index j) { return reset_factor(kind, spike(u[j], model.threshold)); };
#pragma omp simd
        for (Index j = 0; j < N; ++j) reset[j] = factor_after(model.reset_delay, c(j));
        if (model.reset_delay == 0)
            for (Index j = 0; j < N; ++j) decay[j] = beta[j] * factor_before(model.reset_delay, c(j));
    }
};

// Copies of rows of one sequence's basis between backend memory, [k, D], and scratch.
inline void load_rows(const PaddedBasis& shape, Member::Range rows, const float* from, float* to) {
    for (Index row = rows.begin; row < rows.end; ++row) {
        const float* const parts = from + row * shape.floats();
        if (shape.current()) std::copy_n(parts, shape.N, to + row * shape.stride);
        std::copy_n(parts + shape.floats() - shape.N, shape.N, to + row * shape.stride + shape.membrane());
    }
}
inline void store_rows(const PaddedBasis& shape, Member::Range rows, const float* from, float* to) {
    for (Index row = rows.begin; row < rows.end; ++row) {
        float* const parts = to + row * shape.floats();
        if (shape.current()) std::copy_n(from + row * shape.stride, shape.N, parts);
        std::copy_n(from + row * shape.stride + shape.membrane(), shape.N, parts + shape.floats() - shape.N);
    }
}

// Each sequence by one thread, or by a team of threads.
class CpuTangentForward final : public TangentForward {
public:
    CpuTangentForward(CpuBackend& backend, const TangentPlan& plan, Memory& memory);
    void run(const TangentForwardCall& call) override;

private:
    CpuBackend& backend_;
    PaddedBasis shape_;
    Index b_;
    Buffer<double> scratch_;
};

class CpuTangentBackward final : public TangentBackward {
public:
    CpuTangentBackward(CpuBackend& backend, const TangentPlan& plan, Memory& memory);
    void run(const TangentBackwardCall& call) override;

private:
    CpuBackend& backend_;
    PaddedBasis shape_;
    Index b_;
    Buffer<double> scratch_;
};

}  // namespace spikefloss
