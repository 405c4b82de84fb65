// Propagation of tangents and its adjoint on the CPU backend. A tangent is a row of n neurons; only the factors psi,
// psi' and c depend on its sequence.
#include "backend/cpu_neuron_block.hpp"
#include "backend/cpu_state_pass.hpp"

#include <algorithm>

namespace spikefloss {
namespace {

// The model whose reset factor is the c of the tangent map. That is all the map needs of the reset.
NeuronModel tangent_model(const NeuronModel& model, JacobianReset reset) {
    NeuronModel of_map = model;
    if (reset == JacobianReset::ignored || model.reset == Reset::subtract) of_map.reset = Reset::none;
    return of_map;
}

// A row of a basis. A part that the basis lacks must not be read.
template <class T>
struct BasisRow {
    T *i, *u, *w;
    BasisRow(const BasisShape& shape, T* basis, Index row)
        : i(basis + row * shape.D()), u(i + shape.membrane()), w(i + shape.adaptation_part()) {}
};

// The tangent of v = u - A.
template <Adaptation adaptation>
float tangent_of_v(const BasisRow<const float>& q, Index j) {
    if constexpr (adaptation == Adaptation::threshold) return q.u[j] - q.w[j];
    return q.u[j];
}

}  // namespace

void CpuBackend::tangent_input(const NeuronModel& model, const NeuronVectors& neurons, const BasisShape& shape,
                               const NeuronState& state, const float* q, float* x) {
    const Index n = shape.n, k = shape.k;
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
        for_blocks(model, neurons, state, shape.b, n, threads_for(shape.rows() * n), [&](const auto& block, Index s) {
            float psi[block_size];
#pragma omp simd
            for (Index j = block.begin; j < block.end; ++j)
                psi[j - block.begin] = block[j].m * S::psi(block[j].v, model.sharpness);
            for (Index row = s * k; row < (s + 1) * k; ++row) {
                const BasisRow<const float> before(shape, q, row);
#pragma omp simd
                for (Index j = block.begin; j < block.end; ++j)
                    x[row * n + j] = psi[j - block.begin] * tangent_of_v<block.adaptation>(before, j);
            }
        });
    });
}

void CpuBackend::tangent_step(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                              const BasisShape& shape, const NeuronState& state, const float* x, const float* wx,
                              const float* q, float* p) {
    const Index n = shape.n, k = shape.k;
    const NeuronModel of_map = tangent_model(model, reset);
    for_blocks(model, neurons, state, shape.b, n, threads_for(shape.rows() * n), [&](const auto& block, Index s) {
        for (Index row = s * k; row < (s + 1) * k; ++row) {
            const BasisRow<const float> before(shape, q, row);
            const BasisRow<float> to(shape, p, row);
            // Two loops, because a loop with a branch on the current is not vectorised. If the state has no current, wx
            // takes its place.
            const float* current = wx + row * n;
            if (shape.current) {
#pragma omp simd
                for (Index j = block.begin; j < block.end; ++j)
                    to.i[j] = next_current(neurons.alpha[j], before.i[j], current[j]);
                current = to.i;
            }
            with_constants(of_map, block, [&](auto constant) {
                const NeuronModel m = constant;
#pragma omp simd
                for (Index j = block.begin; j < block.end; ++j) {
                    const float c = reset_factor(m.reset, block[j].s), q_u = before.u[j];
                    float h = current[j];
                    if constexpr (constant.adaptation != Adaptation::none) {
                        const float w = next_adaptation(neurons.rho[j], before.w[j], neurons.adapt_membrane[j], c * q_u,
                                                        neurons.adapt_spike[j], x[row * n + j]);
                        h = adapted_current(m.adaptation, h, w);
                        to.w[j] = w;
                    }
                    to.u[j] = tangent_membrane(m.reset_delay, c, neurons.beta[j], q_u, h);
                }
            });
        }
    });
}

void CpuBackend::tangent_step_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                       const BasisShape& shape, const NeuronState& state, const float* q,
                                       const float* x, const float* wx, float* a, float* g, const ConstantSums& sums) {
    const Index n = shape.n, k = shape.k;
    const NeuronModel of_map = tangent_model(model, reset);
    for_blocks(model, neurons, state, shape.b, n, threads_for(shape.rows() * n), [&](const auto& block, Index s) {
        for (Index row = s * k; row < (s + 1) * k; ++row) {
            const BasisRow<float> adjoint(shape, a, row);
            with_constants(of_map, block, [&](auto constant) {
                const NeuronModel m = constant;
#pragma omp simd
                for (Index j = block.begin; j < block.end; ++j) {
                    float dw = 0.0f;
                    if constexpr (constant.adaptation != Adaptation::none) dw = adjoint.w[j];
                    const StepAdjoint step = step_adjoint(m, reset_factor(m.reset, block[j].s), neurons.beta[j],
                                                          shape.current ? adjoint.i[j] : 0.0f, adjoint.u[j], dw);
                    adjoint.u[j] = step.dk;
                    g[row * n + j] = step.g;
                    if constexpr (constant.adaptation == Adaptation::current) adjoint.w[j] = step.gw;
                }
            });
        }
    });
    // sum[j] += term(block, Q, A, row, j), a product of two floats, rows in order.
    const auto add = [&](const SumMatrix& sum, auto&& term) {
        const auto add_to = [&](auto* to) {
            using T = std::remove_pointer_t<decltype(to)>;
            for_blocks(model, neurons, state, shape.b, n, 1, [&](const auto& block, Index s) {
                for (Index row = s * k; row < (s + 1) * k; ++row) {
                    const BasisRow<const float> before(shape, q, row), adjoint(shape, a, row);
#pragma omp simd
                    for (Index j = block.begin; j < block.end; ++j) {
                        const auto [left, right] = term(block, before, adjoint, row, j);
                        to[j] += static_cast<T>(left) * right;
                    }
                }
            });
        };
        if (!sum.data) return;
        if (sum.type == Scalar::float32)
            add_to(static_cast<float*>(sum.data));
        else
            add_to(static_cast<double*>(sum.data));
    };
    using Row = BasisRow<const float>;
    using Term = std::pair<float, float>;
    // The tangent of R(u). A loop over a function that is not inlined is not vectorised.
    const auto reset_u = [&](const auto& block, const Row& before, Index j) __attribute__((always_inline)) {
        return reset_factor(of_map.reset, block[j].s) * before.u[j];
    };
    add(sums.alpha, [&](const auto&, const Row& before, const Row&, Index row, Index j) {
        return Term(g[row * n + j], shape.current ? before.i[j] : 0.0f);
    });
    add(
        sums.beta, [&](const auto& block, const Row& before, const Row& adjoint, Index row,
                       Index j) __attribute__((always_inline)) {
            float h = next_current(neurons.alpha[j], shape.current ? before.i[j] : 0.0f, wx[row * n + j]);
            if constexpr (block.adaptation == Adaptation::current)
                h -= next_adaptation(neurons.rho[j], before.w[j], neurons.adapt_membrane[j], reset_u(block, before, j),
                                     neurons.adapt_spike[j], x[row * n + j]);
            const float c = reset_factor(of_map.reset, block[j].s);
            return Term(adjoint.u[j], factor_before(of_map.reset_delay, c) * before.u[j] - h);
        });
    add(sums.rho, [&](const auto&, const Row& before, const Row& adjoint, Index, Index j) {
        return Term(adjoint.w[j], before.w[j]);
    });
    add(sums.adapt_membrane, [&](const auto& block, const Row& before, const Row& adjoint, Index, Index j) {
        return Term(adjoint.w[j], reset_u(block, before, j));
    });
    add(sums.adapt_spike, [&](const auto&, const Row&, const Row& adjoint, Index row, Index j) {
        return Term(adjoint.w[j], x[row * n + j]);
    });
}

void CpuBackend::tangent_input_backward(const NeuronModel& model, JacobianReset reset, const NeuronVectors& neurons,
                                        const BasisShape& shape, const NeuronState& state, const float* q,
                                        const float* back, const float* g, float* a, float* e) {
    const Index n = shape.n, k = shape.k;
    const NeuronModel of_map = tangent_model(model, reset);
    with_surrogate(model.surrogate, [&](auto surrogate) {
        using S = decltype(surrogate);
        for_blocks(model, neurons, state, shape.b, n, threads_for(shape.rows() * n), [&](const auto& block, Index s) {
            const Index begin = block.begin, size = block.end - begin;
            float psi[block_size], factors[block_size], decay[block_size], sum[block_size];
#pragma omp simd
            for (Index l = 0; l < size; ++l) {
                const Firing at = block[begin + l];
                psi[l] = at.m * S::psi(at.v, model.sharpness);
                factors[l] = reset_factor(of_map.reset, at.s);
                decay[l] = neurons.beta[begin + l] * factor_before(of_map.reset_delay, factors[l]);
                sum[l] = 0.0f;
            }
            for (Index row = s * k; row < (s + 1) * k; ++row) {
                const BasisRow<const float> before(shape, q, row);
                const BasisRow<float> adjoint(shape, a, row);
#pragma omp simd
                for (Index l = 0; l < size; ++l) {
                    const Index j = begin + l;
                    float y = back[row * n + j], gw = 0.0f;
                    if constexpr (block.adaptation != Adaptation::none) {
                        gw = adjoint.w[j];
                        y = fmaf(neurons.adapt_spike[j], gw, y);
                    }
                    sum[l] = fmaf(y, tangent_of_v<block.adaptation>(before, j), sum[l]);
                    float through = psi[l] * y;
                    if constexpr (block.adaptation != Adaptation::none) {
                        adjoint.w[j] = block.adaptation == Adaptation::threshold ? fmaf(neurons.rho[j], gw, -through)
                                                                                 : neurons.rho[j] * gw;
                        through = fmaf(neurons.adapt_membrane[j], factors[l] * gw, through);
                    }
                    adjoint.u[j] = fmaf(decay[l], adjoint.u[j], through);
                }
                if (!shape.current) continue;  // a branch inside the loop would prevent its vectorisation
#pragma omp simd
                for (Index j = begin; j < block.end; ++j) adjoint.i[j] = neurons.alpha[j] * g[row * n + j];
            }
#pragma omp simd
            for (Index l = 0; l < size; ++l) {
                const Firing at = block[begin + l];
                float& sum_e = e[s * n + begin + l];
                sum_e = fmaf(at.m * S::derivative(at.v, model.sharpness), sum[l], sum_e);
            }
        });
    });
}

}  // namespace spikefloss
