// Readout filter and losses of the CPU backend.
#include "backend/cpu_backend.hpp"

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace spikefloss {
namespace {

// Whether the maximum moves from `best` to `y`; once it is not a number it stays so.
bool is_larger(double y, double best) { return !(y <= best) && best == best; }

// Calls work(begin, end) for a part of [0, count) on each thread.
template <class Work>
void for_parts(int threads, Index count, Work&& work) {
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int part = 0; part < threads; ++part) work(count * part / threads, count * (part + 1) / threads);
}

// A logarithm and an exponential function take as long as this many products.
constexpr Index transcendental = 16;

}  // namespace

void CpuBackend::readout_filter(Index T, Index b, Index O, const float* kappa, const float* bias, const float* z,
                                float* y) {
    for_parts(threads_for(T * b * O), b, [&](Index first, Index end) {
        for (Index t = 0; t < T; ++t)
            for (Index s = first; s < end; ++s)
                for (Index o = 0; o < O; ++o) {
                    const Index here = (t * b + s) * O + o;
                    const float before = t > 0 ? y[here - b * O] : 0.0f;
                    y[here] = fmaf(kappa[o], before, (1.0f - kappa[o]) * (z[here] + bias[o]));
                }
    });
}

void CpuBackend::readout_filter_backward(Index T, Index b, Index O, const float* kappa, const float* y, const float* dy,
                                         float* dz, SumMatrix d_kappa) {
    const Index row = b * O;
    double* const d_kappas = scratch<double>(row + (3 * row + 1) / 2);  // of every sequence
    if (counting()) return;
    float *const dr = reinterpret_cast<float*>(d_kappas + row), *kappas = dr + row, *nothing = kappas + row;
    std::fill_n(d_kappas, row, 0.0);
    std::fill_n(dr, row, 0.0f);
    std::fill_n(nothing, row, 0.0f);
    for (Index s = 0; s < b; ++s) std::copy_n(kappa, O, kappas + s * O);
    for_parts(threads_for(T * row), row, [&](Index first, Index end) {
        for (Index t = T; t-- > 0;) {
            const float *y_now = y + t * row, *y_before = t > 0 ? y_now - row : nothing, *dy_now = dy + t * row;
            float* dz_now = dz + t * row;
#pragma omp simd
            for (Index i = first; i < end; ++i) {
                const float input = (y_now[i] - kappas[i] * y_before[i]) / (1.0f - kappas[i]);  // z[t] + bias
                dr[i] = fmaf(kappas[i], dr[i], dy_now[i]);
                d_kappas[i] += static_cast<double>(dr[i]) * (y_before[i] - input);
                dz_now[i] = (1.0f - kappas[i]) * dr[i];
            }
        }
    });
    for (Index i = 0; i < row; ++i) {
        if (d_kappa.type == Scalar::float32)
            static_cast<float*>(d_kappa.data)[i % O] += static_cast<float>(d_kappas[i]);
        else
            static_cast<double*>(d_kappa.data)[i % O] += d_kappas[i];
    }
}

void CpuBackend::element_loss(LossKind kind, Index T, Index b, Index O, const float* y, const float* target,
                              const float* mask, float weight, float* dy, double* result) {
    // Of each row: its loss and the number of correct answers.
    double *const losses = scratch<double>(2 * T * b), *const corrects = losses + T * b;
    if (counting()) return;
    const auto add_row = [&](Index row) {
        double loss = 0.0, correct = 0.0;
        for (Index i = row * O; i < (row + 1) * O; ++i) {
            if (mask[row] == 0.0f) {
                dy[i] = 0.0f;
                continue;
            }
            if (kind == LossKind::mean_squared_error) {
                const double error = static_cast<double>(y[i]) - target[i];
                loss += error * error;
                dy[i] = weight * static_cast<float>(2.0 * error);
                continue;
            }
            // log(1 + exp(-|y|)) + max(y, 0) - y target: no overflow for any logit.
            const double logit = y[i], q = std::exp(-std::fabs(logit));
            loss += std::log1p(q) + std::max(logit, 0.0) - logit * target[i];
            correct += (y[i] > 0.0f) == (target[i] > 0.5f);
            const double sigmoid = logit >= 0.0 ? 1.0 / (1.0 + q) : q / (1.0 + q);
            dy[i] = weight * static_cast<float>(sigmoid - target[i]);
        }
        losses[row] = loss;
        corrects[row] = correct;
    };
    const Index cost = kind == LossKind::mean_squared_error ? 1 : transcendental;
    for_parts(threads_for(cost * T * b * O), T * b, [&](Index first, Index end) {
        for (Index row = first; row < end; ++row) add_row(row);
    });
    result[0] = std::accumulate(losses, corrects, 0.0);
    result[1] = std::accumulate(corrects, corrects + T * b, 0.0);
}

void CpuBackend::softmax_cross_entropy(LossKind kind, Index T, Index b, Index O, const float* y,
                                       const std::int32_t* label, const float* mask, float weight, float* dy,
                                       std::int32_t* named, double* result) {
    // A logit is a sum of y over the steps with mask 1, divided by `steps`, or the y of one chosen row.
    static_assert(sizeof(Index) == sizeof(double));
    const int threads = threads_for(T * b * O);
    double *const losses = scratch<double>(b + threads * 2 * O), *const of_threads = losses + b;
    if (counting()) return;
    const bool sums = kind == LossKind::cross_entropy_mean || kind == LossKind::cross_entropy_sum;
    const auto take = [&](Index s, double* logit, Index* chosen) {
        std::fill_n(logit, O, 0.0);
        double steps = 0.0;
        for (Index row = s; row < T * b; row += b) {
            if (!sums && mask[row] == 0.0f) continue;
            for (Index o = 0; o < O; ++o) {
                double& best = logit[o];
                const float here = y[row * O + o];
                if (sums) {
                    best += mask[row] * here;
                } else if (steps == 0.0 || kind == LossKind::cross_entropy_last || is_larger(here, best)) {
                    best = here;
                    chosen[o] = row;
                }
            }
            steps += mask[row];
        }
        if (kind == LossKind::cross_entropy_sum) steps = 1.0;
        for (Index o = 0; sums && o < O; ++o) logit[o] /= steps;
        const double* const largest = std::max_element(logit, logit + O);
        double sum = 0.0;
        for (Index o = 0; o < O; ++o) sum += std::exp(logit[o] - *largest);
        const double log_sum = *largest + std::log(sum);
        losses[s] = log_sum - logit[label[s]];
        named[s] = static_cast<std::int32_t>(largest - logit);
        double* const share = logit;
        for (Index o = 0; o < O; ++o) share[o] = std::exp(logit[o] - log_sum) - (o == label[s] ? 1.0 : 0.0);
        for (Index row = s; row < T * b; row += b)
            for (Index o = 0; o < O; ++o) {
                const double part = sums ? share[o] * mask[row] / steps : (row == chosen[o] ? share[o] : 0.0);
                dy[row * O + o] = weight * static_cast<float>(part);
            }
    };
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (Index s = 0; s < b; ++s) {
        double* const logit = of_threads + omp_get_thread_num() * 2 * O;
        take(s, logit, reinterpret_cast<Index*>(logit + O));
    }
    result[0] = result[1] = 0.0;
    for (Index s = 0; s < b; ++s) {
        result[0] += losses[s];
        result[1] += named[s] == label[s];
    }
}

}  // namespace spikefloss
